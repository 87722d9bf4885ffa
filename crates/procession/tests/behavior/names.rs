//! The names of processes that were spawned without one.
#![allow(clippy::redundant_closure, reason = "the test is about the names of closures")]

use crate::family::*;
use procession::process::Builder;
use procession::sync::LockError;
use procession::{Lock, Process, Queue, current_process};
use procession_testkit::proc;

fn own_name() -> String {
    current_process().unwrap().name()
}

#[test]
fn a_process_is_named_after_its_function() {
    fn generic<T: Default>(_: T) -> String {
        own_name()
    }
    trait Shop {
        fn sell() -> String;
    }
    struct Till<T>(T);
    impl<T> Shop for Till<T> {
        fn sell() -> String {
            own_name()
        }
    }
    let inside = || {
        fn nested() -> String {
            own_name()
        }
        Process::spawn(nested, ()).unwrap().join().unwrap()
    };
    assert_eq!(Process::spawn(own_name, ()).unwrap().join().unwrap(), "own_name");
    assert_eq!(Process::builder().spawn(own_name, ()).unwrap().join().unwrap(), "own_name");
    assert_eq!(Process::spawn(generic::<Vec<Option<u8>>>, (vec![],)).unwrap().join().unwrap(), "generic");
    assert_eq!(Process::spawn(generic::<[u8; 3]>, ([0; 3],)).unwrap().join().unwrap(), "generic");
    assert_eq!(Process::spawn(Till::<fn(u8) -> u8>::sell, ()).unwrap().join().unwrap(), "sell");
    assert_eq!(Process::spawn(<Till<String> as Shop>::sell, ()).unwrap().join().unwrap(), "sell");
    assert_eq!(inside(), "nested");
}

#[test]
fn a_process_is_named_after_the_place_of_its_closure() {
    let name = Process::spawn(|| own_name(), ()).unwrap().join().unwrap();
    assert_eq!(name, format!("closure@names.rs:{}", line!() - 1));
    let name = Process::builder().daemon(true).spawn(|| own_name(), ()).unwrap().join().unwrap();
    assert_eq!(name, format!("closure@names.rs:{}", line!() - 1));
    let builder: Builder = Process::builder().nice(1);
    let name = builder.spawn(|| own_name(), ()).unwrap().join().unwrap();
    assert_eq!(name, format!("closure@names.rs:{}", line!() - 1));
    assert_eq!(Process::builder().name("given").spawn(|| own_name(), ()).unwrap().join().unwrap(), "given");
}

#[test]
fn a_helper_function_can_pass_on_its_caller_s_place() {
    #[track_caller]
    fn helper() -> String {
        Process::spawn(|| own_name(), ()).unwrap().join().unwrap()
    }
    assert_eq!(helper(), format!("closure@names.rs:{}", line!()));
}

#[test]
fn errors_and_debug_output_name_the_closure() {
    let (lock, held) = (Lock::new().unwrap(), Queue::bounded(1).unwrap());
    let hold = |lock: Lock, held: Queue<()>| {
        let _guard = lock.lock().unwrap();
        held.put(()).unwrap();
        forever();
    };
    let name = format!("closure@names.rs:{}", line!() + 1);
    let p = Process::builder().daemon(true).spawn(hold, (lock.clone(), held.clone())).unwrap();
    held.get().unwrap();
    assert_eq!(p.name(), name);
    assert!(format!("{lock:?}").contains(&name), "{lock:?}");
    assert_eq!(proc::comm(p.pid().unwrap()).unwrap(), name.trim_start_matches("closure@"));
    p.kill().unwrap();
    let error = p.join().unwrap_err().to_string();
    assert!(error.starts_with(&format!("process {name} (pid ")), "{error}");
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(owner)) if owner.name == name));
}
