//! How processes end, how their ends are reported, and what other processes notice.
#![allow(unsafe_code, reason = "ends processes by every means that C has")]

use crate::family;
use std::process::abort;

use procession_testkit::{isolated, proc};

use crate::family::*;
use procession::{Failure, Process, ProcessError};

/// Runs `f` in a process that fails, and returns its error.
fn failure<R: procession::Message>(f: impl procession::process::Entry<(), Output = R>) -> ProcessError {
    Process::spawn(f, ()).expect("it starts").join().err().expect("it fails")
}

pub(super) fn killed_by(signal: i32) -> impl Fn(&Failure) -> bool {
    move |failure| matches!(failure, Failure::Killed { signal: s, .. } if *s == signal)
}

#[test]
fn an_exit_code_is_reported() {
    let _dog = watched();
    assert_eq!(failure(|| -> () { std::process::exit(0) }).failure(), &Failure::Exited { code: 0 });
    assert_eq!(failure(|| -> () { std::process::exit(3) }).failure(), &Failure::Exited { code: 3 });
    assert_eq!(failure(|| -> () { std::process::exit(256 + 44) }).failure(), &Failure::Exited { code: 44 });
    // SAFETY: ends the process.
    assert_eq!(failure(|| -> () { unsafe { libc::_exit(7) } }).failure(), &Failure::Exited { code: 7 });
    let from_a_thread = failure(|| -> () {
        std::thread::spawn(|| std::process::exit(5));
        forever()
    });
    assert_eq!(from_a_thread.failure(), &Failure::Exited { code: 5 });
    let another_program = failure(|| -> String {
        std::os::unix::process::CommandExt::exec(std::process::Command::new("sh").args(["-c", "exit 6"]))
            .to_string()
    });
    assert_eq!(another_program.failure(), &Failure::Exited { code: 6 });
}

#[test]
fn a_fatal_signal_is_reported() {
    let _dog = watched();
    assert!(killed_by(libc::SIGABRT)(failure(|| -> () { abort() }).failure()));
    // SAFETY: system calls, and a fault on purpose.
    unsafe {
        assert!(killed_by(libc::SIGKILL)(
            failure(|| -> () { assert_eq!(libc::raise(libc::SIGKILL), 0) }).failure()
        ));
        let fault = failure(|| -> u8 { std::ptr::with_exposed_provenance::<u8>(64).read_volatile() });
        assert!(killed_by(libc::SIGSEGV)(fault.failure()), "{fault}");
        let fpe = failure(|| -> () { assert_eq!(libc::raise(libc::SIGFPE), 0) });
        assert!(killed_by(libc::SIGFPE)(fpe.failure()), "{fpe}");
    }
    let p = Process::spawn(|| -> () { abort() }, ()).unwrap();
    p.join().unwrap_err();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&p.exit_status().unwrap()), Some(libc::SIGABRT));
}

#[test]
fn a_stack_overflow_is_reported() {
    #[allow(unconditional_recursion)]
    fn deeper(n: u64) -> u64 {
        std::hint::black_box([n; 64])[1] + deeper(n + 1) + 1
    }
    let _dog = watched();
    if role().is_some() {
        let in_a_thread = || -> u64 {
            let _uses_the_library = procession::Lock::new().unwrap().lock().is_ok();
            let deep = || {
                let _uses_the_library = procession::Lock::new().unwrap().lock().is_ok();
                deeper(0)
            };
            std::thread::spawn(deep).join().unwrap()
        };
        for p in [Process::spawn(deeper, (0,)).unwrap(), Process::spawn(in_a_thread, ()).unwrap()] {
            let error = p.join().unwrap_err();
            println!("told: {error}");
            assert!(matches!(error.failure(), Failure::Killed { stack_overflow: true, .. }), "{error}");
        }
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        return;
    }
    let board = Board::new();
    let text = succeeds(&mut program("overflow", &board));
    assert_eq!(text.matches("told: process deeper").count(), 1, "{text}");
    assert_eq!(text.matches("because a stack overflowed").count(), 2, "{text}");
    assert_eq!(text.matches("overflowed its stack").count(), 2, "{text}");
}

/// Runs `f` in a process that fails under this memory limit, and returns the failure.
fn failure_within(bytes: u64, f: impl procession::process::Entry<(), Output = ()>) -> Failure {
    let p = Process::builder().memory_limit(bytes).spawn(f, ()).expect("it starts");
    p.join().expect_err("it fails").failure().clone()
}

