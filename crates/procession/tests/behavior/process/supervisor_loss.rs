//! The supervisor is killed. Its children end, every waiter gets an error, and a new family starts.
#![allow(unsafe_code, reason = "stops processes")]

use std::thread;

use crate::family::*;
use procession::sync::LockError;
use procession::{Failure, Lock, Process};
use procession_testkit::{isolated, proc};

#[test]
fn every_join_reports_the_loss() {
    isolated!({
        let child = Process::builder().name("lost").spawn(forever, ()).unwrap();
        let any = procession::active_children().unwrap().remove(0);
        let joiners: Vec<_> =
            (0..4).map(|_| child.clone()).map(|p| thread::spawn(move || p.join())).collect();
        let old = lose_it();
        for joiner in joiners {
            let error = joiner.join().unwrap().unwrap_err();
            assert_eq!(error.failure(), &Failure::FamilyLost);
            assert_eq!((error.name(), error.pid()), ("lost", child.pid()));
        }
        assert_eq!(child.join().unwrap_err().failure(), &Failure::FamilyLost);
        assert_eq!(child.try_join().unwrap_err().failure(), &Failure::FamilyLost);
        assert!(any.wait().is_err() && !any.is_alive() && !child.is_alive());
        assert!(child.exit_status().is_some_and(|status| !status.success()));
        assert!(child.kill().is_ok(), "nothing happens");
        spawn_again(old);
    });
}

#[test]
fn a_spawn_succeeds_immediately_after_a_reported_loss() {
    isolated!({
        for _ in 0..20 {
            let child = Process::spawn(forever, ()).unwrap();
            lose_it();
            assert_eq!(child.join().unwrap_err().failure(), &Failure::FamilyLost);
            assert_eq!(Process::spawn(|| 7, ()).unwrap().join(), Ok(7));
        }
    });
}

#[test]
fn children_in_every_state_end_with_the_supervisor() {
    isolated!({
        let lock = Lock::new().unwrap();
        let held = lock.lock().unwrap();
        let children = [
            Process::spawn(
                || -> () {
                    loop {
                        std::hint::spin_loop()
                    }
                },
                (),
            ),
            Process::spawn(|lock: Lock| drop(lock.lock()), (lock.clone(),)),
            Process::spawn(|| drop(Process::spawn(forever, ()).unwrap().join()), ()),
            Process::spawn(forever, ()),
        ];
        let children = children.map(|p| p.unwrap());
        let stopped = children[3].pid().unwrap();
        until("one waits", || format!("{lock:?}").contains("waiters: 1"));
        send(stopped, libc::SIGSTOP);
        until("the child is stopped", || proc::state(stopped) == Some('T'));
        let old = supervisor();
        until("the grandchild has started", || proc::descendants(old).len() >= 5);
        let all = proc::descendants(old);
        send(old, libc::SIGKILL);
        children.iter().for_each(|p| assert_eq!(p.join().unwrap_err().failure(), &Failure::FamilyLost));
        until_dead(&all);
        until_dead(&[old]);
        assert!(procession::active_children().unwrap().is_empty());
        drop(held);
        assert!(lock.try_lock().is_ok());
    });
}

#[test]
fn locks_of_lost_children_are_released() {
    isolated!({
        let (lock, mine, board) = (Lock::new().unwrap(), Lock::new().unwrap(), Board::new());
        let held = mine.lock().unwrap();
        let hold = |lock: Lock, board: String| {
            let _held = lock.lock().unwrap();
            post(&board, "held", "");
            forever();
        };
        let child = Process::builder().name("holder").spawn(hold, (lock.clone(), board.path())).unwrap();
        board.wait("held");
        let waiting = thread::spawn({
            let lock = lock.clone();
            move || lock.lock().map(drop)
        });
        until("one waits", || format!("{lock:?}").contains("waiters: 1"));
        let old = lose_it();
        let told = waiting.join().unwrap();
        assert!(matches!(&told, Err(LockError::OwnerDied(who)) if Some(who.pid) == child.pid()), "{told:?}");
        assert_eq!(
            lock.lock_or_recover().unwrap().recovered_from().map(|who| who.name.as_str()),
            Some("holder")
        );
        spawn_again(old);
        let refused = |lock: Lock| lock.try_lock().err();
        let refused = Process::spawn(refused, (mine.clone(),)).unwrap().join().unwrap();
        assert_eq!(
            refused,
            Some(LockError::WouldBlock),
            "main still holds its lock, and can send it to the new family"
        );
        drop(held);
        assert!(mine.lock().is_ok());
    });
}

#[test]
fn main_ends_in_order_after_a_loss() {
    let _dog = watched();
    if let Some(role) = role() {
        let _child = Process::spawn(forever, ()).unwrap();
        let old = lose_it();
        if role == "later" {
            spawn_again(old);
            let says = |board: String| {
                wait_for(&board, "go");
                println!("child");
            };
            Process::spawn(says, (my_board(),)).unwrap();
            post(&my_board(), "go", "");
        }
        return;
    }
    for role in ["at once", "later"] {
        let board = Board::new();
        let text = succeeds(&mut program(role, &board));
        assert!(role == "at once" || text.contains("child\n"), "{text}");
        until_nothing_is_left(&board);
    }
}

#[test]
fn garbage_on_the_supervisor_s_socket_is_ignored() {
    isolated!({
        let before = sleeper();
        let old = supervisor();
        let sockets: Vec<i32> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter(|e| {
                std::fs::read_link(e.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
            })
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect();
        assert!(!sockets.is_empty(), "main has its end of the socket");
        let mut random = procession_testkit::Rng::seeded(7);
        for round in 0..200 {
            let garbage: Vec<u8> = (0..random.below(400)).map(|_| random.next_u64() as u8).collect();
            for &socket in &sockets {
                // SAFETY: the pointer and the length come from the same slice.
                unsafe {
                    libc::send(
                        socket,
                        garbage.as_ptr().cast(),
                        garbage.len(),
                        libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    )
                };
            }
            if round % 20 == 0 {
                assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
            }
        }
        assert_eq!(supervisor(), old, "it lives");
        assert!(before.is_alive());
        before.kill().unwrap();
        before.join().unwrap_err();
    });
}
