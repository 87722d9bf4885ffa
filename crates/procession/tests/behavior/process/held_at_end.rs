//! Main ends while its threads hold locks that other processes wait for. No waiter gets an object that a
//! running thread may still use. The waiters fail after a while, and main ends nevertheless.

use std::fmt::Debug;
use std::hint::black_box;
use std::process::Stdio;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::internals::{self, Rule};
use procession::state::{Array, Dict, Value};
use procession::sync::{Condvar, Mutex, Once, RLock, RwLock, Semaphore};
use procession::{Lock, Message, Process, process::Entry};
use procession_testkit::proc;

type Numbers = [u64; 2];

/// Sends a message that it has begun, and then increments numbers in shared memory for ever.
fn count(numbers: &mut [u64], began: &Sender<()>) -> ! {
    began.send(()).unwrap();
    loop {
        numbers[0] += 1;
        black_box(&mut *numbers);
    }
}

/// Reports whether a number changes while only this process may change it.
fn moves(number: &u64) -> String {
    let (before, began) = (*black_box(number), Instant::now());
    while began.elapsed() < Duration::from_millis(200) {
        if *black_box(number) != before {
            return "has it, and it changes".into();
        }
    }
    "has it, and it does not change".into()
}

/// Returns the text that a child posts about the result of an acquisition.
fn refused<T, E: Debug>(result: Result<T, E>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |_| "has it".into())
}

fn tell(board: &str, text: String) {
    post(board, "told", text);
}

/// Runs `hold` in another thread, and returns when `hold` has sent a message that it has begun.
fn in_a_thread(hold: impl FnOnce(Sender<()>) + Send + 'static) {
    let (tell, told) = channel();
    thread::spawn(move || hold(tell));
    told.recv().unwrap();
}

/// Sends a message that it has begun, and then holds a value until the process ends.
fn hold<T>(held: T, began: &Sender<()>) {
    began.send(()).unwrap();
    forever();
    drop(held);
}

/// Spawns a child that acquires the mutex as soon as it can.
fn takes(mutex: &Mutex<Numbers>) {
    let takes = |mutex: Mutex<Numbers>, board: String| {
        let told = match mutex.lock_or_recover() {
            Ok(held) => moves(&held[0]),
            Err(error) => format!("{error:?}"),
        };
        tell(&board, told);
    };
    Process::spawn(takes, (mutex.clone(), my_board())).unwrap();
}

fn mutex() -> Mutex<Numbers> {
    Mutex::new([0; 2]).unwrap()
}

/// Acquires the object that main holds at its end in this role, and spawns a child that waits for the object.
/// The caller then ends main.
fn play(role: &str) {
    match role {
        "mutex" | "control" => {
            if role == "control" {
                internals::break_rule(Rule::KeptWhileRunning);
            }
            let mutex = mutex();
            let its = mutex.clone();
            in_a_thread(move |began| count(&mut *its.lock().unwrap(), &began));
            takes(&mutex);
        }
        "mutex that is waited for" => {
            let mutex = mutex();
            let its = mutex.clone();
            in_a_thread(move |began| count(&mut *its.lock().unwrap(), &began));
            takes(&mutex);
            until("the child waits", || format!("{mutex:?}").contains("waiters: 1"));
        }
        // The guard belongs to the exiting thread, but another thread has borrowed the guarded value.
        "borrowed" => {
            let mutex = mutex();
            let mut held = mutex.lock().unwrap();
            let (began, told) = channel();
            let numbers: &mut Numbers = &mut held;
            thread::scope(|threads| {
                threads.spawn(|| count(numbers, &began));
                told.recv().unwrap();
                takes(&mutex);
                std::process::exit(0)
            });
        }
        // The thread that acquired the mutex has ended, but the guard still exists.
        "leaked" => {
            let mutex: &'static Mutex<Numbers> = Box::leak(Box::new(mutex()));
            let lend = || &mut **Box::leak(Box::new(mutex.lock().unwrap()));
            let numbers: &'static mut Numbers = thread::spawn(lend).join().unwrap();
            in_a_thread(|began| count(numbers, &began));
            takes(mutex);
        }
        _ => play_with_others(role),
    }
}

/// Spawns a child that waits for an object. The wait begins before main ends or, if the child is `late`,
/// possibly afterwards.
fn child<A: Message>(late: bool, f: impl Entry<A, Output = ()>, args: A) {
    let p = Process::builder().name("waiter").spawn(f, args).unwrap();
    // The process may also sleep before the function starts, but then it has another name.
    let waits = |pid| proc::comm(pid).as_deref() == Some("waiter") && proc::is_parked(pid);
    until("the child waits", || late || p.pid().is_some_and(waits));
}