#[test]
fn an_allocation_failure_is_reported() {
    isolated!(env = [("RUST_BACKTRACE", "0")], {
        refused_memory();
    });
}

#[test]
fn an_allocation_failure_is_reported_with_a_backtrace() {
    isolated!(env = [("RUST_BACKTRACE", "1")], {
        refused_memory();
    });
}

fn refused_memory() {
    let allocates = [
        failure_within(64 << 20, || drop(std::hint::black_box(vec![1u8; 1 << 30]))),
        failure_within(64 << 20, || {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(Box::new([1u64; 1000])));
            }
        }),
        failure_within(64 << 20, || {
            std::thread::spawn(|| drop(std::hint::black_box(vec![1u8; 1 << 30]))).join().unwrap();
        }),
    ];
    for failure in allocates {
        let memory = matches!(failure, Failure::Killed { signal: libc::SIGABRT, out_of_memory: true, .. });
        assert!(memory, "{failure}");
    }
    let aborts = failure_within(64 << 20, || abort());
    assert!(matches!(aborts, Failure::Killed { out_of_memory: false, .. }), "{aborts}");
    // A process that handles the failed allocation survives.
    let small = Process::builder().memory_limit(64 << 20);
    let refused = || Vec::<u8>::new().try_reserve(1 << 30).is_err();
    assert_eq!(small.spawn(refused, ()).unwrap().join(), Ok(true));
}

#[test]
fn a_caught_panic_does_not_fail_the_process() {
    let _dog = watched();
    let both = failure(|| -> () {
        std::panic::catch_unwind(|| panic!("caught")).unwrap_err();
        abort()
    });
    assert!(killed_by(libc::SIGABRT)(both.failure()), "{both}");
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    let twice = failure(|| -> () {
        let _bomb = Bomb;
        panic!("the first")
    });
    assert!(matches!(twice.failure(), Failure::Panicked { .. }), "{twice}");
}

#[test]
fn a_core_dump_is_reported() {
    isolated!(limits = [(libc::RLIMIT_CORE, 1 << 30)], {
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        if pattern.contains('/') || pattern.starts_with('|') {
            return println!("dumps go elsewhere");
        }
        let p = Process::builder().current_dir(std::env::temp_dir()).spawn(|| -> () { abort() }, ()).unwrap();
        let error = p.join().unwrap_err();
        assert!(matches!(error.failure(), Failure::Killed { core_dumped: true, .. }), "{error}");
        assert!(std::os::unix::process::ExitStatusExt::core_dumped(&p.exit_status().unwrap()));
        assert!(error.to_string().contains("core dumped"), "{error}");
    });
}

/// Replaces the kernel's count of out-of-memory kills by a file, for this process and its children. Returns
/// `None` if this is not permitted.
fn counted_by(file: &str) -> Option<()> {
    let c = |text: &str| std::ffi::CString::new(text).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    // The library reads one of these files.
    let path = own.lines().find_map(|line| line.split_once(":memory:")).map_or("/", |(_, path)| path);
    let targets = [
        format!("/sys/fs/cgroup/memory{path}/memory.oom_control"),
        "/sys/fs/cgroup/memory/memory.oom_control".to_string(),
        format!(
            "/sys/fs/cgroup{}/memory.events",
            own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("")
        ),
        "/proc/vmstat".to_string(),
    ];
    // SAFETY: system calls on C strings that outlive the calls.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            return None;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        libc::mount(std::ptr::null(), c("/").as_ptr(), std::ptr::null(), private, std::ptr::null());
        let mut any = false;
        for target in targets.iter().filter(|target| std::path::Path::new(target).exists()) {
            let bind = libc::MS_BIND;
            any |=
                libc::mount(c(file).as_ptr(), c(target).as_ptr(), std::ptr::null(), bind, std::ptr::null())
                    == 0;
        }
        any.then_some(())
    }
}

