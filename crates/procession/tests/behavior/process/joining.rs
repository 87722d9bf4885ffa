//! `join` and its variants: what they return, in which process, and when.
#![allow(unsafe_code, reason = "registers a C exit handler")]

use std::time::{Duration, Instant};

use procession_testkit::proc;

use crate::family::*;
use procession::{Error, Failure, Lock, Process, WaitError};

#[test]
fn every_join_returns_the_value() {
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(
        |board: String| {
            wait_for(&board, "go");
            "value".to_string()
        },
        (board.path(),),
    );
    let p = p.unwrap();
    let joiners: Vec<_> = (0..8).map(|_| p.clone()).map(|p| std::thread::spawn(move || p.join())).collect();
    post(&board.path(), "go", "");
    assert_eq!(p.join().as_deref(), Ok("value"));
    assert_eq!(p.join().as_deref(), Ok("value"), "a second join returns the value too");
    for joiner in joiners {
        assert_eq!(joiner.join().unwrap().as_deref(), Ok("value"));
    }
    assert_eq!(p.try_join().unwrap().as_deref(), Some("value"));
}

#[test]
fn another_process_can_join() {
    let _dog = watched();
    let board = Board::new();
    let slow = |board: String| {
        wait_for(&board, "go");
        vec![1u16, 2, 3]
    };
    let p = Process::spawn(slow, (board.path(),)).unwrap();
    let other =
        Process::spawn(|p: Process<Vec<u16>>| p.join().map_err(|e| e.to_string()), (p.clone(),)).unwrap();
    drop(p);
    post(&board.path(), "go", "");
    assert_eq!(other.join(), Ok(Ok(vec![1, 2, 3])), "main's own handle was dropped");
    let p = sleeper();
    let other = Process::spawn(|p: Process<()>| p.join().unwrap_err(), (p.clone(),)).unwrap();
    p.kill().unwrap();
    let told = other.join().unwrap();
    assert!(matches!(told.failure(), Failure::Killed { signal: 9, .. }), "{told}");
    assert_eq!(told.pid(), p.pid());
}

#[test]
fn a_process_outlives_the_one_that_spawned_it() {
    let _dog = watched();
    let board = Board::new();
    let slow = |board: String| -> String { wait_for(&board, "go") };
    let parent = Process::spawn(
        |board: String| {
            let slow = |board: String| -> String { wait_for(&board, "go") };
            Process::spawn(slow, (board,)).unwrap()
        },
        (board.path(),),
    );
    let _ = slow;
    let parent = parent.unwrap();
    let grandchild = parent.join().unwrap();
    drop(parent);
    assert!(grandchild.is_alive());
    assert_eq!(grandchild.try_join(), Ok(None));
    post(&board.path(), "go", "told");
    assert_eq!(grandchild.join().as_deref(), Ok("told"));
}

#[test]
fn a_join_that_times_out_returns_none() {
    let _dog = watched();
    let p = sleeper();
    assert_eq!(p.try_join(), Ok(None));
    assert_eq!(p.join_timeout(Duration::ZERO), Ok(None));
    assert_eq!(p.join_timeout(Duration::from_millis(20)), Ok(None));
    assert_eq!(p.join_deadline(Instant::now()), Ok(None));
    assert_eq!(p.join_deadline(Instant::now() + Duration::from_millis(20)), Ok(None));
    assert!(p.exit_status().is_none() && p.is_alive());
    p.kill().unwrap();
    let error = p.join_timeout(Duration::MAX).unwrap_err();
    assert!(matches!(error.failure(), Failure::Killed { signal: 9, .. }));
    assert_eq!(p.try_join().unwrap_err(), error);
    assert_eq!(
        p.join_deadline(Instant::now()).unwrap_err(),
        error,
        "an end is reported although the deadline has passed"
    );
    assert!(!p.is_alive());
}

#[test]
fn join_timeout_returns_as_soon_as_the_process_ends() {
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(|board: String| wait_for(&board, "go").len(), (board.path(),)).unwrap();
    let waiting = std::thread::spawn({
        let p = p.clone();
        move || p.join_timeout(Duration::from_secs(3600))
    });
    post(&board.path(), "go", "four");
    assert_eq!(waiting.join().unwrap(), Ok(Some(4)));
    assert_eq!(p.join_deadline(Instant::now() + Duration::from_secs(3600)), Ok(Some(4)));
}

extern "C" fn ignored(_: i32) {}

