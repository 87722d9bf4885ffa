//! What processes know of themselves and of each other: names, numbers, parents, children.
#![allow(unsafe_code, reason = "constructors, closes descriptors")]

mod family;

use std::os::fd::AsRawFd;

use family::*;
use procession::{Error, Process, active_children, current_process, parent_process};
use procession_testkit::proc;

fn pid() -> i32 {
    std::process::id() as i32
}

#[test]
fn processes_know_themselves_and_their_relatives() {
    let _dog = watched();
    let who = || {
        let (me, parent) = (current_process().unwrap(), parent_process().unwrap());
        let children = active_children().unwrap().len();
        (me.name(), me.pid(), pid(), parent.map(|p| (p.name(), p.pid())), children)
    };
    let child = Process::builder().name("child").spawn(who, ()).unwrap();
    let (name, told, real, parent, children) = child.join().unwrap();
    assert_eq!((name.as_str(), told, children), ("child", real, 0));
    assert_eq!((Some(real), parent), (child.pid(), Some(("main".to_string(), pid()))));

    let me = current_process().unwrap();
    assert_eq!((me.name().as_str(), me.pid(), me.is_alive()), ("main", pid(), true));
    assert!(parent_process().unwrap().is_none());

    let parent = Process::builder().name("parent").spawn(
        || {
            let inner = || parent_process().unwrap().map(|p| (p.name(), p.pid()));
            let child = sleeper();
            let mine: Vec<_> = active_children().unwrap().iter().map(|c| c.pid()).collect();
            let right = mine == [child.pid().unwrap()];
            child.kill().unwrap();
            child.join().unwrap_err();
            let none = active_children().unwrap().is_empty();
            (Process::spawn(inner, ()).unwrap().join().unwrap(), pid(), right, none)
        },
        (),
    );
    let (inner, real, right, none) = parent.unwrap().join().unwrap();
    assert_eq!(inner, Some(("parent".to_string(), real)));
    assert!(right && none);
}

#[test]
fn a_process_whose_parent_has_ended_has_none() {
    let _dog = watched();
    let board = Board::new();
    let parent = Process::spawn(
        |board: String| {
            let orphan = |board: String| {
                wait_for(&board, "go");
                parent_process().unwrap().map(|p| p.name())
            };
            Process::spawn(orphan, (board,)).unwrap()
        },
        (board.path(),),
    );
    let parent = parent.unwrap();
    let orphan = parent.join().unwrap();
    until_gone(&[parent.pid().unwrap()]);
    post(&board.path(), "go", "");
    assert_eq!(orphan.join(), Ok(None));
}

#[test]
fn a_name_is_given_or_that_of_the_function() {
    let _dog = watched();
    assert_eq!(Process::spawn(pid, ()).unwrap().name(), "pid");
    assert_eq!(Process::spawn(|| (), ()).unwrap().name(), "a_name_is_given_or_that_of_the_function");
    let longest = "ü".repeat(47) + "x";
    for name in ["buyer", "", "two words", &longest] {
        let p = Process::builder().name(name).spawn(|| current_process().unwrap().name(), ()).unwrap();
        assert_eq!(p.name(), name);
        assert_eq!(p.join().as_deref(), Ok(name));
    }
    let error = Process::builder().name("x".repeat(96)).spawn(|| (), ()).expect_err("it is too long");
    assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("95")), "{error}");
    let p = Process::builder().name("shown-by-ps-and-cut").daemon(true).spawn(forever, ()).unwrap();
    until("the name is shown", || proc::comm(p.pid().unwrap()).as_deref() == Some("shown-by-ps-and"));
    p.kill().unwrap();
}

#[test]
fn a_builder_can_be_used_again() {
    let _dog = watched();
    let builder = Process::builder().name("worker");
    let pids: Vec<_> = (0..3).map(|_| builder.spawn(pid, ()).unwrap().join().unwrap()).collect();
    assert!(pids[0] != pids[1] && pids[1] != pids[2], "{pids:?}");
}

#[test]
fn a_pidfd_can_be_polled_for_the_end() {
    let _dog = watched();
    let p = sleeper();
    let pidfd = p.pidfd().unwrap();
    let ended = |timeout| {
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut poll, 1, timeout) == 1 }
    };
    assert!(!ended(0));
    p.kill().unwrap();
    assert!(ended(20_000));
    p.join().unwrap_err();
    assert!(matches!(p.pidfd(), Err(Error::StaleHandle(_))));
}

#[test]
fn debug_of_a_process_tells_name_number_and_life() {
    let _dog = watched();
    let p = sleeper();
    let text = format!("{p:?}");
    let pid = p.pid().unwrap().to_string();
    assert!(text.contains("forever") && text.contains(&pid) && text.contains("alive: true"), "{text}");
    assert!(format!("{:?}", active_children().unwrap()).contains(&pid));
    p.kill().unwrap();
    p.join().unwrap_err();
    assert!(format!("{p:?}").contains("alive: false"));
}
