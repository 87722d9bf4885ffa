//! A process publishes its end, and then a signal stops the process. The stopped process delays no other
//! process.
#![allow(unsafe_code, reason = "a destructor of the program")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::family::*;
use procession::Process;
use procession::internals::{Rule, break_rule};
use procession_testkit::proc;

/// The signal that this process sends itself after the library's last action, or 0.
static LAST_SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Runs last, because the loader calls the entries of this array in reverse order.
#[used]
#[unsafe(link_section = ".fini_array.00001")]
static SIGNAL_AT_LAST: extern "C" fn() = signal_at_last;

extern "C" fn signal_at_last() {
    match LAST_SIGNAL.load(SeqCst) {
        0 => {}
        signal => send(std::process::id() as i32, signal),
    }
}

/// Spawns and joins a process that sends itself this signal right before it exits. Returns its process id.
fn ended_with(signal: i32, breaks_rule: bool) -> i32 {
    let leave = |signal: i32, breaks_rule: bool| {
        if breaks_rule {
            break_rule(Rule::EndUninterrupted);
        }
        LAST_SIGNAL.store(signal, SeqCst);
        std::process::id() as i32
    };
    Process::spawn(leave, (signal, breaks_rule)).unwrap().join().unwrap()
}

fn until_stopped(pid: i32) {
    until("the process is stopped", || proc::state(pid) == Some('T'));
}

/// Signals that stop or end a process.
const SIGNALS: [i32; 5] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGTERM, libc::SIGHUP];

#[test]
fn a_joined_process_exits_despite_signals_to_its_group() {
    let _dog = watched();
    if role().is_some() {
        return until_gone(&SIGNALS.map(|signal| ended_with(signal, false)));
    }
    let board = Board::new();
    succeeds(&mut program("main", &board));
    until_nothing_is_left(&board);
}

#[test]
fn without_the_rule_a_group_signal_stops_a_joined_process() {
    let _dog = watched();
    if role().is_some() {
        return until_stopped(ended_with(libc::SIGTSTP, true));
    }
    let board = Board::new();
    succeeds(&mut program("main", &board));
    until_nothing_is_left(&board);
}

/// Runs a main that ends while an already joined process is stopped.
fn main_ends_before_it(rule: Option<Rule>) {
    let _dog = watched();
    if role().is_some() {
        let pid = ended_with(libc::SIGSTOP, false);
        until_stopped(pid);
        return post(&my_board(), "stopped", pid);
    }
    let board = Board::new();
    let mut command = program("main", &board);
    let mut main = Running::start(breaking(&mut command, rule).stderr(Stdio::piped()));
    let stopped = board.number("stopped");
    if rule.is_some() {
        let lines = BufReader::new(main.0.stderr.take().expect("a pipe")).lines();
        let waits = |line: &String| line.contains("main has ended and waits for: ");
        let line = lines.map_while(Result::ok).find(waits).expect("main reports that it waits");
        assert!(line.contains(&stopped.to_string()) && line.ends_with(", which is stopped"), "{line}");
        send(stopped, libc::SIGCONT);
    }
    assert!(main.end().success());
    until_nothing_is_left(&board);
}

#[test]
fn main_does_not_wait_for_a_stopped_joined_process() {
    main_ends_before_it(None);
}

#[test]
fn without_the_rule_main_waits_for_a_stopped_joined_process() {
    main_ends_before_it(Some(Rule::FinishedNotAwaited));
}