fn play_with_others(role: &str) {
    let board = my_board();
    let late = role.starts_with("late ");
    let role = role.trim_start_matches("late ");
    match role {
        "writer" | "reader" => {
            let lock = RwLock::new([0u64; 2]).unwrap();
            let (its, reads) = (lock.clone(), role == "reader");
            in_a_thread(move |began| match reads {
                true => hold(its.read().unwrap(), &began),
                false => count(&mut *its.write().unwrap(), &began),
            });
            let writes = |lock: RwLock<Numbers>, board: String| tell(&board, refused(lock.write()));
            child(late, writes, (lock, board));
        }
        "array" => {
            let array = Array::<u64>::new(100).unwrap();
            let its = array.clone();
            in_a_thread(move |began| count(&mut its.lock().unwrap(), &began));
            let takes = |array: Array<u64>, board: String| tell(&board, refused(array.lock()));
            child(late, takes, (array, board));
        }
        "value" => {
            let value = Value::new(1u64).unwrap();
            let its = value.clone();
            in_a_thread(move |began| its.update(|_| hold((), &began)).unwrap());
            let sets = |value: Value<u64>, board: String| tell(&board, refused(value.set(2)));
            child(late, sets, (value, board));
        }
        "dict" => {
            let dict = Dict::from_entries([(1u32, 1u32)]).unwrap();
            let its = dict.clone();
            in_a_thread(move |began| drop(its.update(&1, |_| hold((), &began))));
            let inserts = |dict: Dict<u32, u32>, board: String| tell(&board, refused(dict.insert(&1, 2)));
            child(late, inserts, (dict, board));
        }
        "lock" => {
            let lock = Lock::new().unwrap();
            let its = lock.clone();
            in_a_thread(move |began| hold(its.lock().unwrap(), &began));
            let takes = |lock: Lock, board: String| tell(&board, refused(lock.lock_or_recover()));
            child(late, takes, (lock, board));
        }
        "recursive lock" => {
            let lock = RLock::new().unwrap();
            let its = lock.clone();
            in_a_thread(move |began| hold(its.lock().unwrap(), &began));
            let takes = |lock: RLock, board: String| tell(&board, refused(lock.lock_or_recover()));
            child(late, takes, (lock, board));
        }
        "once" | "end of once" => {
            let once = Once::new().unwrap();
            let its = once.clone();
            in_a_thread(move |began| its.call_once(|| hold((), &began)).unwrap());
            let calls = |once: Once, board: String| tell(&board, refused(once.call_once(|| ())));
            let waits = |once: Once, board: String| tell(&board, refused(once.wait()));
            match role {
                "once" => child(late, calls, (once, board)),
                _ => child(late, waits, (once, board)),
            };
        }
        "permit" => {
            let semaphore = Semaphore::new(1).unwrap();
            let its = semaphore.clone();
            in_a_thread(move |began| hold(its.acquire().unwrap(), &began));
            let acquires = |semaphore: Semaphore, board: String| tell(&board, refused(semaphore.acquire()));
            child(late, acquires, (semaphore, board));
        }
        "condition" => {
            let (mutex, condvar) = (mutex(), Condvar::new().unwrap());
            let waits = |mutex: Mutex<Numbers>, condvar: Condvar, board: String| {
                tell(&board, refused(condvar.wait(mutex.lock().unwrap())));
            };
            child(late, waits, (mutex.clone(), condvar.clone(), board));
            until("the child waits", || format!("{condvar:?}").contains("waiters: 1"));
            in_a_thread(move |began| {
                let held = mutex.lock().unwrap();
                condvar.notify_one().unwrap();
                hold(held, &began);
            });
        }
        other => panic!("{other} is no role"),
    }
}

/// Runs a program in each role, all at the same time, and returns the texts that their children posted.
fn told(roles: &[&'static str]) -> Vec<String> {
    let start = |role: &&'static str| {
        let board = Board::new();
        let main = Running::start(program(role, &board).stdout(Stdio::null()));
        (*role, board, main)
    };
    let programs: Vec<_> = roles.iter().map(start).collect();
    let told = |(role, board, mut main): (&str, Board, Running)| {
        until(&format!("main ends in the role `{role}`"), || proc::gone(main.pid()));
        assert_eq!(main.end().code(), Some(0));
        until_nothing_is_left(&board);
        board.wait("told")
    };
    programs.into_iter().map(told).collect()
}

fn each_is_told(roles: &[&'static str], expected: &str) {
    for (role, told) in roles.iter().zip(told(roles)) {
        assert!(told.contains(expected), "{role}: {told}");
    }
}

#[test]
fn an_object_of_a_running_thread_is_not_handed_on() {
    let _dog = watched();
    if let Some(role) = role() {
        play(&role);
        std::process::exit(0);
    }
    each_is_told(
        &["mutex", "mutex that is waited for", "borrowed", "leaked", "writer", "late writer", "array"],
        "MainEnded",
    );
}

#[test]
fn waiters_for_a_thread_of_an_ended_main_are_refused() {
    let _dog = watched();
    if let Some(role) = role() {
        play(&role);
        std::process::exit(0);
    }
    each_is_told(
        &["reader", "late reader", "value", "late value", "dict", "late dict", "lock", "late lock"],
        "MainEnded",
    );
    each_is_told(&["once", "late once", "end of once", "late end of once"], "MainEnded");
    each_is_told(&["recursive lock", "permit", "late permit", "condition"], "MainEnded");
}

/// Acquires a mutex, spawns a child that waits for it, and ends this thread together with main.
fn ends_holding() -> ! {
    let mutex = mutex();
    std::mem::forget(mutex.lock().unwrap());
    takes(&mutex);
    until("the child waits", || format!("{mutex:?}").contains("waiters: 1"));
    std::process::exit(0)
}

#[test]
fn a_mutex_of_the_only_thread_is_handed_on() {
    if role().is_some() {
        // The only other thread is that of libtest, which uses no object. A watchdog would be a third thread,
        // so there is none.
        internals::count_own_threads(1);
        ends_holding();
    }
    let _dog = watched();
    each_is_told(&["last"], "has it, and it does not change");
}

#[test]
fn a_mutex_of_an_ended_thread_is_kept_while_others_run() {
    if role().is_some() {
        ends_holding();
    }
    let _dog = watched();
    each_is_told(&["not the last"], "MainEnded");
}

/// The control: without the rule, the child gets the mutex while main still writes to its value.
#[test]
fn without_the_rule_a_guarded_value_changes() {
    let _dog = watched();
    if let Some(role) = role() {
        play(&role);
        std::process::exit(0);
    }
    each_is_told(&["control"], "has it, and it changes");
}
