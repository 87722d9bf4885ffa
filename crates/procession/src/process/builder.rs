//! [`Builder`]: the name and the options of a new process.

use std::ffi::OsStr;
use std::path::Path;

use super::interrupts::Interrupts;
use super::settings::{Settings, StartMethod};
use super::stdio::Stdio;

/// The name and the options of a new process, returned by [`Process::builder`](super::Process::builder).
///
/// The options are applied in the new process before its function runs, and `spawn` waits until they are
/// applied. If an option cannot be applied, `spawn` returns an error, and the function never runs. The
/// options apply only to the new process. If the new process spawns others, these get main's settings, unless
/// their own builders change them.
///
/// | here | `std::process::Command` | Python |
/// |---|---|---|
/// | [`env`](Builder::env), [`env_remove`](Builder::env_remove), [`env_clear`](Builder::env_clear) | the same | — |
/// | [`current_dir`](Builder::current_dir) | the same | — |
/// | [`stdin`](Builder::stdin), [`stdout`](Builder::stdout), [`stderr`](Builder::stderr) | the same | — |
/// | [`process_group`](Builder::process_group) | the same | — |
/// | [`memory_limit`](Builder::memory_limit), [`cpu_affinity`](Builder::cpu_affinity), [`nice`](Builder::nice) | — | — |
/// | [`interrupts`](Builder::interrupts) | — | — |
/// | [`start_method`](Builder::start_method) | always executes a program | the same |
/// | [`daemon`](Builder::daemon), [`name`](Builder::name) | — | the same |
///
/// ```
/// use procession::Process;
///
/// let buyer = Process::builder().name("buyer").spawn(|n: u32| n + 1, (1,))?;
/// assert_eq!(buyer.name(), "buyer");
/// assert_eq!(buyer.join()?, 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(super) name: Option<String>,
    pub(super) daemon: bool,
    pub(super) interrupts: Interrupts,
    /// Boxed, and `None` if no option is set, because spawning without options is the fast path.
    pub(super) settings: Option<Box<Settings>>,
}

impl Builder {
    /// Names the process, with at most 95 bytes. Errors and `Debug` show the name, and `ps` shows its first
    /// 15 bytes. By default, the name is that of the function. For a closure, it is the place where the
    /// closure is spawned, such as `closure@main.rs:12` (`main.rs:12` in `ps`).
    ///
    /// ```
    /// use procession::Process;
    /// let own_name = || procession::current_process().map(|me| me.name());
    /// let p = Process::builder().name("buyer").spawn(own_name, ())?;
    /// assert_eq!(p.join()??, "buyer");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Makes the process a daemon. A daemon does not keep the family alive. When main ends, it waits for all
    /// processes except daemons. Daemons get SIGTERM, and SIGKILL a second later.
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().daemon(true).spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// // main can end
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn daemon(mut self, yes: bool) -> Builder {
        self.daemon = yes;
        self
    }

    /// Sets whether Ctrl-C reaches the process. The default is [`Interrupts::Shared`]: SIGINT ends the process.
    /// With [`Interrupts::MainOnly`], the process ignores SIGINT, also that of
    /// [`interrupt`](super::Process::interrupt). The front page has a section about [Ctrl-C](crate#ctrl-c).
    ///
    /// ```
    /// use procession::{Process, process::Interrupts};
    /// let p = Process::builder().interrupts(Interrupts::MainOnly).spawn(|| procession::current_process()?.interrupt(), ())?;
    /// p.join()??; // its own SIGINT did not end it
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupts(mut self, interrupts: Interrupts) -> Builder {
        self.interrupts = interrupts;
        self
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Builder {
        change(self.settings.get_or_insert_default());
        self
    }

    /// Sets an environment variable of the process. By default, the process has the environment that main had
    /// at its first spawn.
    ///
    /// ```
    /// use procession::Process;
    /// let level = || std::env::var("LEVEL").unwrap_or_default();
    /// let p = Process::builder().env("LEVEL", "3").spawn(level, ())?;
    /// assert_eq!(p.join()?, "3");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        let variable = (name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self.set(|settings| settings.env.push(variable))
    }

