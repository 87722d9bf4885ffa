//! Processes that end in the middle of an operation: what they leave behind, and what the other processes
//! find.
#![allow(unsafe_code, reason = "forks, closes descriptors, kills")]

use crate::family;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::family::*;
use procession::sync::LockError;
use procession::{Lock, Process};
use procession_testkit::proc;

#[test]
fn a_process_ends_although_threads_still_run() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let p = Process::spawn(
        |lock: Lock| {
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _held = lock.lock();
                tell.send(()).unwrap();
                forever();
            });
            told.recv().unwrap();
            "done".to_string()
        },
        (lock.clone(),),
    );
    let p = p.unwrap();
    assert_eq!(p.join().as_deref(), Ok("done"));
    let Err(LockError::OwnerDied(who)) = lock.lock() else { panic!("a thread held it to the end") };
    assert_eq!(Some(who.pid), p.pid());
}

#[test]
fn a_thousand_locks_of_a_killed_process_are_released() {
    let _dog = watched();
    let board = Board::new();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let p = Process::builder().name("hoarder").daemon(true).spawn(
        |locks: Vec<Lock>, board: String| {
            let guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
            post(&board, "all", guards.len());
            forever();
        },
        (locks.clone(), board.path()),
    );
    let p = p.unwrap();
    assert_eq!(board.number("all"), 1000);
    assert!(locks.iter().all(|lock| lock.try_lock().err() == Some(LockError::WouldBlock)));
    p.kill().unwrap();
    p.join().unwrap_err();
    for lock in &locks {
        match lock.try_lock() {
            Err(LockError::OwnerDied(who)) => {
                assert_eq!((Some(who.pid), who.name.as_str()), (p.pid(), "hoarder"))
            }
            other => panic!("{other:?}"),
        }
        assert!(lock.lock_or_recover().unwrap().recovered_from().is_some());
        assert!(lock.try_lock().is_ok());
    }
}

#[test]
fn a_thousand_locks_of_a_process_that_returned_are_released() {
    let _dog = watched();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let forgets = |locks: Vec<Lock>| locks.iter().for_each(|lock| std::mem::forget(lock.lock().unwrap()));
    Process::spawn(forgets, (locks.clone(),)).unwrap().join().unwrap();
    assert!(locks.iter().all(|lock| matches!(lock.lock(), Err(LockError::OwnerDied(_)))));
}

#[test]
fn a_process_without_descriptors_still_spawns_and_locks() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let p = Process::spawn(
        |lock: Lock| {
            // SAFETY: closes descriptors that this process no longer uses.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            let _held = lock.lock().unwrap();
            let grandchild = Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)).unwrap();
            let refused = grandchild.join().unwrap();
            let sleeper = sleeper();
            sleeper.kill().unwrap();
            (refused, sleeper.join().unwrap_err().to_string().contains("signal 9"))
        },
        (lock.clone(),),
    );
    assert_eq!(p.unwrap().join(), Ok((true, true)));
    assert!(lock.try_lock().is_ok());
}

#[test]
fn programs_that_a_killed_process_started_are_killed() {
    let _dog = watched();
    let board = Board::new();
    let p = Process::builder().daemon(true).spawn(
        |board: String| {
            let mut shell = std::process::Command::new("sh");
            shell.args([
                "-c",
                "sleep 1000 & echo $! >$0/.grand; mv $0/.grand $0/grandchild; exec sleep 1000",
                &board,
            ]);
            post(&board, "child", shell.spawn().unwrap().id());
            forever();
        },
        (board.path(),),
    );
    let p = p.unwrap();
    let started: Vec<i32> = ["child", "grandchild"].map(|who| board.wait(who).trim().parse().unwrap()).into();
    assert!(started.iter().all(|&pid| !proc::gone(pid)));
    p.kill().unwrap();
    p.join().unwrap_err();
    family::until_gone(&started);
}

#[test]
fn a_background_program_ends_with_its_process() {
    let _dog = watched();
    for returns in [true, false] {
        let board = Board::new();
        let starts = |board: String, returns: bool| {
            // The sleeping process has its own session, and its parent has ended.
            let script = "(setsid sh -c 'echo $$ >$0/.pid; mv $0/.pid $0/pid; exec sleep 1000' $0 &)";
            std::process::Command::new("sh").args(["-c", script, &board]).status().unwrap();
            wait_for(&board, "pid");
            if !returns {
                forever();
            }
        };
        let p = Process::builder().daemon(true).spawn(starts, (board.path(), returns)).unwrap();
        let pid: i32 = board.wait("pid").trim().parse().unwrap();
        if !returns {
            (0..5).for_each(|_| Process::spawn(|| (), ()).unwrap().join().unwrap());
            assert!(!proc::gone(pid), "it lives while the process that started it lives");
            p.kill().unwrap();
        }
        assert_eq!(p.join().is_ok(), returns);
        family::until_gone(&[pid]);
    }
}

