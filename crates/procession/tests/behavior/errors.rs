//! Errors are plain data: a program can clone, compare, box and send an error, and ask for its cause.

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

/// Returns an error with two causes. The text of the first cause already contains the text of the second.
fn chain() -> anyhow::Error {
    let missing = std::fs::read("/does/not/exist").expect_err("there is no such file");
    let said = format!("reading failed: {missing}");
    anyhow::Error::from(missing).context(said).context("no configuration")
}

/// Sends an error to another process and back.
fn there_and_back(error: Error) -> Error {
    Process::spawn(|error: Error| error, (error,)).unwrap().join().unwrap()
}

#[test]
fn an_error_survives_a_round_trip_unchanged() {
    let _dog = watched();
    let lock = Lock::labeled("till").unwrap();
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
        Error::other(chain()),
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

#[test]
fn the_causes_of_a_foreign_error_are_kept() {
    let _dog = watched();
    let missing = "No such file or directory (os error 2)";
    let here = Error::other(chain());
    for error in [here.clone(), there_and_back(here)] {
        assert_eq!(error.to_string(), format!("no configuration: reading failed: {missing}"));
        assert_eq!(format!("{error:?}"), format!("Other(\"no configuration: reading failed: {missing}\")"));
        let reading = error.source().expect("a cause");
        let last = reading.source().expect("its cause");
        assert_eq!((last.to_string().as_str(), last.source().is_none()), (missing, true));
        let Error::Other(other) = &error else { panic!("{error:?}") };
        assert_eq!(other.message(), "no configuration");
    }
}

#[test]
fn a_result_of_anyhow_is_wrapped_where_it_crosses() {
    fn fails() -> procession::Result<u32> {
        let load = || -> anyhow::Result<u32> { Err(chain()) };
        load().map_err(Error::other)
    }
    let _dog = watched();
    let error = Process::spawn(fails, ()).unwrap().join().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("no configuration: reading failed: "), "{error}");
    let again = anyhow::Error::from(error);
    assert_eq!(again.chain().count(), 3);
}

#[test]
fn the_text_of_an_error_says_what_to_do() {
    let _dog = watched();
    let stock = Lock::labeled("stock").unwrap();
    let held = stock.lock().unwrap();
    let relocked = stock.lock().unwrap_err().to_string();
    assert!(relocked.ends_with("waits for stock, which it holds itself: release it first"), "{relocked}");
    drop(held);
    let (here, there) = procession::pipe::<u8, u8>().unwrap();
    drop(there);
    for error in [here.send(1).unwrap_err().to_string(), here.recv().unwrap_err().to_string()] {
        assert!(error.contains("the other end of the pipe is gone"), "{error}");
    }
    let lost = Error::FamilyLost.to_string();
    assert!(lost.contains("SIGKILL") && lost.contains("memory") && lost.contains("next spawn"), "{lost}");
}
