//! Kills at one exact place, which random kills do not hit.
//!
//! * [`spawn_parked`]: a waiter that is certainly asleep.
//! * [`run_until`]: a victim that is stopped, for example, between its release store and its wake.
//! * [`freeze`]: a waiter that can be woken but cannot run.

use std::mem;
use std::time::Duration;

use crate::child::{Child, describe};
use crate::gate::Gate;
use crate::pin::Pin;
use crate::proc;
use crate::report::Point;
use crate::tracee::{Stop, Tracee};

pub use crate::frozen::{Frozen, freeze};

const LIMIT: Duration = Duration::from_secs(10);
const MAX_STEPS: u64 = 2_000_000;

/// Starts a raw child and waits until it sleeps in a futex.
///
/// # Panics
/// If the child ends instead, or does not sleep within 10 s.
pub fn spawn_parked(f: impl FnOnce()) -> Child {
    let mut child = Child::spawn(f);
    proc::wait_until("the child sleeps in a futex", LIMIT, || {
        if let Some(status) = child.try_wait() {
            panic!("the child should sleep, but it {}: {}", describe(status), child.text());
        }
        proc::is_parked(child.pid)
    });
    child
}

/// Waits until the main thread of `pid` sleeps in a futex.
///
/// # Panics
/// If the process is gone, or does not sleep within 10 s.
pub fn wait_until_parked(pid: impl crate::proc::Pid) {
    let pid = pid.raw();
    proc::wait_until(&format!("process {pid} sleeps in a futex"), LIMIT, || {
        assert!(!proc::gone(pid), "process {pid} should sleep, but it is gone");
        proc::is_parked(pid)
    });
}

/// Steps a victim from `Gate::begin` to the first instruction after which `stop` returns true. Leaves it stopped there,
/// under ptrace of this thread, so [`Child::kill`] kills it at exactly that place.
///
/// `stop` runs in the test process and reads the real shared memory. As in [`Child::spawn`], this process
/// forgets the captures of the closure `victim`.
///
/// # Panics
/// If the victim ends or sleeps before `stop` returns true.
pub fn run_until(victim: impl FnOnce(&Gate), mut stop: impl FnMut(&Point) -> bool) -> Child {
    let _pin = Pin::here();
    let mut victim = Some(victim);
    let launched = Tracee::launch(&mut victim);
    mem::forget(victim);
    let mut tracee = launched.unwrap_or_else(|(_, why)| panic!("the victim {why}"));
    let mut point = Point { step: 0, victim_pid: tracee.pid(), parked: false, finished: false };
    while !stop(&point) {
        assert!(!point.parked, "the victim sleeps at step {}, before it should be stopped", point.step);
        assert!(!point.finished, "the victim finished and was never where it should be stopped");
        assert!(point.step < MAX_STEPS, "more than {MAX_STEPS} steps");
        assert!(!tracee.panicked(), "the victim {}", tracee.text());
        tracee.step();
        match tracee.settle() {
            Stop::Stepped => point.step += 1,
            Stop::Parked => point.parked = true,
            Stop::Died(status) => panic!("the victim {}: {}", describe(status), tracee.text()),
            Stop::Hung => panic!("the victim does not leave a system call"),
        }
        point.finished = tracee.ended();
    }
    tracee.into_child()
}
