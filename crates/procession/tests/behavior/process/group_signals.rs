//! Signals to the whole process group. The supervisor and the spares survive such a signal. Main and running
//! children receive it, but a process that is spawned later does not.
#![allow(unsafe_code, reason = "signals and process groups")]

use crate::family;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Failure, Process};
use procession_testkit::{isolated, proc};

static HEARD: AtomicU32 = AtomicU32::new(0);

extern "C" fn hear(_: i32) {
    HEARD.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: the handler only changes an atomic.
    unsafe { libc::signal(signal, handler) };
}

fn hearing() -> libc::sighandler_t {
    hear as extern "C" fn(i32) as libc::sighandler_t
}

/// Returns every signal that a process can block or ignore, except SIGCONT. The list also lacks two signals
/// that the C library reserves for itself.
fn all_signals() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCONT, 32, 33].contains(signal))
}

/// Sends a signal to this process's group.
fn to_group(signal: i32) {
    // The C library refuses to send its own signals. The kernel does not.
    // SAFETY: a system call without pointers.
    let sent = unsafe { libc::syscall(libc::SYS_kill, 0, signal) };
    assert_eq!(sent, 0);
}

/// Returns the number of signals received, as soon as there is one.
fn listens(signal: i32, board: String) -> u32 {
    handle(signal, hearing());
    post(&board, "listens", "");
    until("a signal comes", || HEARD.load(Ordering::SeqCst) > 0);
    HEARD.load(Ordering::SeqCst)
}

#[test]
fn main_and_children_receive_every_signal_of_their_group() {
    isolated!({
        let supervisor = supervisor();
        for signal in all_signals() {
            handle(signal, hearing());
            HEARD.store(0, Ordering::SeqCst);
            let board = Board::new();
            let child = Process::builder().daemon(true).spawn(listens, (signal, board.path())).unwrap();
            board.wait("listens");
            to_group(signal);
            assert_eq!(child.join(), Ok(1), "signal {signal}");
            if signal != libc::SIGCHLD {
                until("main has received the signal", || HEARD.load(Ordering::SeqCst) > 0);
                assert_eq!(HEARD.load(Ordering::SeqCst), 1, "signal {signal}");
            }
            // The signal comes before the spawn. In this order, even a direct fork of main would not receive
            // the signal.
            to_group(signal);
            assert_eq!(Process::spawn(|| 5, ()).unwrap().join(), Ok(5), "signal {signal}");
            handle(signal, libc::SIG_IGN);
        }
        assert_eq!(family::supervisor(), supervisor);
    });
}

/// A process cannot handle the signals of the C library. They end every process that does not block them.
#[test]
fn the_supervisor_survives_the_signals_of_the_c_library() {
    isolated!({
        let supervisor = supervisor();
        for signal in [32, 33] {
            let spares = spares();
            for &pid in spares.iter().chain([&supervisor]) {
                // SAFETY: a system call without pointers.
                unsafe { libc::syscall(libc::SYS_kill, pid, signal) };
            }
            until("the spares have nothing pending", || pending(&spares) == 0);
            assert_eq!(Process::spawn(|| 5, ()).unwrap().join(), Ok(5), "signal {signal}");
        }
        assert_eq!(family::supervisor(), supervisor);
    });
}

/// Waits until all spares exist and sleep, and returns their process ids.
fn spares() -> Vec<i32> {
    let supervisor = supervisor();
    let mut spares = Vec::new();
    until("there are spares, asleep", || {
        let spare = |&pid: &i32| proc::comm(pid).as_deref() == Some("procession-sup");
        spares = proc::children(supervisor).into_iter().filter(spare).collect();
        spares.len() >= 4 && spares.iter().all(|&pid| proc::is_parked(pid))
    });
    spares
}

/// Returns the signals that are pending for any of these processes, as bits.
fn pending(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let word = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        word("SigPnd:").unwrap_or(0) | word("ShdPnd:").unwrap_or(0)
    };
    pids.iter().map(of).fold(0, |all, one| all | one)
}

/// Programs such as `pkill -f` and service managers signal each process of a program by its own process id.
#[test]
fn signals_to_every_process_do_not_hit_processes_spawned_later() {
    isolated!({
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGRTMIN()] {
            let (supervisor, spares) = (supervisor(), spares());
            for &pid in spares.iter().chain([&supervisor]) {
                send(pid, signal);
            }
            until("the spares have nothing pending", || pending(&spares) == 0);
            for n in 0..8 {
                assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n), "signal {signal}");
            }
        }
    });
}

/// All processes of a user share a limit on queued signals. A signal that is sent often must not reach this
/// limit.
#[test]
fn signals_do_not_pile_up_in_spares() {
    isolated!({
        let signal = libc::SIGRTMIN() + 1;
        handle(signal, hearing());
        let supervisor = supervisor();
        let queued = |pid: i32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("SigQ:")).unwrap();
            line.trim().split('/').next().unwrap().parse().unwrap()
        };
        let before = queued(supervisor);
        (0..500).for_each(|_| to_group(signal));
        until("no signal is left", || {
            let all: Vec<i32> = spares().into_iter().chain([supervisor]).collect();
            pending(&all) == 0 && queued(supervisor) < before + 250
        });
    });
}

#[test]
fn a_signal_right_after_the_spawn_is_received() {
    isolated!({
        for builder in [Process::builder(), Process::builder().start_method(StartMethod::Spawn)] {
            for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGKILL, libc::SIGRTMIN() + 2] {
                for _ in 0..25 {
                    let p = builder.clone().daemon(true).spawn(forever, ()).unwrap();
                    let pid = p.pid().unwrap();
                    send(pid, signal);
                    let error = p.join().unwrap_err();
                    let expected =
                        matches!(error.failure(), Failure::Killed { signal: s, .. } if *s == signal);
                    assert!(expected && error.pid() == Some(pid), "signal {signal} to {pid}: {error}");
                }
            }
        }
    });
}

/// Children are in main's process group, so Ctrl-C reaches them, and they may read from the terminal.
#[test]
fn children_are_in_the_group_of_main() {
    isolated!({
        // SAFETY: a system call without pointers.
        let group = || unsafe { libc::getpgid(0) };
        assert_eq!(Process::spawn(group, ()).unwrap().join(), Ok(group()));
        let fresh = Process::builder().start_method(StartMethod::Spawn);
        assert_eq!(fresh.spawn(group, ()).unwrap().join(), Ok(group()));
        // SAFETY: system calls without pointers.
        let both = || unsafe { (libc::getpgid(0), libc::getpid()) };
        let own = Process::builder().process_group(0).spawn(both, ()).unwrap();
        let (group, pid) = own.join().unwrap();
        assert_eq!(group, pid);
        // A process that leads a group cannot start a session.
        // SAFETY: a system call without pointers.
        let session = || unsafe { libc::setsid() };
        assert!(Process::spawn(session, ()).unwrap().join().unwrap() > 0);
    });
}
