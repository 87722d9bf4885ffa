//! The objects that a process holds are released when its last thread stops, even if the process is not
//! reaped yet.
#![allow(unsafe_code, reason = "ends one thread")]

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::thread;

use crate::family::*;
use procession::internals::Rule;
use procession::sync::LockError;
use procession::{Event, JoinableQueue, Lock, Pool, Process, Semaphore};
use procession_testkit::proc;

/// A process acquires an object and is killed, and then this thread acquires the object. Returns whether the
/// object shows that its holder died.
type Scene = fn() -> bool;

const SCENES: [(&str, Scene); 4] = [("lock", lock), ("permit", permit), ("lease", lease), ("task", task)];

/// The process id of the killed process, or 0 before the kill.
static KILLED: AtomicI32 = AtomicI32::new(0);

fn kill_holder(holder: Process<()>, holds: &Event) -> i32 {
    holds.wait().unwrap();
    let pid = holder.pid().unwrap().cast_signed();
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
    matches!(lock.lock(), Err(LockError::OwnerDied(who)) if who.pid.cast_signed() == killed)
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

/// The worker is killed, and another worker gets its task.
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
    // Dropping the pool would wait for the killed worker, which is never reaped here.
    std::mem::forget(pool);
    done
}

/// Runs a scene in a family whose supervisor never reaps. The family also breaks `rule`, if there is one.
/// Returns false if the supervisor and the guard fall asleep before the scene ends.
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

/// The first thread of a process acquires a lock and ends, while another thread lives on. Returns whether the
/// process lost the lock.
fn loses_its_lock_with_a_thread(rule: Option<Rule>) -> bool {
    let _dog = watched();
    if role().is_some() {
        let (lock, supervisor) = (Lock::new().unwrap(), supervisor());
        let helpers = [supervisor, proc::ppid(supervisor).expect("it lives")];
        let hold = |lock: Lock| {
            std::mem::forget(lock.lock().unwrap());
            thread::spawn(forever);
            // SAFETY: ends this thread alone, as a foreign runtime might. Nothing that the thread borrowed is
            // used afterwards.
            unsafe { libc::syscall(libc::SYS_exit, 1) };
        };
        let holder = Process::spawn(hold, (lock.clone(),)).unwrap();
        // The process id is also the id of the first thread.
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

/// If the kernel cannot wait for several words, the supervisor recovers a dead process only when it reaps
/// that process.
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
