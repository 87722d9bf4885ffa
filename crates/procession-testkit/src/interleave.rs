//! A victim that is not killed. Another operation runs between two of its instructions, and the victim continues.

use crate::child::describe;
use crate::gate::Gate;
use crate::insn::Insn;
use crate::pin::Pin;
use crate::tracee::{Stop, Tracee};

const MAX_STOPS: u64 = 10_000;

/// Runs `victim` again and again, each time stopped at a later place. The places are before the first
/// instruction after `Gate::begin`, before each atomic read-modify-write, exchange and system call, and at
/// `Gate::end`. While the victim is stopped, `meanwhile` runs in the test process on the real memory. Then
/// the victim runs to its end, and `check` follows.
///
/// Each run has its own scene, created by `prepare`. Returns the number of runs.
///
/// # Panics
/// If `meanwhile` or `check` panics, or if the victim sleeps or does not end.
pub fn interleave<S>(
    mut prepare: impl FnMut() -> S,
    victim: impl Fn(&S, &Gate),
    mut meanwhile: impl FnMut(&S),
    mut check: impl FnMut(S),
) -> u64 {
    let _pin = Pin::here();
    for stop in 0..MAX_STOPS {
        let scene = prepare();
        let ended = {
            let mut run = Some(|gate: &Gate| victim(&scene, gate));
            let mut tracee = Tracee::launch(&mut run).unwrap_or_else(|(mut child, why)| {
                child.kill();
                panic!("the victim {why}");
            });
            walk(&mut tracee, stop, |next| next.is_atomic() || next.is_syscall());
            let ended = tracee.ended();
            meanwhile(&scene);
            match tracee.run_to_end() {
                Some(0) => ended,
                Some(status) => {
                    panic!("after stop {stop} the victim {}: {}", describe(status), tracee.text())
                }
                None => panic!("after stop {stop} the victim does not come to its end"),
            }
        };
        check(scene);
        if ended {
            return stop + 1;
        }
    }
    panic!("the victim does not come to Gate::end in {MAX_STOPS} runs");
}

/// Runs the victim to the place with this number, or to `Gate::end` if that comes first. A place is an
/// instruction for which `counts` returns true.
pub(crate) fn walk(tracee: &mut Tracee, place: u64, counts: impl Fn(Insn) -> bool) {
    let mut passed = 0;
    while passed < place && !tracee.ended() {
        tracee.step();
        match tracee.settle() {
            Stop::Stepped => {}
            Stop::Parked => panic!("the victim sleeps, after {passed} of {place} places"),
            Stop::Hung => panic!("the victim does not leave a system call after {passed} of {place} places"),
            Stop::Died(status) => panic!("the victim {}: {}", describe(status), tracee.text()),
        }
        passed += u64::from(counts(tracee.next_insn()));
    }
}
