//! The supervisor is killed while threads spawn. Each spawn succeeds or fails with an error, and none hangs.
#![allow(unsafe_code, reason = "stops processes")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::family::*;
use procession::{Error, Failure, Lock, Process};
use procession_testkit::{Audit, isolated};

#[test]
fn a_family_can_be_lost_again_and_again() {
    isolated!({
        let lock = Lock::new().unwrap();
        spawn_again(0);
        let (ptr, len, fd) = procession::internals::mapping();
        let mapping = procession_testkit::Mapping { addr: ptr, len, fd };
        let audit = Audit::start(Some(mapping)).allow_bytes(256 << 10);
        let threads = || proc_threads();
        let start = threads();
        for round in 0..10 {
            let children: Vec<_> = (0..round).map(|_| sleeper()).collect();
            let old = lose_it();
            children.iter().for_each(|p| assert_eq!(p.join().unwrap_err().failure(), &Failure::FamilyLost));
            spawn_again(old);
            let works = |lock: Lock| lock.lock().is_ok();
            assert_eq!(Process::spawn(works, (lock.clone(),)).unwrap().join(), Ok(true));
        }
        audit.assert_back();
        until("the watcher threads have ended", || threads() <= start);
    });
}

fn proc_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Spawns in several threads while the supervisor is killed again and again. Each spawn succeeds or fails
/// with an error.
fn spawn_while_it_is_lost(threads: usize, losses: u32) {
    static DONE: AtomicBool = AtomicBool::new(false);
    static SERVED: AtomicU32 = AtomicU32::new(0);
    static LOST: AtomicU32 = AtomicU32::new(0);
    let spawns = || {
        while !DONE.load(Ordering::SeqCst) {
            match Process::spawn(|n: u64| n + 1, (1,)).and_then(|p| Ok(p.join()?)) {
                Ok(value) => {
                    assert_eq!(value, 2);
                    SERVED.fetch_add(1, Ordering::SeqCst);
                }
                Err(Error::FamilyLost) => drop(LOST.fetch_add(1, Ordering::SeqCst)),
                Err(Error::Process(e)) if *e.failure() == Failure::FamilyLost => {
                    LOST.fetch_add(1, Ordering::SeqCst);
                }
                Err(e) => panic!("{e}"),
            }
        }
    };
    let spawners: Vec<_> = (0..threads).map(|_| thread::spawn(spawns)).collect();
    for _ in 0..losses {
        let before = SERVED.load(Ordering::SeqCst);
        until("some spawns have succeeded", || SERVED.load(Ordering::SeqCst) > before + 20);
        let supervisor = Process::spawn(|| std::os::unix::process::parent_id() as i32, ());
        if let Ok(Ok(pid)) = supervisor.map(|p| p.join()) {
            send(pid, libc::SIGKILL);
        }
    }
    DONE.store(true, Ordering::SeqCst);
    until("every spawner has returned", || spawners.iter().all(thread::JoinHandle::is_finished));
    spawners.into_iter().for_each(|t| t.join().unwrap());
    assert!(LOST.load(Ordering::SeqCst) > 0, "no spawn failed");
}

#[test]
fn a_spawn_during_the_loss_succeeds_or_fails() {
    isolated!({
        spawn_while_it_is_lost(4, 20);
    });
}

/// Restricts this thread to one processor. There, a thread that is interrupted in the middle of an operation
/// stays interrupted for a long time.
fn on_one_processor() {
    // SAFETY: the set is ours to write.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

#[test]
fn a_spawn_during_the_loss_succeeds_or_fails_on_one_processor() {
    isolated!({
        on_one_processor();
        spawn_while_it_is_lost(16, 60);
    });
}

#[test]
fn no_spawn_hangs_between_two_families() {
    isolated!({
        on_one_processor();
        for round in 0..100u32 {
            let old = lose_it();
            // In each round, the spawn comes at a different time after the loss.
            (0..round * 40).for_each(|_| std::hint::spin_loop());
            spawn_again(old);
        }
    });
}
