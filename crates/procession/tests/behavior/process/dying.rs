//! What a process holds is released when its last thread stops, although the kernel has not yet freed its memory.
#![allow(unsafe_code, reason = "ends one thread")]

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::thread;

use crate::family::*;
use procession::internals::Rule;
use procession::sync::LockError;
use procession::{Event, JoinableQueue, Lock, Pool, Process, Semaphore};
use procession_testkit::proc;

/// A process holds something, is killed, and this thread gets it. Returns whether it got it as after a death.
type Scene = fn() -> bool;

const SCENES: [(&str, Scene); 4] = [("lock", lock), ("permit", permit), ("lease", lease), ("task", task)];

/// The process that is killed; 0 before it is.
static KILLED: AtomicI32 = AtomicI32::new(0);

fn kill_holder(holder: Process<()>, holds: &Event) -> i32 {
    holds.wait().unwrap();
    let pid = holder.pid().unwrap();
    send(pid, libc::SIGKILL);
    KILLED.store(pid, SeqCst);
    std::mem::forget(holder);
    pid
}

fn lock() -> bool {
    let (lock, holds) = (Lock::new().unwrap(), Event::new().unwrap());
    let hold = |lock: Lock, holds: Event| {
        std::mem::forget(lock.lock().unwrap());
        holds.set().unwrap();
        forever();
    };
    let killed = kill_holder(Process::spawn(hold, (lock.clone(), holds.clone())).unwrap(), &holds);
    matches!(lock.lock(), Err(LockError::OwnerDied(who)) if who.pid == killed)
}

fn permit() -> bool {
    let (permits, holds) = (Semaphore::new(1).unwrap(), Event::new().unwrap());
    let hold = |permits: Semaphore, holds: Event| {
        std::mem::forget(permits.acquire().unwrap());
        holds.set().unwrap();
        forever();
    };
    kill_holder(Process::spawn(hold, (permits.clone(), holds.clone())).unwrap(), &holds);
    permits.acquire().is_ok()
}

fn lease() -> bool {
    let (queue, holds) = (JoinableQueue::<u32>::unbounded().unwrap(), Event::new().unwrap());
    queue.put(7).unwrap();
    let hold = |queue: JoinableQueue<u32>, holds: Event| {
        std::mem::forget(queue.get().unwrap());
        holds.set().unwrap();
        forever();
    };
    kill_holder(Process::spawn(hold, (queue.clone(), holds.clone())).unwrap(), &holds);
    queue.get().unwrap().attempt() == 2
}

/// The task goes to another worker.
fn task() -> bool {
    let work = |board: String| {
        if posted(&board, "first") {
            return true;
        }
        post(&board, "first", std::process::id());
        forever();
        false
    };
    let pool = Pool::builder().workers(2).retries(1).build().unwrap();
    let task = pool.submit(work, (my_board(),)).unwrap();
    let first = wait_for(&my_board(), "first").parse().unwrap();
    send(first, libc::SIGKILL);
    KILLED.store(first, SeqCst);
    let done = task.get().unwrap();
    // The end of a pool waits for the worker, which is never reaped here.
    std::mem::forget(pool);
    done
}

/// Runs a scene in a family whose supervisor never reaps, and which breaks a rule if one is given. Returns whether the
/// scene came to its end, or everybody fell asleep before.
fn ends_before_the_reaping(scene: &str, rule: Option<Rule>) -> bool {
    let _dog = watched();
    if let Some(name) = role() {
        let (_, scene) = SCENES.into_iter().find(|(its, _)| *its == name).expect("a scene");
        let supervisor = supervisor();
        let helpers = [supervisor, proc::ppid(supervisor).expect("it lives")];
        let run = thread::spawn(scene);
        let mut in_a_row = 0;
        until("the scene ends, or everybody sleeps", || {
            let all_sleep = proc::state(KILLED.load(SeqCst)) == Some('Z')
                && helpers.into_iter().all(|pid| proc::state(pid) == Some('S'));
            in_a_row = if all_sleep { in_a_row + 1 } else { 0 };
            run.is_finished() || in_a_row == 100
        });
        let ended = run.is_finished();
        assert!(!ended || run.join().unwrap(), "{name}: not as after a death");
        post(&my_board(), "ended", ended);
        forever();
    }
    let board = Board::new();
    let rules: Vec<Rule> = [Rule::Reaps].into_iter().chain(rule).collect();
    let mut main = Running::start(breaking(&mut program(scene, &board), rules));
    let ended = board.wait("ended") == "true";
    send(main.pid(), libc::SIGKILL);
    main.end();
    until_nothing_is_left(&board);
    ended
}

#[test]
fn what_a_dead_process_held_is_released_before_it_is_reaped() {
    for (scene, _) in SCENES {
        assert!(ends_before_the_reaping(scene, None), "{scene}");
    }
}

#[test]
fn without_the_rule_what_a_dead_process_held_waits_for_the_reaping() {
    for (scene, _) in SCENES {
        assert!(!ends_before_the_reaping(scene, Some(Rule::ReleasedEarly)), "{scene}");
    }
}

/// A process takes a lock in its first thread, which then ends alone. Returns whether the lock was taken from it.
fn loses_its_lock_with_a_thread(rule: Option<Rule>) -> bool {
    let _dog = watched();
    if role().is_some() {
        let (lock, supervisor) = (Lock::new().unwrap(), supervisor());
        let helpers = [supervisor, proc::ppid(supervisor).expect("it lives")];
        let hold = |lock: Lock| {
            std::mem::forget(lock.lock().unwrap());
            thread::spawn(forever);
            // SAFETY: ends this thread alone, as a foreign runtime might. Nothing that it borrowed is used afterwards.
            unsafe { libc::syscall(libc::SYS_exit, 1) };
        };
        let holder = Process::spawn(hold, (lock.clone(),)).unwrap();
        // (The number of the process is that of its first thread.)
        let thread_ended = || proc::state(holder.pid().unwrap()) == Some('Z');
        let mut in_a_row = 0;
        until("the lock was taken away, or everybody sleeps", || {
            let all_sleep = thread_ended() && helpers.into_iter().all(|pid| proc::state(pid) == Some('S'));
            in_a_row = if all_sleep { in_a_row + 1 } else { 0 };
            !lock.is_locked() && thread_ended() || in_a_row == 100
        });
        post(&my_board(), "lost", !lock.is_locked());
        forever();
    }
    let board = Board::new();
    let mut main = Running::start(breaking(&mut program("main", &board), rule));
    let lost = board.wait("lost") == "true";
    send(main.pid(), libc::SIGKILL);
    main.end();
    until_nothing_is_left(&board);
    lost
}

#[test]
fn a_process_that_loses_a_thread_keeps_its_lock() {
    assert!(!loses_its_lock_with_a_thread(None));
}

#[test]
fn without_the_rule_a_process_that_loses_a_thread_loses_its_lock() {
    assert!(loses_its_lock_with_a_thread(Some(Rule::EveryThreadExits)));
}

/// Where the kernel cannot wait for several words, the supervisor recovers a process when it reaps it.
#[test]
fn an_old_kernel_recovers_the_dead_when_they_are_reaped() {
    let _dog = watched();
    if role().is_some() {
        assert!(lock());
        return;
    }
    let board = Board::new();
    succeeds(breaking(&mut program("main", &board), Some(Rule::WaitsForAny)));
    until_nothing_is_left(&board);
}