    /// Removes an environment variable of the process.
    ///
    /// ```
    /// use procession::Process;
    /// let home = || std::env::var_os("HOME").is_some();
    /// assert!(!Process::builder().env_remove("HOME").spawn(home, ())?.join()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env_remove(self, name: impl AsRef<OsStr>) -> Builder {
        let variable = (name.as_ref().to_owned(), None);
        self.set(|settings| settings.env.push(variable))
    }

    /// Clears the environment of the process. Only variables that are set after this call remain.
    ///
    /// ```
    /// use procession::Process;
    /// let count = || std::env::vars_os().count();
    /// assert_eq!(Process::builder().env_clear().env("A", "1").spawn(count, ())?.join()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env_clear(self) -> Builder {
        self.set(|settings| {
            settings.clear_env = true;
            settings.env.clear();
        })
    }

    /// Sets the working directory of the process. The default is the working directory of the spawning
    /// process. A relative path is resolved against that directory when the process is spawned.
    ///
    /// ```
    /// use procession::Process;
    /// let here = || std::env::current_dir().unwrap();
    /// let p = Process::builder().current_dir("/").spawn(here, ())?;
    /// assert_eq!(p.join()?, std::path::Path::new("/"));
    /// let e = Process::builder().current_dir("/no/such/place").spawn(here, ()).unwrap_err();
    /// assert!(e.to_string().contains("/no/such/place"), "{e}");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn current_dir(self, path: impl AsRef<Path>) -> Builder {
        let path = path.as_ref().to_owned();
        self.set(|settings| settings.directory = Some(path))
    }

    /// Sets where the process reads its standard input from: a file, a pipe, or a [`Stdio`].
    ///
    /// ```
    /// use std::io::Write;
    /// use procession::{Process, process::Stdio};
    /// let shout = || std::io::read_to_string(std::io::stdin()).unwrap().to_uppercase();
    /// let p = Process::builder().stdin(Stdio::piped()).spawn(shout, ())?;
    /// p.take_stdin().unwrap().write_all(b"hello")?; // dropping it ends the input
    /// assert_eq!(p.join()?, "HELLO");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stdin(self, from: impl Into<Stdio>) -> Builder {
        let from = from.into();
        self.set(|settings| settings.streams[0] = Some(from))
    }

    /// Sets where the standard output of the process goes: a file, a pipe, or a [`Stdio`].
    ///
    /// ```
    /// use procession::Process;
    /// let path = std::env::temp_dir().join(format!("stdout-{}", std::process::id()));
    /// let file = std::fs::File::create(&path)?;
    /// Process::builder().stdout(file).spawn(|| println!("noted"), ())?.join()?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "noted\n");
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stdout(self, to: impl Into<Stdio>) -> Builder {
        let to = to.into();
        self.set(|settings| settings.streams[1] = Some(to))
    }

    /// Sets where the standard error of the process goes: a file, a pipe, or a [`Stdio`].
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// Process::builder().stderr(Stdio::null()).spawn(|| eprintln!("discarded"), ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stderr(self, to: impl Into<Stdio>) -> Builder {
        let to = to.into();
        self.set(|settings| settings.streams[2] = Some(to))
    }

    /// Limits the private memory of the process to `bytes` bytes (`RLIMIT_DATA`): the heap, the stacks of all
    /// threads but the first, and writable globals. Memory that the family shares does not count. A process
    /// uses a few MiB before its function runs. If the limit is lower than that, `spawn` returns an error.
    ///
    /// An allocation beyond the limit fails. Methods such as `try_reserve` then return an error. Any other
    /// allocation aborts the process ([`Failure::Killed`](super::Failure::Killed) with `out_of_memory`). If
    /// the process executes a program, the same limit applies to that program's own memory. The library does
    /// not use a control group for this, because a control group would also count the messages that the
    /// process puts into queues.
    ///
    /// ```
    /// use procession::Process;
    /// let fits = |bytes: usize| Vec::<u8>::new().try_reserve(bytes).is_ok();
    /// let small = Process::builder().memory_limit(64 << 20);
    /// assert!(small.spawn(fits, (1 << 20,))?.join()?);
    /// assert!(!small.spawn(fits, (1 << 30,))?.join()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn memory_limit(self, bytes: u64) -> Builder {
        self.set(|settings| settings.memory_limit = Some(bytes))
    }

    /// Sets the numbers of the processors on which the process may run. If the process is not allowed to use
    /// one of them, `spawn` returns an error.
    ///
    /// ```
    /// use procession::Process;
    /// let p = Process::builder().cpu_affinity(&[0]).spawn(procession::cpu_count, ())?;
    /// assert_eq!(p.join()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn cpu_affinity(self, processors: &[usize]) -> Builder {
        let number = |&n: &usize| u32::try_from(n).unwrap_or(u32::MAX);
        let processors = processors.iter().map(number).collect();
        self.set(|settings| settings.processors = Some(processors))
    }

    /// Sets the nice value of the process, from -20 (the most favored) to 19 (the least favored). A value
    /// lower than main's needs a privilege.
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().nice(10).spawn(|| { /* in the background */ }, ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn nice(self, value: i32) -> Builder {
        self.set(|settings| settings.nice = Some(value))
    }

    /// Sets the process group of the process. The default is main's process group. 0 creates a new group.
    /// Ctrl-C at the terminal does not reach a new group, nor does Ctrl-Z. To keep only Ctrl-C away, use
    /// [`interrupts`](Builder::interrupts).
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().process_group(0).spawn(|| (), ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn process_group(self, group: i32) -> Builder {
        self.set(|settings| settings.process_group = Some(group))
    }

    /// Sets how the process is created.
    ///
    /// ```
    /// use procession::{Process, process::StartMethod};
    /// let fresh = Process::builder().start_method(StartMethod::Spawn);
    /// assert_eq!(fresh.spawn(|a: u64, b: u64| a * b, (6, 7))?.join()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn start_method(self, method: StartMethod) -> Builder {
        self.set(|settings| settings.method = method)
    }
}
