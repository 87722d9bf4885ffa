//! A test in a process of its own.
//!
//! The test runs its own binary again, for this test alone, and the body runs there. A body that kills helpers, sets
//! limits, leaks or counts leaks then affects no other test.
#![allow(unsafe_code, reason = "setrlimit before exec, kill of a process group")]

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::send_signal;
use crate::proc;
use crate::watchdog::{Watchdog, watchdog};

/// Set in the inner run, to the name of its only test.
const INNER: &str = "TESTKIT_ISOLATED";

/// How much longer the outer run waits for the inner run than the inner run's watchdog does.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the body of a test in a process of its own. See the [module](mod@crate::isolated).
///
/// ```no_run
/// # use procession_testkit::isolated;
/// // With `#[test]`.
/// fn few_descriptors_are_enough() {
///     isolated!(limits = [(libc::RLIMIT_NOFILE, 64)], env = [("K", "V")], {
///         // panics make the test fail, with all that was printed
///     });
/// }
/// ```
///
/// Options: `limits` (`setrlimit`, both values), `env`, and `time` (a `Duration`, 100 s by default). A watchdog reports
/// what every thread does if the body takes longer than `time`.
#[macro_export]
macro_rules! isolated {
    ($($option:ident = $value:expr,)* $body:block) => {{
        fn here() {}
        let isolation = $crate::isolated::Isolation::of(&here);
        if isolation.is_inner() {
            let _dog = isolation.watch();
            $body
        } else {
            isolation$(.$option($value))*.run();
        }
    }};
}

/// The options of the inner run. Used by [`isolated!`](crate::isolated!).
pub struct Isolation {
    test: String,
    time: Duration,
    env: Vec<(String, String)>,
    limits: Vec<(libc::__rlimit_resource_t, u64)>,
}

impl Isolation {
    /// Returns the isolation of the test that runs on this thread. `here` is a function inside the test.
    pub fn of<F>(here: &F) -> Isolation {
        let by_thread = thread::current().name().filter(|&name| name != "main").map(str::to_owned);
        let test = by_thread.unwrap_or_else(|| outer_function(std::any::type_name_of_val(here)));
        Isolation { test, time: Duration::from_secs(100), env: Vec::new(), limits: Vec::new() }
    }

    /// Reports whether this is the inner run.
    pub fn is_inner(&self) -> bool {
        std::env::var(INNER).is_ok_and(|test| test == self.test)
    }

    /// Sets limits of the inner run, soft and hard.
    pub fn limits(mut self, limits: impl IntoIterator<Item = (libc::__rlimit_resource_t, u64)>) -> Self {
        self.limits.extend(limits);
        self
    }

    /// Sets environment variables of the inner run.
    pub fn env<K: Into<String>, V: Into<String>>(mut self, env: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(env.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Sets how long the body may take.
    pub fn time(mut self, limit: Duration) -> Self {
        self.time = limit;
        self
    }

    /// Starts the watchdog of the inner run.
    pub fn watch(&self) -> Watchdog {
        watchdog(self.time)
    }

    /// Executes the inner run.
    ///
    /// # Panics
    /// Unless exactly this test ran, and passed in time. The output of the inner run is printed first.
    pub fn run(self) {
        let mut output = memory_file();
        let directory = PrivateDirectory::new();
        let mut inner = self.command(&output, &directory.0).spawn().expect("the test's binary runs again");
        let status = self.await_end(&mut inner);
        let mut bytes = Vec::new();
        output.rewind().and_then(|()| output.read_to_end(&mut bytes)).expect("the output can be read");
        let text = String::from_utf8_lossy(&bytes);
        let passed = status == Some(0) && text.contains("test result: ok. 1 passed; 0 failed; 0 ignored");
        if !passed {
            print!("{text}");
            let end = status.map_or(format!("was not done after {:?}", self.time), crate::child::describe);
            panic!("the isolated run of `{}` did not pass: it {end}", self.test);
        }
    }

    fn command(&self, output: &File, directory: &PathBuf) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the test's binary has a path"));
        let flags = ["--exact", "--nocapture", "--test-threads=1", "--color=never"];
        command.arg(&self.test).args(flags).env("TMPDIR", directory).env(INNER, &self.test);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        let copy = || output.try_clone().expect("one more descriptor");
        command.stdin(Stdio::null()).stdout(copy()).stderr(copy()).process_group(0);
        let limits = self.limits.clone();
        // SAFETY: runs between fork and exec: system calls only, nothing is allocated.
        unsafe { command.pre_exec(move || restrict(&limits)) };
        hears_the_keyboard(&mut command);
        command
    }

    /// Returns the wait status, or `None` if the run took too long. In both cases its process group is dead afterwards.
    fn await_end(&self, inner: &mut Child) -> Option<i32> {
        let pid = inner.id() as i32;
        let start = Instant::now();
        // A zombie keeps its process id, so the group that is killed below is the right one.
        while !proc::gone(pid) && start.elapsed() < self.time + GRACE {
            thread::sleep(Duration::from_millis(1));
        }
        let in_time = proc::gone(pid);
        if !in_time {
            proc::kill_descendants(pid);
        }
        send_signal(-pid, libc::SIGKILL);
        let status = inner.wait().expect("the inner run can be waited for");
        in_time.then(|| std::os::unix::process::ExitStatusExt::into_raw(status))
    }
}

/// Makes a command start with default dispositions and no blocked signals, like a command that is typed in a
/// terminal. The process that runs the tests may ignore signals, for example under `nohup`, in a background
/// script, or on a CI runner.
pub fn hears_the_keyboard(command: &mut Command) -> &mut Command {
    // SAFETY: runs between fork and exec: system calls only.
    unsafe {
        command.pre_exec(|| {
            // SIGPIPE is left out, because Rust sets its own default for it.
            (1..=64).filter(|&signal| signal != libc::SIGPIPE).for_each(|signal| {
                libc::signal(signal, libc::SIG_DFL);
            });
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        })
    }
}

/// Turns `crate::module::test::here` into libtest's name of the test: `module::test`.
fn outer_function(here: &str) -> String {
    let parts = here.split("::").skip(1);
    let named: Vec<&str> = parts.filter(|&part| part != "here" && part != "{{closure}}").collect();
    named.join("::")
}

fn restrict(limits: &[(libc::__rlimit_resource_t, u64)]) -> io::Result<()> {
    // SAFETY: system calls; the pointer is to a local.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for &(resource, value) in limits {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            if libc::setrlimit(resource, &limit) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// A file in memory. Unlike a pipe, it takes any output without a reader.
fn memory_file() -> File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
    // SAFETY: just created, and owned by no other value.
    unsafe { File::from_raw_fd(fd) }
}

/// A directory that is removed with its content when dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> PrivateDirectory {
        let template = std::env::temp_dir().join("testkit-XXXXXX").into_os_string();
        let name = std::ffi::CString::new(template.into_encoded_bytes()).expect("no zero byte in a path");
        let name = name.into_raw();
        // SAFETY: a C string that this function owns. `mkdtemp` changes it in place and keeps its length.
        let (made, name) = unsafe { (!libc::mkdtemp(name).is_null(), std::ffi::CString::from_raw(name)) };
        assert!(made, "mkdtemp: {}", io::Error::last_os_error());
        PrivateDirectory(name.into_string().expect("the path is text").into())
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
