//! A process that leaves a signal to the supervisor is killed at each of its system calls. A signal that it has left is
//! still sent, and a signal that it has not left yet can be sent by others.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;

use procession::internals::{self, Call, Role};
use procession::sync::Event;
use procession::{AnyProcess, Failure};
use procession_testkit::{Audit, Killed, isolated, kill_at_syscall};

use crate::family::{self, asleep, sleeper};

/// Kills the receiver when the event is set.
fn sends(go: Event, receiver: AnyProcess) {
    go.wait().expect("the event is set once");
    // The process may be killed in the call, or the receiver may have ended.
    let _ = receiver.kill();
}

/// Kills a sender when it enters its `n`-th system call, and returns whether a signal was left then.
fn killed_at(n: u32) -> (Killed, bool) {
    let (go, receiver) = (Event::new().unwrap(), sleeper());
    let sender = asleep(sends, (go.clone(), AnyProcess::from(&receiver)));
    let (over, left, pid) =
        (AtomicBool::new(false), AtomicBool::new(false), sender.pid().unwrap().cast_signed());
    let killed = std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (over, left) = (&over, &left);
        let killing = move |_| left.store(internals::has_left_signals(), SeqCst);
        let killer = scope.spawn(move || {
            kill_at_syscall(&[pid], n, || ready.send(()).unwrap(), |_| true, killing, || over.load(SeqCst))
        });
        is_ready.recv().unwrap();
        go.set().unwrap();
        let _ = sender.join();
        over.store(true, SeqCst);
        killer.join().unwrap()
    });
    let left = left.load(SeqCst);
    if !left && killed == Killed::Here {
        receiver.kill().unwrap();
    }
    let error = receiver.join().unwrap_err();
    assert!(matches!(error.failure(), Failure::Killed { signal: libc::SIGKILL, .. }), "call {n}: {error}");
    (killed, left)
}

#[test]
fn a_signal_that_was_left_is_sent_after_the_death_of_its_sender() {
    isolated!({
        family::supervisor();
        // The kernel permits a child no signal at all, so the child cannot wake the supervisor by a signal either.
        internals::faults().arm(Role::Child, Call::SignalPidfd, libc::EPERM, u32::MAX);
        assert_eq!(killed_at(u32::MAX).0, Killed::Never);
        let (audit, times_left) = (Audit::start(None), Cell::new(0));
        for n in 0..500 {
            match killed_at(n) {
                (Killed::Here, left) => times_left.set(times_left.get() + u32::from(left)),
                (Killed::Never, _) => break,
                (Killed::NotAllowed, _) => return println!("not allowed to try"),
            }
        }
        assert!(times_left.get() > 0, "no kill came between the store and the wake");
        audit.assert_back();
    });
}
