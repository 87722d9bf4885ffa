//! The kernel refuses a system call a few times, because descriptors, memory or processes have run out, or a
//! permission is missing. The library's operation succeeds or fails with an error, and the family works
//! afterwards.
//!
//! Each test counts the kinds of calls that its operation makes, in main, in the supervisor and in the children. Then
//! it repeats the operation once for each kind and each error.

use std::time::Duration;

use crate::family::*;
use procession::internals::{self, Call, Role, Rule};
use procession::pool::{Pool, TaskError};
use procession::{Process, Queue};
use procession_testkit::isolated;

const ERRORS: [i32; 6] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EPERM, libc::EINTR];

/// The number of calls in a row that are refused.
const TIMES: u32 = 3;

/// The time limit of tasks that never end. Every task with this limit is expected to overrun it.
const SOON: Duration = Duration::from_millis(20);

/// For each kind of call that the operation makes, and for each error, runs the operation while such calls
/// fail with the error. The calls must include all of `expected`.
fn with_each_call_refused(expected: &[(Role, Call)], operation: impl Fn()) {
    let _dog = procession_testkit::watchdog(Duration::from_secs(300));
    let faults = internals::faults();
    operation();
    faults.count();
    // A call may depend on who is faster. A worker that has ended need not be killed, for example.
    for &(role, call) in expected {
        until(&format!("{role:?} makes the call {call:?}"), || {
            operation();
            faults.made(role, call) > 0
        });
    }
    faults.disarm();
    let all = Role::ALL.into_iter().flat_map(|role| Call::ALL.map(|call| (role, call)));
    let made: Vec<_> = all.filter(|&(role, call)| faults.made(role, call) > 0).collect();
    for (role, call) in made {
        for errno in ERRORS {
            println!("{role:?} {call:?} {errno}");
            faults.arm(role, call, errno, TIMES);
            operation();
            faults.disarm();
            works();
        }
    }
}

/// Asserts that the family can spawn and join.
fn works() {
    assert_eq!(Process::spawn(|n: u32| n + 1, (4u32,)).unwrap().join(), Ok(5));
}

/// Kills a process, and repeats the kill while the kernel refuses it.
fn end(p: &Process<()>) {
    until("the process can be killed", || p.kill().is_ok());
    p.join().unwrap_err();
}

fn parent() -> i32 {
    std::os::unix::process::parent_id() as i32
}

#[test]
fn spawning_and_joining_survive_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::Wake), (Role::Supervisor, Call::Fork)], || {
            for p in (0..6).flat_map(|n: u32| Process::spawn(|n: u32| n * 2, (n,))) {
                p.join().unwrap();
            }
        });
    });
}

#[test]
fn spawning_with_options_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::Send), (Role::Child, Call::Receive)], || {
            if let Ok(p) = everything().spawn(|n: u32| n * 2, (4u32,)) {
                assert_eq!(p.join(), Ok(8));
            }
        });
    });
}

#[test]
fn signals() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::OpenPidfd), (Role::Main, Call::SignalPidfd)], || {
            if let Ok(p) = Process::spawn(forever, ()) {
                until("the process can be asked to end", || p.terminate().is_ok());
                assert!(p.join().unwrap_err().to_string().contains("signal 15"));
            }
            if let Ok(p) = Process::spawn(forever, ()) {
                end(&p);
            }
        });
    });
}

#[test]
fn the_next_supervisor_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::Launch), (Role::Main, Call::StartThread)], || {
            let old = Process::spawn(parent, ()).and_then(|p| Ok(p.join()?)).ok();
            old.into_iter().for_each(|old| send(old, libc::SIGKILL));
            until("another family serves", || {
                let new = Process::spawn(parent, ()).and_then(|p| Ok(p.join()?));
                new.is_ok_and(|new| Some(new) != old)
            });
        });
    });
}

/// Main kills the guard of a supervisor that it cannot watch. The supervisor that this guard had forked must not serve
/// the next launch.
#[test]
fn a_supervisor_that_cannot_be_watched_is_gone_before_the_next() {
    isolated!({
        works();
        let faults = internals::faults();
        for _ in 0..40 {
            let old = supervisor();
            send(old, libc::SIGKILL);
            faults.arm(Role::Main, Call::StartThread, libc::ENOMEM, 2);
            until("another family serves", || {
                let new = Process::spawn(parent, ()).and_then(|p| Ok(p.join()?));
                new.is_ok_and(|new| new != old)
            });
            faults.disarm();
        }
    });
}

#[test]
fn killing_orphans_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Supervisor, Call::Kill), (Role::Supervisor, Call::ReadFile)], || {
            let start = || std::process::Command::new("sleep").arg("1000").spawn().unwrap().id() as i32;
            if let Ok(p) = Process::spawn(start, ()) {
                until_gone(&[p.join().unwrap()]);
            }
        });
    });
}

