//! Many processes: at the same time, one after the other, from many threads, and in many generations. One
//! test is about an idle family.
#![allow(unsafe_code, reason = "asks for the length of a tick")]

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use crate::family::*;
use procession::{Lock, Process};
use procession_testkit::{Audit, Mapping, isolated, proc};

fn mapping() -> Mapping {
    let (addr, len, fd) = procession::internals::mapping();
    Mapping { addr, len, fd }
}

/// Returns the bytes of memory that the arena takes up.
fn arena_bytes() -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{}", mapping().fd)).unwrap().blocks() * 512
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_thousand_children_can_live_at_the_same_time() {
    isolated!({
        let lock = Lock::new().unwrap();
        let held = lock.lock().unwrap();
        let waits = |lock: Lock, n: u64| lock.lock().map(|_| (n, std::process::id())).unwrap();
        let crowd: Vec<_> = (0..1000).map(|n| Process::spawn(waits, (lock.clone(), n)).unwrap()).collect();
        until("all wait", || format!("{lock:?}").contains("waiters: 1000"));
        assert!(crowd.iter().all(Process::is_alive));
        assert_eq!(procession::active_children().unwrap().len(), 1000);
        drop(held);
        let results: Vec<_> = crowd.iter().map(|p| p.join().unwrap()).collect();
        assert!(results.iter().zip(0..).all(|(&(n, _), expected)| n == expected));
        assert_eq!(results.iter().map(|&(_, pid)| pid).collect::<HashSet<_>>().len(), 1000);
        drop(crowd);
        let supervisor = supervisor();
        until("only the spares are left", || proc::descendants(supervisor).len() <= 8);
    });
}

#[test]
fn thousands_of_children_in_a_row_leave_nothing() {
    const ROUNDS: u64 = if cfg!(debug_assertions) { 2000 } else { 10_000 };
    isolated!({
        let lock = Lock::new().unwrap();
        let add = |lock: Lock, text: String, n: u64| lock.lock().map(|_| format!("{text}{n}")).unwrap();
        let round = |n| {
            let p = Process::spawn(add, (lock.clone(), "n".repeat(n as usize % 500), n)).unwrap();
            assert!(p.join().unwrap().ends_with(&n.to_string()));
        };
        (0..1000).for_each(round); // texts of every length
        let supervisor = supervisor();
        let audit = Audit::start(Some(mapping())).allow_bytes(512 << 10);
        let (bytes, fds) = (arena_bytes(), descriptors(supervisor));
        let objects = procession::internals::census().objects;
        (0..ROUNDS).for_each(round);
        audit.assert_back();
        let slack = 512 << 10;
        until("the arena is as large as before", || arena_bytes() <= bytes + slack);
        assert_eq!(descriptors(supervisor), fds);
        assert!(procession::internals::census().objects <= objects + 64, "the collector has not kept up");
        until("only the spares are left", || proc::descendants(supervisor).len() <= 8);
    });
}

#[test]
fn thousands_of_killed_children_in_a_row_leave_nothing() {
    isolated!({
        let lock = Lock::new().unwrap();
        let hold = |lock: Lock| {
            let _held = lock.lock_or_recover();
            let _more: Vec<_> = (0..20).map(|_| Lock::new().unwrap()).collect();
            forever();
        };
        let round = |n: u32| {
            let p = Process::spawn(hold, (lock.clone(),)).unwrap();
            (0..n % 50 * 1000).for_each(|_| std::hint::spin_loop());
            p.kill().unwrap();
            assert!(p.join().unwrap_err().to_string().contains("signal 9"));
        };
        (0..100).for_each(round);
        let audit = Audit::start(Some(mapping())).allow_bytes(512 << 10);
        (0..1000).for_each(round);
        assert!(lock.lock_or_recover().is_ok());
        audit.assert_back();
        until("only one lock is left", || procession::internals::census().objects == 1);
    });
}