#[test]
fn an_out_of_memory_kill_is_distinguished_from_others() {
    isolated!({
        let board = Board::new();
        let file = format!("{}/count", board.path());
        let killed_so_far =
            |count: u32| std::fs::write(&file, format!("oom_kill_disable 0\noom_kill {count}\n")).unwrap();
        killed_so_far(5);
        if counted_by(&file).is_none() {
            return println!("not allowed to try");
        }
        let out_of_memory = |p: &Process<()>| match p.join().unwrap_err().failure() {
            Failure::Killed { signal: 9, out_of_memory, .. } => *out_of_memory,
            other => panic!("{other}"),
        };
        let from_outside = |p: &Process<()>| send(p.pid().unwrap(), libc::SIGKILL);
        let running = || {
            let p = sleeper();
            until("it runs", || proc::comm(p.pid().unwrap()).as_deref() == Some("forever"));
            p
        };
        let p = running();
        from_outside(&p);
        assert!(!out_of_memory(&p), "the kernel has killed no process yet");
        let p = running();
        killed_so_far(6);
        from_outside(&p);
        assert!(out_of_memory(&p));
        let p = running();
        from_outside(&p);
        assert!(!out_of_memory(&p), "the count is of the kill before");
        // The kernel's count rises by three, for three processes. A process that the test kills afterwards is
        // not reported as a fourth.
        let all = [running(), running(), running(), running()];
        killed_so_far(9);
        all[..3].iter().for_each(from_outside);
        assert!(all[..3].iter().all(out_of_memory));
        from_outside(&all[3]);
        assert!(!out_of_memory(&all[3]), "the kernel killed only three");
        let p = running();
        killed_so_far(10);
        p.kill().unwrap();
        assert!(!out_of_memory(&p), "the test killed it");
    });
}

/// Main's stderr is a full pipe that no process reads. The supervisor does not wait for room in the pipe.
#[test]
fn a_full_stderr_does_not_stop_the_supervisor() {
    isolated!(time = std::time::Duration::from_secs(20), {
        let (reader, mut full) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&full);
        // SAFETY: system calls on descriptors that are open.
        unsafe {
            libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
            while std::io::Write::write(&mut full, &[b'.'; 4096]).is_ok() {}
            while std::io::Write::write(&mut full, b".").is_ok() {}
            libc::fcntl(fd, libc::F_SETFL, 0);
            assert_eq!(libc::dup2(fd, 2), 2);
        }
        Process::spawn(leaves_an_error_behind, ()).unwrap().join().unwrap_err();
        // Spawns more processes than there are spares.
        for n in 0..20 {
            assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n), "the supervisor still works");
        }
        drop((reader, full));
    });
}

/// Spawns a process that fails and is never joined. Then kills the current process.
fn leaves_an_error_behind() {
    let lost = Process::builder().name("left over").spawn(os_error, ()).unwrap();
    until("the process has ended", || !lost.is_alive());
    std::mem::forget(lost);
    // SAFETY: a system call without pointers.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn os_error() -> procession::Result<()> {
    Err(std::io::Error::from_raw_os_error(libc::ENOSPC).into())
}

#[test]
fn an_unjoined_failure_is_written_to_stderr() {
    let _dog = watched();
    if role().is_some() {
        let board = family::my_board();
        let fails = |board: String| -> Result<(), String> {
            wait_for(&board, "go");
            Err("no apples".into())
        };
        Process::builder().name("nobody's").spawn(fails, (board.clone(),)).unwrap();
        let joined =
            Process::builder().name("joined").spawn(|| Err::<(), _>("joined".to_string()), ()).unwrap();
        joined.join().unwrap().unwrap_err();
        let panics = |_: String| -> () { panic!("no {}", "pears") };
        // One handle is dropped here after its process has ended. Another is sent to a process, which drops
        // it there.
        let ended = Process::builder().name("dropped").spawn(os_error, ()).unwrap();
        until("the process has ended", || !ended.is_alive());
        drop(ended);
        let sent = Process::builder().name("sent").spawn(os_error, ()).unwrap();
        Process::spawn(drop::<Process<procession::Result<()>>>, (sent,)).unwrap().join().unwrap();
        Process::spawn(leaves_an_error_behind, ()).unwrap().join().unwrap_err();
        Process::spawn(panics, (board.clone(),)).unwrap();
        post(&board, "go", "");
        return;
    }
    let board = Board::new();
    let text = text_of(&program("main", &board).output().unwrap());
    let lines = |word: &str| text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>();
    assert!(
        lines("process nobody's").len() == 1 && lines("nobody's")[0].ends_with("Err(\"no apples\")"),
        "{text}"
    );
    for name in ["process dropped", "process sent", "process left over"] {
        assert!(lines(name).len() == 1 && lines(name)[0].contains("No space left"), "{name}: {text}");
    }
    assert!(text.contains("no pears") && text.contains(file!()), "{text}");
    assert!(!text.contains("process joined"), "{text}");
}
