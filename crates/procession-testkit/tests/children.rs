//! The processes that the testkit creates.
#![allow(unsafe_code, reason = "registers a fork handler")]

mod toy;

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use procession_testkit::{Child, proc, spawn_parked};
use toy::{futex_wait, memory, toy};

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler() {
    HANDLED.fetch_add(1, SeqCst);
}

#[test]
fn a_raw_fork_runs_no_fork_handlers() {
    // SAFETY: the handler is async-signal-safe.
    assert_eq!(unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) }, 0);
    let mut child = Child::spawn(|| assert_eq!(HANDLED.load(SeqCst), 0));
    assert_eq!(child.wait(), 0, "{}", child.text());
    assert_eq!(HANDLED.load(SeqCst), 0);
}

#[test]
fn a_panic_in_a_child_is_reported() {
    let mut child = Child::spawn(|| panic!("no {}", 5));
    assert_eq!(child.wait(), 101 << 8);
    assert!(
        child.text().contains("tests/children.rs:") && child.text().ends_with("no 5"),
        "{}",
        child.text()
    );
}

#[test]
fn a_dropped_child_is_killed_and_reaped() {
    let child = Child::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    let pid = child.pid;
    assert_eq!(proc::ppid(pid), Some(std::process::id() as i32));
    drop(child);
    assert_eq!(proc::state(pid), None);
}

#[test]
fn children_die_with_their_creator() {
    let memory = memory();
    memory.inherit();
    let toy = toy(memory);
    let mut maker = spawn_parked(|| {
        let grandchild = spawn_parked(|| {
            futex_wait(&toy.lock, 0);
        });
        toy.arrived.store(grandchild.pid as u32, SeqCst);
        futex_wait(&toy.lock, 0);
    });
    let grandchild = toy.arrived.load(SeqCst) as i32;
    assert_eq!(proc::descendants(maker.pid), [grandchild]);
    assert!(proc::descends_from(grandchild, std::process::id() as i32));
    maker.kill();
    proc::wait_until("the grandchild is gone", Duration::from_secs(10), || proc::gone(grandchild));
}

/// A copy of a child's handle is dropped in a sibling. That must not kill the child.
#[test]
fn a_sibling_does_not_kill_a_child() {
    let memory = memory();
    memory.inherit();
    let first = spawn_parked(|| {
        futex_wait(&toy(memory).lock, 0);
    });
    let pid = first.pid;
    let mut second = Child::spawn(move || drop(first));
    assert_eq!(second.wait(), 0);
    assert!(proc::is_parked(pid));
}

#[test]
fn proc_reports_what_a_process_uses() {
    let me = std::process::id() as i32;
    assert!(proc::pss_kib(me).is_some_and(|kib| kib > 100));
    assert!(proc::cpu_ticks(me).is_some());
    assert_eq!(proc::comm(me).unwrap().get(..8), Some("children"));
    let nobody = i32::MAX;
    assert!(proc::gone(nobody) && proc::ppid(nobody).is_none() && proc::children(nobody).is_empty());
}
