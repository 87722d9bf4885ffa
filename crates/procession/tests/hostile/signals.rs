//! Families whose process group ignores, handles or is stopped by signals.
#![allow(unsafe_code, reason = "sets the dispositions of signals")]

use std::process::Stdio;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use super::inner_dog;
use crate::family::*;
use crate::life::{self, live};
use crate::places::*;
use procession::{Process, Queue};
use procession_testkit::proc;

/// Returns the signals that a process can ignore, except SIGCHLD, SIGSEGV and SIGBUS. Children have handlers
/// for SIGSEGV and SIGBUS, which report a fault of the process.
fn signals() -> Vec<i32> {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGCHLD];
    // The C library reserves the first two real-time signals.
    (1..=libc::SIGRTMAX()).filter(|n| !kept.contains(n) && !(32..libc::SIGRTMIN()).contains(n)).collect()
}

/// A program that runs rounds in its own process group until the test stops it.
pub(super) struct Living {
    pub(super) main: Running,
    pub(super) board: Board,
}

impl Living {
    pub(super) fn start(role: &str) -> Living {
        let board = Board::new();
        let mut command = program(role, &board);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let main = Running::start(&mut command);
        board.wait("rounds");
        Living { main, board }
    }

    pub(super) fn send(&self, signal: i32) {
        send(-self.main.pid(), signal);
    }

    /// Waits until the program has completed another whole round.
    #[track_caller]
    pub(super) fn lives_on(&self, since: &str) {
        let now = self.board.number("rounds");
        let next = || self.board.number("rounds") >= now + 2 || proc::gone(self.main.pid());
        until(&format!("the program runs a round after {since}"), next);
        assert!(!proc::gone(self.main.pid()), "the program died of {since}");
    }

    #[track_caller]
    pub(super) fn stop(mut self) {
        post(&self.board.path(), "stop", "");
        let status = self.main.end();
        let output = std::io::read_to_string(self.main.0.stdout.take().expect("a pipe")).expect("text");
        assert!(status.success() && output.contains(life::LAST_WORD), "{status}: {output}");
        until_nothing_is_left(&self.board);
    }
}

#[test]
fn a_family_lives_in_a_group_that_ignores_signals() {
    if role().is_some() {
        let _dog = inner_dog();
        for signal in signals() {
            // SAFETY: ignoring is a valid disposition.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        return life::live_until_told();
    }
    let (_dog, living) = (watched(), Living::start("ignores"));
    for signal in signals() {
        living.send(signal);
        living.lives_on(&format!("signal {signal}"));
    }
    living.stop();
}

static HEARD: AtomicI32 = AtomicI32::new(0);

extern "C" fn hear(signal: i32) {
    HEARD.store(signal, SeqCst);
}

/// Makes this process handle all signals. Executing a program resets handlers, but not ignored signals.
fn handle_signals() {
    for signal in signals() {
        // SAFETY: the handler only stores a number.
        unsafe { libc::signal(signal, hear as *const () as usize) };
    }
}

#[test]
fn a_family_lives_in_a_group_that_handles_signals() {
    if role().is_some() {
        let _dog = inner_dog();
        handle_signals();
        return handle_each();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut program("handles", &board), &board);
}

/// Sends each signal to the group. Meanwhile, the supervisor, the spares and a child that handles the signal
/// exist.
fn handle_each() {
    let (ready, go_on) = (Queue::<()>::bounded(1).unwrap(), Queue::<bool>::bounded(1).unwrap());
    let listen = |ready: Queue<()>, go_on: Queue<bool>| {
        handle_signals();
        let mut heard = Vec::new();
        ready.put(()).unwrap();
        while go_on.get().unwrap() {
            until("the child receives the signal", || HEARD.load(SeqCst) != 0);
            heard.push(HEARD.swap(0, SeqCst));
            ready.put(()).unwrap();
        }
        heard
    };
    let child = Process::builder().daemon(true).spawn(listen, (ready.clone(), go_on.clone())).unwrap();
    ready.get().unwrap();
    for signal in signals() {
        send(0, signal);
        until("main receives the signal", || HEARD.load(SeqCst) != 0);
        assert_eq!(HEARD.swap(0, SeqCst), signal);
        go_on.put(true).unwrap();
        ready.get_timeout(LONG).unwrap();
        life::round();
    }
    go_on.put(false).unwrap();
    assert_eq!(child.join(), Ok(signals()));
    drop((child, ready, go_on));
    live();
}

#[test]
fn a_family_continues_after_every_process_was_stopped() {
    if role().is_some() {
        let _dog = inner_dog();
        return life::live_until_told();
    }
    let (_dog, living) = (watched(), Living::start("stopped"));
    for n in 0..20 {
        until("the group is stopped", || {
            // A spare joins the group when it gets work, perhaps right after the signal. So this sends the
            // signal repeatedly.
            living.send(libc::SIGSTOP);
            let mut group = members(&living.board);
            // SAFETY: a system call.
            group.retain(|&pid| unsafe { libc::getpgid(pid) } == living.main.pid());
            group.iter().all(|&pid| proc::gone(pid) || proc::state(pid) == Some('T'))
        });
        living.send(libc::SIGCONT);
        living.lives_on(&format!("stop {n}"));
    }
    living.stop();
}