#[test]
fn two_hundred_threads_can_spawn_at_the_same_time() {
    isolated!({
        let start = std::sync::Barrier::new(200);
        let results: Vec<_> = thread::scope(|scope| {
            let spawns = |n: u64| {
                start.wait();
                let p = Process::spawn(|n: u64| (n, std::process::id()), (n,)).unwrap();
                (n, p.join())
            };
            let threads: Vec<_> = (0..200).map(|n| scope.spawn(move || spawns(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            results.iter().all(|(n, result)| result.as_ref().is_ok_and(|(back, _)| back == n)),
            "{results:?}"
        );
        let pids: HashSet<_> = results.iter().map(|(_, result)| result.as_ref().unwrap().1).collect();
        assert_eq!(pids.len(), 200);
    });
}

#[test]
fn thousands_of_threads_use_a_lock_and_end() {
    isolated!({
        let lock = Lock::new().unwrap();
        let uses = |lock: Lock| {
            let before = procession::internals::census().records;
            for _ in 0..300 {
                let threads: Vec<_> = (0..8).map(|_| lock.clone()).collect();
                let threads =
                    threads.into_iter().map(|lock| thread::spawn(move || drop(lock.lock().unwrap())));
                threads.collect::<Vec<_>>().into_iter().for_each(|t| t.join().unwrap());
            }
            until("the records of the threads are free", || {
                procession::internals::census().records <= before
            });
        };
        drop(lock.lock().unwrap());
        uses(lock.clone());
        Process::spawn(uses, (lock.clone(),)).unwrap().join().unwrap();
    });
}

fn tree(depth: u32, breadth: u32) -> u32 {
    if depth == 0 {
        return 1;
    }
    let children: Vec<_> =
        (0..breadth).map(|_| Process::spawn(tree, (depth - 1, breadth)).unwrap()).collect();
    1 + children.iter().map(|p| p.join().unwrap()).sum::<u32>()
}

#[test]
fn a_tree_of_children_four_deep_grows() {
    let _dog = watched();
    assert_eq!(tree(4, 4), 1 + 4 + 16 + 64 + 256);
}

#[test]
fn processes_spawn_and_kill_each_other_across_the_family() {
    let _dog = watched();
    let make = || (0..20).map(|_| sleeper()).collect::<Vec<_>>();
    let makers: Vec<_> = (0..5).map(|_| Process::spawn(make, ()).unwrap()).collect();
    let sleepers: Vec<_> = makers.iter().flat_map(|p| p.join().unwrap()).collect();
    assert!(sleepers.iter().all(Process::is_alive));
    let kill = |victims: Vec<Process<()>>| {
        victims.iter().for_each(|p| p.kill().unwrap());
        victims.iter().all(|p| p.join().is_err_and(|e| e.to_string().contains("signal 9")))
    };
    let killers: Vec<_> =
        sleepers.chunks(30).map(|some| Process::spawn(kill, (some.to_vec(),)).unwrap()).collect();
    killers.iter().for_each(|p| assert_eq!(p.join(), Ok(true)));
    assert!(sleepers.iter().all(|p| !p.is_alive() && p.join().is_err()));
}

#[test]
fn an_idle_family_uses_no_processor() {
    isolated!({
        let lock = Lock::new().unwrap();
        let held = lock.lock().unwrap();
        let waits = Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)).unwrap();
        let joins = Process::spawn(|p: Process<()>| p.join().is_ok(), (waits.clone(),)).unwrap();
        let sleeps = sleeper();
        let joining = thread::spawn({
            let waits = waits.clone();
            move || waits.join()
        });
        until("all wait", || format!("{lock:?}").contains("waiters: 1"));
        let supervisor = supervisor();
        let mut all = vec![supervisor, std::process::id() as i32];
        all.extend(proc::descendants(supervisor));
        assert!(all.len() >= 5);
        let ticks = || all.iter().map(|&pid| proc::cpu_ticks(pid).unwrap_or(0)).sum::<u64>();
        // No process may run or wake up during one of these sleeps. At first, the family may still be busy
        // with its start, so the test repeats the measurement.
        until("400 ms pass in which no process runs", || {
            let before = ticks();
            thread::sleep(Duration::from_millis(400));
            ticks() <= before + 1
        });
        let switches = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        let family = [
            supervisor,
            waits.pid().unwrap().cast_signed(),
            joins.pid().unwrap().cast_signed(),
            sleeps.pid().unwrap().cast_signed(),
        ];
        until("400 ms pass in which no process wakes up", || {
            let before = family.map(switches);
            thread::sleep(Duration::from_millis(400));
            family.map(switches) == before
        });
        drop(held);
        assert_eq!(joining.join().unwrap(), Ok(()));
        assert_eq!(joins.join(), Ok(true));
        sleeps.kill().unwrap();
    });
}