#[test]
fn a_task_s_time_limit_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::OpenPidfd), (Role::Main, Call::SignalPidfd)], || {
            let Ok(pool) = Pool::builder().workers(1).build() else { return };
            let slow = pool.with_task_timeout(SOON).unwrap().submit(|| -> () { park() }, ()).unwrap();
            let error = slow.get().unwrap_err();
            assert!(matches!(error, TaskError::TimedOut { .. }), "{error:?}");
            assert_eq!(pool.apply(|| 2, ()), Ok(2));
        });
    });
}

#[test]
fn cancelling_a_task_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::OpenPidfd)], || {
            let Ok(pool) = Pool::new(1) else { return };
            let begun = Queue::<i32>::unbounded().unwrap();
            let task = pool.submit(
                |begun: Queue<i32>| {
                    begun.put(std::process::id() as i32).unwrap();
                    park()
                },
                (begun.clone(),),
            );
            let task: procession::pool::Task<()> = task.unwrap();
            let pid = begun.get().unwrap();
            assert!(task.cancel());
            assert_eq!(task.get(), Err(TaskError::Cancelled));
            until_gone(&[pid]);
            assert_eq!(pool.apply(|| 2, ()), Ok(2));
        });
    });
}

#[test]
fn terminating_a_pool_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::OpenPidfd)], || {
            let Ok(pool) = Pool::new(2) else { return };
            let tasks = [(); 3].map(|()| pool.submit(|| -> () { park() }, ()).unwrap());
            pool.terminate().unwrap();
            pool.join().unwrap();
            tasks.iter().for_each(|task| assert_eq!(task.get(), Err(TaskError::Terminated)));
        });
    });
}

#[test]
fn resizing_a_pool_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Supervisor, Call::Fork)], || {
            let Ok(pool) = Pool::new(1) else { return };
            pool.resize(6).unwrap();
            until("there are six workers", || pool.stats().pids.len() == 6);
            pool.resize(2).unwrap();
            until("there are two workers", || pool.stats().pids.len() == 2);
            assert_eq!(pool.apply(|| 2, ()), Ok(2));
        });
    });
}

#[test]
fn replacing_a_worker_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Supervisor, Call::Fork), (Role::Supervisor, Call::Reap)], || {
            let Ok(pool) = Pool::new(1) else { return };
            until("the worker is there", || !pool.stats().pids.is_empty());
            for pid in pool.stats().pids {
                send(pid, libc::SIGKILL);
            }
            let again = pool.with_retries(5);
            assert_eq!(again.map(|n: u32| n + 1, 0..50u32).unwrap(), (1..51).collect::<Vec<_>>());
        });
    });
}

#[test]
fn maps_and_callbacks_survive_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Main, Call::StartThread), (Role::Child, Call::Wake)], || {
            let Ok(pool) = Pool::new(2) else { return };
            assert_eq!(pool.map(|n: u32| n + 1, 0..500u32).unwrap().len(), 500);
            assert_eq!(pool.imap_unordered(|n: u32| n + 1, 0..500u32).count(), 500);
            if let Ok(task) = pool.submit_map(|n: u32| n + 1, 0..500u32) {
                assert_eq!(task.get().unwrap().len(), 500);
            }
            let (tell, told) = std::sync::mpsc::channel();
            let task = pool.submit(|| 3, ()).unwrap();
            if task.on_done(move |result| tell.send(result).unwrap()).is_ok() {
                assert_eq!(told.recv().unwrap(), Ok(3));
            }
        });
    });
}

#[test]
fn ending_the_workers_of_a_dead_creator_survives_refused_calls() {
    isolated!({
        with_each_call_refused(&[(Role::Supervisor, Call::Kill)], || {
            let make = |pids: Queue<Vec<u32>>| {
                let pool = Pool::new(2).unwrap();
                let _busy = [(); 2].map(|()| pool.submit(|| -> () { park() }, ()).unwrap());
                until("both workers are there", || pool.stats().pids.len() == 2);
                pids.put(pool.stats().pids).unwrap();
                forever();
            };
            let pids = Queue::<Vec<u32>>::unbounded().unwrap();
            let Ok(maker) = Process::builder().daemon(true).spawn(make, (pids.clone(),)) else { return };
            // The refused calls may keep the creator from creating its pool. Then the creator panics.
            let sources: [&dyn procession::queue::Ready; 2] = [&pids, &maker];
            if procession::select(&sources) == Ok(0) {
                let workers = pids.get().unwrap();
                end(&maker);
                until_gone(&workers);
            }
        });
    });
}

