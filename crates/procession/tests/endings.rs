//! How processes end, what is told of it, and what the others notice.
#![allow(unsafe_code, reason = "ends processes by every means that C has")]

mod family;

use std::process::abort;

use family::*;
use procession::{Failure, Process, ProcessError};
use procession_testkit::{isolated, proc};

/// How a process that runs `f` fails.
fn failure<R: procession::Message>(f: impl procession::process::Entry<(), Output = R>) -> ProcessError {
    Process::spawn(f, ()).expect("it starts").join().err().expect("it fails")
}

fn killed_by(signal: i32) -> impl Fn(&Failure) -> bool {
    move |failure| matches!(failure, Failure::Killed { signal: s, .. } if *s == signal)
}

#[test]
fn exit_tells_its_code() {
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
fn a_signal_is_told() {
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
        let error = Process::spawn(deeper, (0,)).unwrap().join().unwrap_err();
        println!("told: {error}");
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        return;
    }
    let board = Board::new();
    let text = succeeds(&mut program("overflow", &board));
    assert_eq!(text.matches("told: process deeper").count(), 1, "{text}");
    assert!(text.contains("was killed by signal"), "{text}");
    assert!(text.contains("overflowed its stack"), "{text}");
}

#[test]
fn kill_terminate_and_interrupt_end_it_whenever_they_come() {
    let _dog = watched();
    type End = fn(&Process<()>) -> procession::Result<()>;
    let ends: [(i32, End); 3] = [(9, Process::kill), (15, Process::terminate), (2, Process::interrupt)];
    for round in 0..40 {
        for (signal, end) in ends {
            let p = sleeper();
            // At once, a little later, and when it surely runs.
            match round % 4 {
                0 => {}
                1 => std::thread::yield_now(),
                2 => (0..round * 500).for_each(|_| std::hint::spin_loop()),
                _ => until("it runs", || proc::comm(p.pid().unwrap()).as_deref() == Some("forever")),
            }
            end(&p).unwrap();
            let error = p.join().unwrap_err();
            assert!(killed_by(signal)(error.failure()), "round {round}, signal {signal}: {error}");
            end(&p).expect("nothing happens to a process that has ended");
        }
    }
}

#[test]
fn a_signal_before_the_beginning_is_not_lost_in_the_crowd() {
    let _dog = watched();
    let crowd: Vec<_> = (0..60).map(|_| sleeper()).collect();
    crowd.iter().for_each(|p| p.terminate().unwrap());
    crowd.iter().for_each(|p| p.kill().unwrap());
    for p in crowd {
        let error = p.join().unwrap_err();
        assert!(killed_by(9)(error.failure()) || killed_by(15)(error.failure()), "{error}");
    }
}

#[test]
fn a_signal_to_a_process_that_has_ended_hits_nobody_else() {
    let _dog = watched();
    let ended: Vec<_> = (0..50).map(|_| Process::spawn(|| (), ()).unwrap()).collect();
    ended.iter().for_each(|p| p.join().unwrap());
    family::until_gone(&ended.iter().filter_map(|p| p.pid()).collect::<Vec<_>>());
    // These live where the others lived.
    let living: Vec<_> = (0..50).map(|_| sleeper()).collect();
    for p in &ended {
        p.kill().unwrap();
        p.terminate().unwrap();
        p.interrupt().unwrap();
    }
    assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1), "time passes");
    assert!(living.iter().all(Process::is_alive));
    assert!(ended.iter().all(|p| p.join() == Ok(())));
    living.iter().for_each(|p| p.kill().unwrap());
}

#[test]
fn who_is_killed_from_outside_ran_once_or_not_at_all() {
    let _dog = watched();
    for round in 0..60u32 {
        let board = Board::new();
        let once = |board: String| {
            post(&board, &format!("run {}", std::process::id()), "");
            7
        };
        let p = Process::spawn(once, (board.path(),)).unwrap();
        (0..round % 10 * 300).for_each(|_| std::hint::spin_loop());
        if let Some(pid) = p.pid() {
            send(pid, libc::SIGKILL);
        }
        let ended = p.join();
        match &ended {
            Ok(value) => assert_eq!(*value, 7),
            Err(error) => assert!(killed_by(9)(error.failure()), "{error}"),
        }
        let runs = board.names().len();
        assert!(if ended.is_ok() { runs == 1 } else { runs <= 1 }, "{ended:?} after {runs} runs");
    }
}

#[test]
fn spares_that_are_killed_are_replaced() {
    isolated!({
        let _dog = watched();
        let supervisor = family::supervisor();
        for n in 0..30 {
            for pid in proc::children(supervisor) {
                send(pid, libc::SIGKILL);
            }
            assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n));
        }
        assert_eq!(family::supervisor(), supervisor);
    });
}

#[test]
fn a_stopped_process_can_be_killed() {
    let _dog = watched();
    let p = sleeper();
    send(p.pid().unwrap(), libc::SIGSTOP);
    until("it is stopped", || proc::state(p.pid().unwrap()) == Some('T'));
    assert!(p.is_alive() && p.try_join() == Ok(None));
    p.kill().unwrap();
    assert!(killed_by(9)(p.join().unwrap_err().failure()));
}

#[test]
fn a_signal_that_is_handled_ends_nothing() {
    extern "C" fn note(_: i32) {
        // SAFETY: a system call with a static buffer.
        unsafe { libc::write(HANDLED.load(std::sync::atomic::Ordering::SeqCst), c"x".as_ptr().cast(), 1) };
    }
    static HANDLED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(
        |board: String| {
            let (mut read, write) = std::io::pipe().unwrap();
            HANDLED.store(std::os::fd::AsRawFd::as_raw_fd(&write), std::sync::atomic::Ordering::SeqCst);
            // SAFETY: the handler makes one system call.
            unsafe { libc::signal(libc::SIGTERM, note as extern "C" fn(i32) as libc::sighandler_t) };
            post(&board, "ready", "");
            std::io::Read::read_exact(&mut read, &mut [0]).unwrap();
            "went on".to_string()
        },
        (board.path(),),
    );
    let p = p.unwrap();
    board.wait("ready");
    p.terminate().unwrap();
    assert_eq!(p.join().as_deref(), Ok("went on"));
}

#[test]
fn an_end_that_nobody_joined_is_written_to_stderr() {
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
        post(&board, "go", "");
        return;
    }
    let board = Board::new();
    let text = text_of(&program("main", &board).output().unwrap());
    assert!(text.contains("nobody's"), "{text}");
    assert!(!text.contains("process joined"), "{text}");
}