#[test]
fn a_signal_does_not_interrupt_a_join() {
    let _dog = watched();
    let board = Board::new();
    let handler = ignored as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler does nothing. SA_RESTART is not set, so the signal interrupts system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
    }
    let slow = |board: String| wait_for(&board, "go").len();
    let p = Process::spawn(slow, (board.path(),)).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let joiner = std::thread::spawn({
        let p = p.clone();
        move || {
            // SAFETY: a system call without pointers.
            tell.send((unsafe { libc::gettid() }, unsafe { libc::pthread_self() })).unwrap();
            p.join()
        }
    });
    let (thread, handle) = told.recv().unwrap();
    let slept = || {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    for _ in 0..20 {
        let before = slept();
        // SAFETY: the thread still exists, because it waits for a message that is not posted yet.
        unsafe { libc::pthread_kill(handle, libc::SIGUSR2) };
        until("the thread sleeps again", || slept() > before);
    }
    assert!(!joiner.is_finished());
    post(&board.path(), "go", "four");
    assert_eq!(joiner.join().unwrap(), Ok(4));
}

#[test]
fn a_dropped_handle_detaches_the_process() {
    let _dog = watched();
    let board = Board::new();
    let detached = |board: String| {
        wait_for(&board, "go");
        post(&board, "done", std::process::id());
    };
    drop(Process::spawn(detached, (board.path(),)).unwrap());
    post(&board.path(), "go", "");
    let pid = board.number("done");
    until("the detached process is reaped", || proc::state(pid).is_none());
}

extern "C" fn last_words() {
    post(&std::env::var("TMPDIR").unwrap(), "last words", "");
}

#[test]
fn join_returns_after_the_exit_handlers_and_destructors() {
    struct AtEnd(String);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            post(&self.0, "destructor", "");
        }
    }
    thread_local!(static AT_END: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) });
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(
        |board: String| {
            // SAFETY: the process has one thread, so no thread reads the environment meanwhile.
            unsafe { std::env::set_var("TMPDIR", &board) };
            // SAFETY: a function without arguments.
            unsafe { libc::atexit(last_words) };
            AT_END.set(Some(AtEnd(board)));
        },
        (board.path(),),
    );
    p.unwrap().join().unwrap();
    assert!(posted(&board.path(), "last words"), "the exit handler ran before join returned");
    assert!(posted(&board.path(), "destructor"), "the thread's destructor ran before join returned");
}

#[test]
fn output_of_a_process_is_written_before_join_returns() {
    let _dog = watched();
    if role().is_some() {
        print!("{{main ");
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        Process::spawn(|| print!("child "), ()).unwrap().join().unwrap();
        println!("main}}");
        return;
    }
    let board = Board::new();
    let text = succeeds(&mut program("printer", &board));
    assert!(text.contains("{main child main}"), "{text}");
}

#[test]
fn a_process_without_a_result_type_can_be_waited_for() {
    let _dog = watched();
    let p = Process::builder().name("waited for").daemon(true).spawn(forever, ()).unwrap();
    let find = || procession::active_children().unwrap().into_iter().find(|c| Some(c.pid()) == p.pid());
    let any = find().expect("the process is among the active children");
    assert_eq!((any.name().as_str(), any.is_alive()), ("waited for", true));
    any.kill().unwrap();
    let error = any.wait().unwrap_err();
    assert!(matches!(&error, procession::Error::Process(e) if e.name() == "waited for"), "{error}");
    assert!(!any.is_alive() && find().is_none());
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let p = Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)).unwrap();
    let any = find_by(p.pid());
    drop(held);
    assert_eq!(any.wait(), Ok(()));
    assert!(procession::current_process().unwrap().wait().is_err(), "no process outlives main");
}

#[test]
fn a_process_without_a_result_type_has_four_forms_of_wait() {
    let _dog = watched();
    let p = sleeper();
    let any = find_by(p.pid());
    let timed_out = Err(Error::Wait(WaitError::TimedOut));
    assert_eq!(any.try_wait(), Err(Error::Wait(WaitError::WouldBlock)));
    assert_eq!(any.wait_timeout(Duration::ZERO), timed_out);
    assert_eq!(any.wait_timeout(Duration::from_millis(20)), timed_out);
    assert_eq!(any.wait_deadline(Instant::now() + Duration::from_millis(20)), timed_out);
    let waiting = std::thread::spawn({
        let any = any.clone();
        move || any.wait_timeout(Duration::MAX)
    });
    p.kill().unwrap();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("signal 9"), "{error}");
    assert_eq!(any.wait(), Err(error.clone()));
    assert_eq!(any.try_wait(), Err(error.clone()));
    assert_eq!(
        any.wait_deadline(Instant::now()),
        Err(error),
        "an end is reported although the deadline has passed"
    );
    let board = Board::new();
    let p = Process::spawn(|board: String| drop(wait_for(&board, "go")), (board.path(),)).unwrap();
    let any = find_by(p.pid());
    post(&board.path(), "go", "");
    assert_eq!(any.wait_timeout(Duration::MAX), Ok(()));
    assert_eq!((any.try_wait(), any.wait()), (Ok(()), Ok(())));
}

fn find_by(pid: Option<u32>) -> procession::AnyProcess {
    let mut children = procession::active_children().unwrap().into_iter();
    children.find(|c| Some(c.pid()) == pid).expect("the process is among the active children")
}
