//! While the supervisor is stopped, no dead process is recovered. The `Debug` output of a handle reports
//! this.

use crate::family::*;
use procession::sync::{Mutex, RwLock};
use procession::{Lock, Process};
use procession_testkit::{isolated, proc};

#[test]
fn debug_output_of_a_lock_shows_a_stopped_supervisor() {
    isolated!({
        let (lock, mutex, shared) = (Lock::new().unwrap(), Mutex::new(1).unwrap(), RwLock::new(1).unwrap());
        let holds = |lock: Lock, mutex: Mutex<i32>, shared: RwLock<i32>, board: String| {
            let _held = (lock.lock().unwrap(), mutex.lock().unwrap(), shared.write().unwrap());
            post(&board, "held", "");
            forever();
        };
        let board = Board::new();
        let args = (lock.clone(), mutex.clone(), shared.clone(), board.path());
        let holder = Process::builder().name("holder").daemon(true).spawn(holds, args).unwrap();
        board.wait("held");
        let (pid, supervisor) = (holder.pid().unwrap(), supervisor());
        let texts = || [format!("{lock:?}"), format!("{mutex:?}"), format!("{shared:?}")];
        texts().iter().for_each(|text| assert!(text.contains("holder: \"holder (pid "), "{text}"));
        send(supervisor, libc::SIGSTOP);
        until("the supervisor is stopped", || proc::state(supervisor) == Some('T'));
        send(pid, libc::SIGKILL);
        until("the holder is dead", || proc::gone(pid));
        let expected = format!("dead, awaiting recovery; the supervisor (pid {supervisor}) is stopped");
        texts().iter().for_each(|text| assert!(text.contains(&expected), "{text}"));
        send(supervisor, libc::SIGCONT);
        assert!(holder.join().is_err());
        assert!(lock.lock().is_err(), "the lock is poisoned");
        texts().iter().for_each(|text| assert!(!text.contains("awaiting"), "{text}"));
    });
}