/// The test ends main, so main must be a separate program.
#[test]
fn the_end_of_the_family_survives_refused_calls() {
    let _dog = procession_testkit::watchdog(Duration::from_secs(300));
    if let Some(role) = role() {
        let words: Vec<u32> = role.split(' ').map(|word| word.parse().unwrap()).collect();
        let pool = Pool::new(1).unwrap();
        let _busy = pool.submit(|| -> () { park() }, ()).unwrap();
        let daemon = Process::builder().daemon(true).spawn(ignores_sigterm, ()).unwrap();
        post(&my_board(), "pid", daemon.pid().unwrap());
        let faults = internals::faults();
        if let [role, call, errno] = words[..] {
            faults.arm(Role::ALL[role as usize], Call::ALL[call as usize], errno as i32, TIMES);
        }
        return std::mem::forget(pool);
    }
    let calls = [
        (Role::Main, Call::Kill),
        (Role::Main, Call::Poll),
        (Role::Main, Call::OpenPidfd),
        (Role::Supervisor, Call::Kill),
        (Role::Supervisor, Call::Poll),
        (Role::Supervisor, Call::Wait),
        (Role::Supervisor, Call::Reap),
        (Role::Supervisor, Call::ReadFile),
        (Role::Supervisor, Call::ReadSignals),
    ];
    for (role, call) in calls {
        for errno in ERRORS {
            println!("{role:?} {call:?} {errno}");
            let board = Board::new();
            succeeds(&mut program(&format!("{} {} {errno}", role as u32, call as u32), &board));
            until_nothing_is_left(&board);
        }
    }
}

fn ignores_sigterm() {
    ignore_signals();
    forever();
}

/// The keeper repeats the kill of a worker until the kill succeeds.
#[test]
fn a_refused_kill_is_repeated_until_it_succeeds() {
    isolated!({
        let pool = Pool::new(1).unwrap();
        let hasty = pool.with_task_timeout(SOON).unwrap();
        let faults = internals::faults();
        for call in [Call::OpenPidfd, Call::SignalPidfd] {
            let task = hasty.submit(|| -> () { park() }, ()).unwrap();
            faults.count();
            faults.arm(Role::Main, call, libc::EMFILE, u32::MAX);
            until("the kill was tried three times", || faults.made(Role::Main, call) >= 3);
            assert_eq!(task.try_get(), Err(TaskError::NotDone));
            faults.disarm();
            let ended = task.get();
            assert!(matches!(ended, Err(TaskError::TimedOut { .. })), "{ended:?}");
            assert_eq!(pool.apply(|| 2, ()), Ok(2));
        }
    });
}

/// A program has no free descriptors for a while. As soon as some are free, the library completes the
/// operations that need them.
#[test]
fn a_program_recovers_from_running_out_of_descriptors() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 64)], {
        let pool = Pool::new(2).unwrap();
        let limited = pool.with_task_timeout(SOON).unwrap();
        assert_eq!(pool.map(|n: u32| n, 0..8u32).unwrap().len(), 8);
        let mut held = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            held.push(file);
        }
        let faults = internals::faults();
        faults.count();
        let tried =
            |times: u32| until("a kill was tried", || faults.made(Role::Main, Call::OpenPidfd) >= times);
        let slow = limited.submit(|| -> () { park() }, ()).unwrap();
        let cancelled = pool.submit(|| -> () { park() }, ()).unwrap();
        until("both tasks run", || pool.stats().running == 2);
        tried(1);
        assert!(cancelled.cancel());
        tried(4);
        drop(held);
        assert!(matches!(slow.get(), Err(TaskError::TimedOut { .. })));
        assert_eq!(cancelled.get(), Err(TaskError::Cancelled));
        assert_eq!(pool.apply(|| 2, ()), Ok(2));
    });
}

/// Sends a signal while the kernel refuses to send signals. Returns how the receiver ends.
fn end_where_signals_are_refused(
    signal: fn(&Process<()>) -> procession::Result<()>,
) -> Result<String, String> {
    let p = sleeper();
    let faults = internals::faults();
    faults.arm(Role::Main, Call::SignalPidfd, libc::EPERM, u32::MAX);
    let sent = signal(&p);
    faults.disarm();
    let ended = sent.map_err(|e| e.to_string()).map(|()| p.join().unwrap_err().to_string());
    let _ = p.kill();
    ended
}

#[test]
fn the_supervisor_sends_what_the_kernel_does_not_permit() {
    isolated!({
        for _ in 0..20 {
            let killed = end_where_signals_are_refused(|p| p.kill()).unwrap();
            assert!(killed.contains("signal 9"), "{killed}");
            let terminated = end_where_signals_are_refused(|p| p.terminate()).unwrap();
            assert!(terminated.contains("signal 15"), "{terminated}");
        }
    });
}

#[test]
fn without_the_rule_a_signal_that_is_not_permitted_is_an_error() {
    isolated!({
        works();
        internals::break_rule(Rule::SupervisorSignals);
        until("it has begun", || end_where_signals_are_refused(|p| p.kill()).is_err());
    });
}
