//! Clean exits. They cannot tear off another running thread, so recovery need not wake all sleepers
//! afterwards.
#![allow(unsafe_code, reason = "ends processes by every means that C has")]

use std::thread;

use crate::family::*;
use procession::internals::{self, event};
use procession::sync::{Condvar, Mutex};
use procession::{Failure, Message, Process, ProcessError, process::Entry};
use procession_testkit::isolated;

/// A thread of main that sleeps on a condition variable. Each sweep wakes the thread and counts an event.
struct Sleeper {
    condvar: Condvar,
    sweeps: u32,
}

impl Sleeper {
    fn new() -> Sleeper {
        let (mutex, condvar) = (Mutex::new(0u32).unwrap(), Condvar::new().unwrap());
        let its = condvar.clone();
        thread::spawn(move || drop(its.wait_while(mutex.lock().unwrap(), |_| true)));
        until("it sleeps", || format!("{condvar:?}").contains("waiters: 1"));
        Sleeper { condvar, sweeps: 0 }
    }

    /// Runs a process to its end. Returns how the process ended, and whether a sweep followed.
    fn is_woken_by<R: Message>(&mut self, f: impl Entry<(), Output = R>) -> (Result<R, ProcessError>, bool) {
        let p = Process::spawn(f, ()).unwrap();
        let (ended, pid) = (p.join(), p.pid().unwrap());
        // The process leaves the process table after it has been recovered.
        until_gone(&[pid]);
        let before =
            std::mem::replace(&mut self.sweeps, internals::condvar_events(&self.condvar) / event::ONE);
        (ended, self.sweeps != before)
    }
}

/// Calls `_exit` when it is dropped.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
}

thread_local!(static LEAVES: Leaves = const { Leaves });

extern "C" fn leave() {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn leaves_a_thread_behind() -> u32 {
    thread::spawn(forever);
    7
}

#[test]
fn an_exit_is_clean_only_if_it_tears_off_no_thread() {
    isolated!({
        let mut sleeper = Sleeper::new();
        sleeper.is_woken_by(|| ()).0.unwrap();
        for _ in 0..3 {
            assert_eq!(sleeper.is_woken_by(|| 7), (Ok(7), false), "a process of one thread");
            assert_eq!(sleeper.is_woken_by(leaves_a_thread_behind), (Ok(7), true), "one thread still ran");
        }
        let leaves_in_a_destructor = || LEAVES.with(|_| 7);
        assert_eq!(sleeper.is_woken_by(leaves_in_a_destructor), (Ok(7), true), "`_exit` in a destructor");
        let leaves_in_a_handler = || {
            // SAFETY: registers a function without arguments.
            unsafe { libc::atexit(leave) };
            7
        };
        assert_eq!(sleeper.is_woken_by(leaves_in_a_handler), (Ok(7), true), "`_exit` in an exit handler");
        let (ended, swept) = sleeper.is_woken_by(|| -> () { std::process::exit(0) });
        assert_eq!(ended.unwrap_err().failure(), &Failure::Exited { code: 0 });
        assert!(swept, "`exit` in the middle of the function");
    });
}

/// An exit does not tear off a thread that ended before. The library asks the kernel whether another thread
/// exists.
#[test]
fn an_exit_after_all_threads_have_ended_is_clean() {
    isolated!({
        let mut sleeper = Sleeper::new();
        sleeper.is_woken_by(|| ()).0.unwrap();
        let had_a_thread = || {
            thread::spawn(|| ()).join().unwrap();
            // The kernel may count a thread for a moment after it was joined.
            until("the other thread is gone", || std::fs::read_dir("/proc/self/task").unwrap().count() == 1);
        };
        assert_eq!(sleeper.is_woken_by(had_a_thread), (Ok(()), false));
    });
}
