//! What processes know about themselves and each other: names, process ids, parents and children.
#![allow(unsafe_code, reason = "constructors, closes descriptors")]

use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::family::*;
use procession::process::{try_wait_any, wait_any, wait_any_timeout};
use procession::{
    AnyProcess, Error, Process, WaitError, active_children, cpu_count, current_process, parent_process,
};
use procession_testkit::proc;

fn pid() -> u32 {
    std::process::id()
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
fn a_process_whose_parent_has_ended_has_no_parent() {
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
fn a_process_has_its_given_name_or_that_of_its_function() {
    let _dog = watched();
    assert_eq!(Process::spawn(pid, ()).unwrap().name(), "pid");
    let place = format!("closure@relatives.rs:{}", line!() + 1);
    assert_eq!(Process::spawn(|| (), ()).unwrap().name(), place);
    let longest = "ü".repeat(47) + "x";
    for name in ["buyer", "", "two words", &longest] {
        let p = Process::builder().name(name).spawn(|| current_process().unwrap().name(), ()).unwrap();
        assert_eq!(p.name(), name);
        assert_eq!(p.join().as_deref(), Ok(name));
    }
    let error = Process::builder().name("x".repeat(96)).spawn(|| (), ()).expect_err("the name is too long");
    assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("95")), "{error}");
    let p = Process::builder().name("shown-by-ps-and-cut").daemon(true).spawn(forever, ()).unwrap();
    until("the name is shown", || proc::comm(p.pid().unwrap()).as_deref() == Some("shown-by-ps-and"));
    p.kill().unwrap();
}

#[test]
fn a_builder_can_be_reused() {
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
        // SAFETY: passes a pointer to one entry, and the count 1.
        unsafe { libc::poll(&raw mut poll, 1, timeout) == 1 }
    };
    assert!(!ended(0));
    p.kill().unwrap();
    assert!(ended(20_000));
    p.join().unwrap_err();
    assert!(matches!(p.pidfd(), Err(Error::StaleHandle(_))));
}

#[test]
fn wait_any_returns_the_first_process_to_end() {
    let _dog = watched();
    let all: Vec<_> = (0..200).map(|_| sleeper()).collect();
    let any: Vec<AnyProcess> = all.iter().map(AnyProcess::from).collect();
    assert_eq!(try_wait_any(&any), Err(Error::Wait(WaitError::WouldBlock)));
    let waited = wait_any_timeout(&any, Duration::from_millis(1));
    assert_eq!(waited, Err(Error::Wait(WaitError::TimedOut)));
    for at in [150, 7, 199] {
        let killer = {
            let p = all[at].clone();
            std::thread::spawn(move || p.kill().unwrap())
        };
        let found = wait_any(&any).unwrap();
        assert!(found == at || !all[found].is_alive(), "{found} and not {at}");
        killer.join().unwrap();
        all[at].join().unwrap_err();
    }
    assert_eq!(try_wait_any(&any), Ok(7), "the first process that has ended");
    assert_eq!(procession::select(&[&any[0], &any[150]]), Ok(1));
    assert!(wait_any::<AnyProcess>(&[]).is_err() && wait_any(&[current_process().unwrap()]).is_err());
    // `wait_any` also reports a process that returns, and not only killed processes.
    let returns = Process::spawn(|| 5, ()).unwrap();
    assert_eq!(wait_any(&[AnyProcess::from(&all[0]), AnyProcess::from(&returns)]), Ok(1));
    all.iter().for_each(|p| p.kill().unwrap());
}

#[test]
fn a_process_of_unknown_type_has_a_pidfd() {
    let _dog = watched();
    let p = sleeper();
    let any = AnyProcess::from(&p);
    assert_eq!((Some(any.pid()), any.name()), (p.pid(), p.name()));
    let pidfd = any.pidfd().unwrap();
    current_process().unwrap().pidfd().unwrap();
    any.kill().unwrap();
    assert!(any.wait().is_err());
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: passes a pointer to one entry, and the count 1.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 20_000) }, 1);
    assert!(matches!(any.pidfd(), Err(Error::StaleHandle(_))));
}

#[test]
fn cpu_count_counts_the_processors_that_this_process_may_use() {
    let _dog = watched();
    let all = cpu_count();
    assert!(all >= 1);
    let one = Process::builder().cpu_affinity(&[0]).spawn(cpu_count, ()).unwrap();
    assert_eq!(one.join(), Ok(1));
    assert_eq!(Process::spawn(cpu_count, ()).unwrap().join(), Ok(all));
}

/// A process between main and its grandchild is killed. The grandchild continues, sees that its parent has
/// ended, and can wait for the parent.
#[test]
fn a_grandchild_survives_its_parent_s_death() {
    let _dog = watched();
    let board = Board::new();
    let queue = procession::Queue::<Process<(String, bool, bool)>>::bounded(1).unwrap();
    let between = |board: String, queue: procession::Queue<Process<(String, bool, bool)>>| {
        let below = |board: String| {
            let parent = parent_process().unwrap().unwrap();
            post(&board, "parent", parent.is_alive());
            let told = parent.wait().unwrap_err().to_string();
            (told, parent.is_alive(), parent_process().unwrap().is_none())
        };
        queue.put(Process::builder().name("below").spawn(below, (board,)).unwrap()).unwrap();
        forever()
    };
    let between = Process::builder().name("between").spawn(between, (board.path(), queue.clone())).unwrap();
    let below = queue.get().unwrap();
    assert_eq!(board.wait("parent"), "true");
    kill(&between);
    let (told, alive, none) = below.join().unwrap();
    assert!(told.contains("between") && told.contains("signal 9"), "{told}");
    assert!(!alive && none);
}

#[test]
fn debug_output_shows_name_pid_and_state() {
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
