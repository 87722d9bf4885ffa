//! Errors are plain data: a program can clone, compare, box and send them, and ask for their cause.

use std::error::Error as _;

use crate::family::*;
use procession::sync::LockError;
use procession::{Error, Failure, Lock, Process, ProcessError};

fn is_plain<
    T: Clone + PartialEq + std::fmt::Debug + std::error::Error + procession::Message + Send + Sync,
>(
    _: &T,
) {
}

/// Sends an error to another process and back.
fn there_and_back(error: Error) -> Error {
    Process::spawn(|error: Error| error, (error,)).unwrap().join().unwrap()
}

#[test]
fn an_error_survives_a_round_trip_unchanged() {
    let _dog = watched();
    let lock = Lock::named("till").unwrap();
    let held = lock.lock().unwrap();
    let relocked = lock.lock().unwrap_err();
    drop(held);
    lock.lock().unwrap().poison();
    let marked = lock.lock().unwrap_err();
    let exited: ProcessError =
        Process::spawn(|| -> () { std::process::exit(3) }, ()).unwrap().join().unwrap_err();
    is_plain(&relocked);
    is_plain(&exited);
    let errors = [
        Error::from(std::fs::read("/does/not/exist").unwrap_err()),
        Error::from(relocked),
        Error::from(marked),
        Error::from(exited),
        Error::other("anything else"),
        Process::builder().name("x".repeat(96)).spawn(|| (), ()).unwrap_err(),
        Error::Forked,
        Error::FamilyLost,
    ];
    for error in errors {
        is_plain(&error);
        assert!(!error.to_string().is_empty() && !error.to_string().contains('\n'), "{error}");
        assert_eq!(there_and_back(error.clone()), error);
    }
}

#[test]
fn the_question_mark_converts_every_error() {
    fn fails(how: u8, lock: Lock) -> procession::Result<()> {
        match how {
            0 => drop(lock.lock()?),
            1 => drop(std::fs::read("/does/not/exist")?),
            2 => Process::spawn(|| -> () { std::process::exit(3) }, ())?.join()?,
            _ => Err(Error::other("no such way"))?,
        }
        Ok(())
    }
    let _dog = watched();
    let lock = Lock::new().unwrap();
    lock.lock().unwrap().poison();
    let fail = |how| Process::spawn(fails, (how, lock.clone())).unwrap().join().unwrap().unwrap_err();
    let errors: Vec<_> = (0..4).map(fail).collect();
    assert!(matches!(&errors[0], Error::Lock(LockError::Panicked(_))));
    assert!(matches!(&errors[1], Error::Os { code: Some(libc::ENOENT), .. }));
    assert!(matches!(&errors[2], Error::Process(e) if *e.failure() == Failure::Exited { code: 3 }));
    assert_eq!(errors[3].to_string(), "no such way");
    assert!(errors[0].source().is_some() && errors[2].source().is_some() && errors[3].source().is_none());
    let boxed = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> { Ok(lock.lock().map(drop)?) };
    assert!(boxed().unwrap_err().to_string().contains("lock_or_recover"));
}

#[test]
fn a_process_error_names_the_process_and_its_end() {
    let _dog = watched();
    let p = Process::builder().name("buyer").spawn(|| -> () { std::process::exit(3) }, ()).unwrap();
    let error = p.join().unwrap_err();
    assert_eq!((error.name(), error.pid()), ("buyer", p.pid()));
    assert_eq!(
        error.to_string(),
        format!("process buyer (pid {}) called exit with code 3", p.pid().unwrap())
    );
    let p = sleeper();
    p.terminate().unwrap();
    assert!(p.join().unwrap_err().to_string().ends_with("was killed by signal 15"));
}