#[test]
fn debug_output_works_during_every_operation() {
    let _dog = watched();
    static DONE: AtomicBool = AtomicBool::new(false);
    let locks: Vec<Lock> = (0..4).map(|n| Lock::labeled(&format!("lock {n}")).unwrap()).collect();
    let printer = std::thread::spawn({
        let locks = locks.clone();
        move || {
            let mut bytes = 0;
            while !DONE.load(Ordering::SeqCst) {
                bytes += format!("{locks:?} {:?}", procession::active_children()).len();
            }
            bytes
        }
    });
    for round in 0..100 {
        let holder = |locks: Vec<Lock>| {
            let _guards: Vec<_> = locks.iter().map(|lock| lock.lock_or_recover()).collect();
            forever();
        };
        let p = Process::builder().daemon(true).spawn(holder, (locks.clone(),)).unwrap();
        if round % 2 == 0 {
            until("the process holds all locks", || locks[3].try_lock().err() == Some(LockError::WouldBlock));
        }
        p.kill().unwrap();
        assert!(format!("{p:?}").contains("Process"));
        p.join().unwrap_err();
        assert!(format!("{p:?}").contains("alive: false"));
    }
    DONE.store(true, Ordering::SeqCst);
    assert!(printer.join().unwrap() > 0);
}

#[test]
fn an_error_about_poison_names_the_dead_process() {
    let _dog = watched();
    let lock = Lock::labeled("till").unwrap();
    let p = Process::builder().name("cashier").spawn(
        |lock: Lock| -> () {
            std::mem::forget(lock.lock());
            std::process::abort();
        },
        (lock.clone(),),
    );
    let p = p.unwrap();
    p.join().unwrap_err();
    let text = format!("{lock:?}");
    assert!(text.contains("till") && text.contains("cashier"), "{text}");
    assert!(text.contains(&p.pid().unwrap().to_string()), "{text}");
}

#[test]
fn a_process_that_executes_another_program_holds_nothing() {
    let _dog = watched();
    let (lock, board) = (Lock::new().unwrap(), Board::new());
    let p = Process::spawn(
        |lock: Lock, board: String| {
            std::mem::forget(lock.lock().unwrap());
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", ": >$0/begun; while ! [ -e $0/go ]; do sleep 0.01; done", &board]);
            std::os::unix::process::CommandExt::exec(&mut shell).to_string()
        },
        (lock.clone(), board.path()),
    );
    let p = p.unwrap();
    board.wait("begun");
    assert!(p.is_alive());
    post(&board.path(), "go", "");
    p.join().unwrap_err();
    let Err(LockError::OwnerDied(who)) = lock.try_lock() else { panic!("{lock:?}") };
    assert_eq!(Some(who.pid), p.pid());
}

#[test]
fn a_killed_waiter_leaves_the_lock_usable() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let waiting: Vec<_> =
        (0..4).map(|_| Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)).unwrap()).collect();
    until("all wait", || format!("{lock:?}").contains("waiters: 4"));
    for p in &waiting[..3] {
        p.kill().unwrap();
        p.join().unwrap_err();
    }
    until("one waits", || format!("{lock:?}").contains("waiters: 1"));
    drop(held);
    waiting[3].join().unwrap();
    assert!(lock.try_lock().is_ok(), "the dead waiter poisoned nothing");
}

#[test]
fn thread_local_destructors_can_use_the_library() {
    struct AtEnd(Lock, String);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let _held = self.0.lock().unwrap();
            post(&self.1, "dropped", "");
        }
    }
    thread_local!(static AT_END: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) });
    let _dog = watched();
    if role().is_some() {
        let lock = Lock::new().unwrap();
        let in_main = std::thread::spawn({
            let lock = lock.clone();
            move || AT_END.set(Some(AtEnd(lock, family::my_board())))
        });
        in_main.join().unwrap();
        wait_for(&family::my_board(), "dropped");
        let set = |lock: Lock, board: String| AT_END.set(Some(AtEnd(lock, board)));
        let board = Board::new();
        Process::spawn(set, (lock.clone(), board.path())).unwrap().join().unwrap();
        assert!(family::posted(&board.path(), "dropped"));
        assert!(lock.try_lock().is_ok());
        AT_END.set(Some(AtEnd(lock, family::my_board())));
        return;
    }
    succeeds(&mut program("main", &Board::new()));
}
