//! A process exits or loses its family while its threads write under a lock. No other process gets the lock
//! until the last of these threads has stopped.

use std::hint::black_box;
use std::thread;

use crate::family::*;
use procession::sync::Mutex;
use procession::{Failure, Process};
use procession_testkit::isolated;

type Numbers = Mutex<[u64; 2]>;

/// Spawns a thread that writes under the mutex for ever. Another thread ends the process.
fn write(numbers: &Numbers) {
    let (began, told) = std::sync::mpsc::channel();
    let numbers = numbers.clone();
    thread::spawn(move || {
        let mut held = numbers.lock_or_recover().unwrap();
        began.send(()).unwrap();
        loop {
            held[0] += 1;
            black_box(&mut *held);
        }
    });
    told.recv().unwrap();
}

/// Acquires the mutex that the process `pid` held when it ended, and checks for a while that the value does
/// not change.
fn keeps_still(numbers: &Numbers, pid: u32) {
    let held = numbers.lock_or_recover().unwrap();
    assert_eq!(held.recovered_from().map(|who| who.pid), Some(pid));
    let before = *black_box(&held[0]);
    for _ in 0..1000 {
        thread::yield_now();
        assert_eq!(*black_box(&held[0]), before, "a thread of {pid} still writes");
    }
}

#[test]
fn a_mutex_is_released_when_the_last_thread_has_stopped() {
    let _dog = watched();
    let numbers = Numbers::new([0; 2]).unwrap();
    for _ in 0..20 {
        let returns = Process::spawn(|numbers: Numbers| write(&numbers), (numbers.clone(),)).unwrap();
        returns.join().unwrap();
        keeps_still(&numbers, returns.pid().unwrap());
        let exits = |numbers: Numbers| -> () {
            write(&numbers);
            std::process::exit(3)
        };
        let exits = Process::spawn(exits, (numbers.clone(),)).unwrap();
        assert_eq!(exits.join().unwrap_err().failure(), &Failure::Exited { code: 3 });
        keeps_still(&numbers, exits.pid().unwrap());
    }
}

#[test]
fn a_mutex_is_released_when_a_lost_family_has_stopped() {
    isolated!({
        let numbers = Numbers::new([0; 2]).unwrap();
        for _ in 0..5 {
            let board = Board::new();
            let writes = |numbers: Numbers, board: String| {
                write(&numbers);
                post(&board, "writes", "");
                forever();
            };
            let p = Process::spawn(writes, (numbers.clone(), board.path())).unwrap();
            board.wait("writes");
            let pid = p.pid().unwrap();
            let old = lose_it();
            keeps_still(&numbers, pid);
            assert_eq!(p.join().unwrap_err().failure(), &Failure::FamilyLost);
            spawn_again(old);
        }
    });
}
