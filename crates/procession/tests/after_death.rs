//! What processes leave behind that end in the middle of something, and what the others find.
#![allow(unsafe_code, reason = "forks, closes descriptors, kills")]

mod family;

use std::sync::atomic::{AtomicBool, Ordering};

use family::{Board, forever, post, program, role, sleeper, succeeds, until, wait_for, watched};
use procession::sync::LockError;
use procession::{Error, Lock, Process};
use procession_testkit::{isolated, proc};

#[test]
fn threads_left_behind_do_not_keep_a_process() {
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
fn a_thousand_locks_of_a_killed_process_are_handed_on() {
    let _dog = watched();
    let board = Board::new();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let p = Process::builder().name("hoarder").spawn(
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
fn a_thousand_locks_of_a_process_that_returned_are_handed_on() {
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
            // SAFETY: closes what nobody here uses any more.
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
fn what_a_killed_process_started_is_killed_too() {
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(
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
fn what_a_process_put_into_the_background_ends_with_it() {
    let _dog = watched();
    for returns in [true, false] {
        let board = Board::new();
        let starts = |board: String, returns: bool| {
            // In a session of its own, and no child of anybody here.
            let script = "(setsid sh -c 'echo $$ >$0/.pid; mv $0/.pid $0/pid; exec sleep 1000' $0 &)";
            std::process::Command::new("sh").args(["-c", script, &board]).status().unwrap();
            wait_for(&board, "pid");
            if !returns {
                forever();
            }
        };
        let p = Process::spawn(starts, (board.path(), returns)).unwrap();
        let pid: i32 = board.wait("pid").trim().parse().unwrap();
        if !returns {
            (0..5).for_each(|_| Process::spawn(|| (), ()).unwrap().join().unwrap());
            assert!(!proc::gone(pid), "it lives as long as the process that started it");
            p.kill().unwrap();
        }
        assert_eq!(p.join().is_ok(), returns);
        family::until_gone(&[pid]);
    }
}

/// Forks by hand. In the fork, `f` runs, whose answer decides the exit code; then its exit handlers run.
fn holds_in_a_fork(f: impl FnOnce() -> bool) -> bool {
    let f = std::mem::ManuallyDrop::new(f);
    // SAFETY: the fork is of a process whose other threads hold nothing that `f` needs, and only the fork
    // takes `f` out.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let holds = std::mem::ManuallyDrop::into_inner(f)();
            libc::exit(if holds { 17 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 17
    }
}

type Expectation = (&'static str, fn(&Lock, &Process<()>) -> bool);

const IN_A_FORK: &[Expectation] = &[
    ("a new lock", |_, _| matches!(Lock::new(), Err(Error::Forked))),
    ("lock", |lock, _| matches!(lock.lock(), Err(LockError::Unusable(_)))),
    ("try_lock", |lock, _| matches!(lock.try_lock(), Err(LockError::Unusable(_)))),
    ("lock_or_recover", |lock, _| matches!(lock.lock_or_recover(), Err(LockError::Unusable(_)))),
    ("a lock's name", |lock, _| lock.name().is_empty()),
    ("a lock's Debug", |lock, _| !format!("{lock:?}").is_empty()),
    ("cloning and dropping", |lock, child| {
        drop((lock.clone(), child.clone()));
        true
    }),
    ("spawning", |_, _| matches!(Process::spawn(|| (), ()), Err(Error::Forked))),
    ("the current process", |_, _| matches!(procession::current_process(), Err(Error::Forked))),
    ("the parent", |_, _| matches!(procession::parent_process(), Err(Error::Forked))),
    ("the children", |_, _| matches!(procession::active_children(), Err(Error::Forked))),
    ("killing", |_, child| matches!(child.kill(), Err(Error::Forked))),
    ("a pidfd", |_, child| matches!(child.pidfd(), Err(Error::Forked))),
    ("join", |_, child| child.join().is_err()),
    ("try_join", |_, child| child.try_join().is_err()),
    ("a process's Debug", |_, child| !format!("{child:?}").is_empty()),
    ("a process's name", |_, child| child.name().len() < 96),
    ("a process's number", |_, child| child.pid().is_none_or(|pid| pid > 0)),
    ("is_alive", |_, child| [true, false].contains(&child.is_alive())),
    ("a process's status", |_, child| child.exit_status().is_none()),
];

/// What does not hold in a plain fork of this process.
fn broken_in_a_fork(lock: &Lock, child: &Process<()>) -> Vec<String> {
    let broken = IN_A_FORK.iter().filter(|(_, expectation)| !holds_in_a_fork(|| expectation(lock, child)));
    let mut names: Vec<String> = broken.map(|(name, _)| name.to_string()).collect();
    let held = lock.lock().unwrap();
    // SAFETY: dropped in the fork, while the original lives on here.
    let twin = unsafe { std::ptr::read(&raw const held) };
    if !holds_in_a_fork(move || (!format!("{twin:?}").is_empty(), drop(twin)).0) {
        names.push("a guard".into());
    }
    if Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)).unwrap().join() != Ok(true) {
        names.push("the fork let go of the original's lock".into());
    }
    names
}

#[test]
fn a_fork_of_a_child_is_refused_and_harms_nobody() {
    let _dog = watched();
    let lock = Lock::new().unwrap();
    let p = Process::spawn(
        |lock: Lock| {
            let child = sleeper();
            let broken = broken_in_a_fork(&lock, &child);
            let alive = child.is_alive();
            child.kill().unwrap();
            child.join().unwrap_err();
            (broken, alive)
        },
        (lock.clone(),),
    );
    assert_eq!(p.unwrap().join(), Ok((vec![], true)));
    assert!(lock.try_lock().is_ok());
}

#[test]
fn a_fork_of_main_is_refused_and_harms_nobody() {
    isolated!({
        let _dog = watched();
        let lock = Lock::new().unwrap();
        let child = sleeper();
        let supervisor = family::supervisor();
        assert_eq!(broken_in_a_fork(&lock, &child), Vec::<String>::new());
        assert!(child.is_alive() && !proc::gone(supervisor), "the fork's end is not the family's");
        assert!(lock.try_lock().is_ok());
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
    });
}

#[test]
fn a_fork_before_the_first_use_is_a_program_of_its_own() {
    isolated!({
        let _dog = watched();
        let works = || {
            let lock = Lock::new().unwrap();
            let _held = lock.lock().unwrap();
            let refused = Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)).unwrap();
            refused.join() == Ok(true)
        };
        assert!(holds_in_a_fork(works));
        assert!(works());
    });
}

#[test]
fn debug_prints_whatever_is_happening() {
    let _dog = watched();
    static DONE: AtomicBool = AtomicBool::new(false);
    let locks: Vec<Lock> = (0..4).map(|n| Lock::named(&format!("lock {n}")).unwrap()).collect();
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
        let p = Process::spawn(holder, (locks.clone(),)).unwrap();
        if round % 2 == 0 {
            until("it holds them all", || locks[3].try_lock().err() == Some(LockError::WouldBlock));
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
fn what_main_prints_of_a_mark_names_the_dead() {
    let _dog = watched();
    let lock = Lock::named("till").unwrap();
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
fn another_program_in_a_process_s_place_holds_nothing() {
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
fn a_process_that_was_killed_while_it_waited_is_not_missed() {
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
    assert!(lock.try_lock().is_ok(), "the dead left no mark");
}

#[test]
fn destructors_of_the_last_moments_can_use_the_library() {
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
