//! A victim whose own process exits while one of its threads is in the middle of an operation.
//!
//! When a process calls `exit`, the kernel ends its other threads wherever they are. For such a thread this
//! is a death between two instructions, although the process exits normally. The exit code does not show it.

use std::io::{Read, Write};
use std::thread;

use crate::child::describe;
use crate::gate::Gate;
use crate::interleave::walk;
use crate::pin::Pin;
use crate::tracee::Tracee;

const MAX_STOPS: u64 = 10_000;

/// Runs `victim` again and again, each time stopped at a later place between `Gate::begin` and `Gate::end`.
/// The places are before each instruction that may write to memory other than the stack, before each system
/// call, and at `Gate::end`. While the victim is stopped, `exit` runs in a second thread of the same process,
/// and must end that process. Then `check` runs in the test process with the wait status.
///
/// Each run has its own scene, created by `prepare`. Returns the number of runs.
///
/// # Panics
/// If `check` panics, if the victim sleeps, or if its process does not end.
pub fn exit_everywhere<S: Sync>(
    mut prepare: impl FnMut() -> S,
    victim: impl Fn(&S, &Gate),
    exit: impl Fn(&S) + Sync,
    mut check: impl FnMut(S, i32),
) -> u64 {
    let _pin = Pin::here();
    for stop in 0..MAX_STOPS {
        let scene = prepare();
        let (mut orders, mut tester) = std::io::pipe().expect("a pipe");
        let (ended, status) = {
            let mut run = Some(|gate: &Gate| {
                thread::scope(|threads| {
                    threads.spawn(|| {
                        orders.read_exact(&mut [0]).expect("the tester gives the order");
                        exit(&scene);
                    });
                    victim(&scene, gate);
                });
            });
            let mut tracee = Tracee::launch(&mut run).unwrap_or_else(|(mut child, why)| {
                child.kill();
                panic!("the victim {why}");
            });
            walk(&mut tracee, stop, |next| next.may_store());
            let ended = tracee.ended();
            tester.write_all(&[0]).expect("the victim's second thread reads");
            let status = tracee.outlive();
            (ended, status.unwrap_or_else(|| panic!("the process does not exit after stop {stop}")))
        };
        assert!(libc::WIFEXITED(status), "after stop {stop} the victim {}", describe(status));
        check(scene, status);
        if ended {
            return stop + 1;
        }
    }
    panic!("the victim does not come to Gate::end in {MAX_STOPS} runs");
}
