//! Reports of a panic: its message, place and backtrace, however the panic ends the process.
#![allow(unsafe_code, reason = "ends processes by every means that C has")]

use std::panic;

use crate::family::*;
use procession::{Failure, Process, ProcessError};
use procession_testkit::isolated;

/// Runs `f` in a process that fails, and returns its error.
#[track_caller]
fn failure<R: procession::Message>(f: impl procession::process::Entry<(), Output = R>) -> ProcessError {
    Process::spawn(f, ()).expect("it starts").join().err().expect("it fails")
}

#[test]
fn a_panic_is_reported_with_its_message_and_place() {
    let _dog = watched();
    let line = line!() + 1;
    let error = failure(|| -> u32 { panic!("no {} left", "apples") });
    let Failure::Panicked { message, location, .. } = error.failure() else { panic!("{error}") };
    assert_eq!(message, "no apples left");
    assert!(location.starts_with(&format!("{}:{line}:", file!())), "{location}");
    assert!(error.to_string().contains("no apples left"), "{error}");
    assert_eq!(error.name(), format!("closure@panics.rs:{line}"));
    let p = Process::spawn(|| -> () { panic!() }, ()).unwrap();
    p.join().unwrap_err();
    assert_eq!(p.exit_status().and_then(|s| s.code()), Some(101));
}

#[test]
fn a_panic_with_any_payload_is_reported() {
    let _dog = watched();
    let message = |error: ProcessError| match error.failure() {
        Failure::Panicked { message, .. } => message.clone(),
        _ => panic!("{error}"),
    };
    assert_eq!(message(failure(|| -> () { panic!("") })), "");
    assert_eq!(message(failure(|| -> () { panic!("a\u{1f}b\nc\0d") })), "a\u{1f}b\nc\0d");
    assert!(message(failure(|| -> () { panic::panic_any(7u8) })).contains("without a message"));
    // The payload is dropped while the report is being made.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics when it is dropped");
        }
    }
    assert!(message(failure(|| -> () { panic::panic_any(Bomb) })).contains("without a message"));
    let long = failure(|| -> () {
        // SAFETY: closes stderr, so the long message is not printed.
        unsafe { libc::close(2) };
        panic!("{}", "x".repeat(1 << 20))
    });
    assert_eq!(message(long).len(), 1 << 20);
    assert_eq!(
        message(failure(|| std::env::var_os("no such variable").map(|_| 1u8).expect("an apple"))),
        "an apple"
    );
    let _ = panic::catch_unwind(|| ());
    let second = failure(|| -> () {
        let _ = panic::catch_unwind(|| panic!("the first"));
        panic!("the second")
    });
    assert_eq!(message(second), "the second");
}

#[test]
fn a_panic_on_stderr_begins_with_the_name_of_the_process() {
    let _dog = watched();
    let builder = Process::builder().name("clumsy").stderr(procession::process::Stdio::piped());
    let p = builder.spawn(|| -> () { panic!("oh no") }, ()).unwrap();
    let text = std::io::read_to_string(p.take_stderr().unwrap()).unwrap();
    let start = format!("process clumsy (pid {}) panicked:\nthread", p.pid().unwrap());
    assert!(text.starts_with(&start) && text.contains("oh no"), "{text}");
}

#[test]
fn a_panic_is_reported_with_a_backtrace_on_request() {
    isolated!(env = [("RUST_BACKTRACE", "1")], {
        #[inline(never)]
        fn deep_down() -> u8 {
            panic!("here")
        }
        let error = failure(deep_down);
        let Failure::Panicked { backtrace, .. } = error.failure() else { panic!("{error}") };
        assert!(backtrace.contains("deep_down"), "{backtrace}");
    });
}

#[test]
fn a_panic_is_reported_without_a_backtrace_by_default() {
    isolated!(env = [("RUST_BACKTRACE", "0")], {
        let error = failure(|| -> u8 { panic!("here") });
        let Failure::Panicked { backtrace, .. } = error.failure() else { panic!("{error}") };
        assert_eq!(backtrace, "", "without a backtrace the text is empty");
    });
}

#[test]
fn a_caught_panic_is_not_reported() {
    let _dog = watched();
    let caught = || panic::catch_unwind(|| panic!("caught")).is_err();
    assert_eq!(Process::spawn(caught, ()).unwrap().join(), Ok(true));
    let in_a_thread = || std::thread::spawn(|| panic!("in a thread")).join().is_err();
    assert_eq!(Process::spawn(in_a_thread, ()).unwrap().join(), Ok(true));
    let exits = failure(|| -> () {
        let _ = panic::catch_unwind(|| panic!("caught"));
        std::process::exit(4)
    });
    assert_eq!(exits.failure(), &Failure::Exited { code: 4 });
    let killed = failure(|| -> () {
        let _ = panic::catch_unwind(|| panic!("caught"));
        // SAFETY: a system call without pointers.
        unsafe { libc::raise(libc::SIGKILL) };
    });
    assert!(matches!(killed.failure(), Failure::Killed { signal: 9, .. }), "{killed}");
}

#[test]
fn a_panic_that_bypasses_the_hook_is_reported() {
    let _dog = watched();
    let message = |error: ProcessError| match error.failure() {
        Failure::Panicked { message, .. } => message.clone(),
        _ => panic!("{error}"),
    };
    let own_hook = failure(|| -> () {
        panic::set_hook(Box::new(|_| ()));
        panic!("with a hook of its own {}", 1)
    });
    assert!(own_hook.to_string().ends_with("panicked: with a hook of its own 1"), "{own_hook}");
    assert_eq!(message(own_hook), "with a hook of its own 1");
    let resumed = failure(|| -> () { panic::resume_unwind(Box::new("resumed")) });
    assert_eq!(message(resumed), "resumed");
    // Programs often pass on the payload of a thread's panic like this.
    let passed_on = failure(|| -> () {
        let _ = panic::catch_unwind(|| panic!("of no interest"));
        let payload = std::thread::spawn(|| panic!("in the thread: {}", 7)).join().unwrap_err();
        panic::resume_unwind(payload)
    });
    assert_eq!(message(passed_on), "in the thread: 7");
    let odd = failure(|| -> () { panic::resume_unwind(Box::new(7u8)) });
    assert!(message(odd).contains("without a message"));
}

#[test]
fn a_panic_in_a_destructor_during_a_panic_is_reported() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("also");
        }
    }
    let _dog = watched();
    let error = failure(|| -> () {
        let _bomb = Bomb;
        panic!("first")
    });
    assert!(matches!(error.failure(), Failure::Panicked { .. }), "{error}");
}
