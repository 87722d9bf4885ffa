//! Crash stepping of one operation on an object of any kind, and the checks after a death.

use procession::internals;
use procession_testkit::{Child, CrashStep, Gate, Report, proc};

use super::{Before, VICTIM, nothing_in, open};

/// Keeps a created object, and this process's handle to it, until the test ends.
pub fn leaked<T>(made: procession::Result<T>) -> &'static T {
    Box::leak(Box::new(made.expect("an object")))
}

/// Allocates the calling thread's record, so that the stepped operation does not have to. Creating the
/// thread's first lock allocates the record.
pub fn with_record() {
    drop(procession::Lock::new());
}

/// Kills the victim after each instruction of `operation`, and recovers it. After each death, `check`
/// receives the victim's process id, and nothing of the victim may be left in the arena. The victim calls
/// `prepare` before the stepping begins.
pub fn step(
    step: CrashStep,
    prepare: impl Fn(),
    operation: impl Fn(),
    check: impl Fn(i32) -> Result<(), String>,
) -> Report {
    open([VICTIM]);
    let stock = Before::now();
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        prepare();
        gate.begin();
        operation();
        gate.end();
    };
    step.run(victim, |point| {
        internals::recover(VICTIM);
        check(point.victim_pid)?;
        nothing_in(VICTIM)?;
        stock.is_back()
    })
}

/// Returns false if `waiter` still sleeps. Otherwise `waiter` has been woken, and must end with success.
pub fn ends_if_woken(waiter: &mut Child) -> bool {
    if proc::is_parked(waiter.pid) {
        return false;
    }
    assert_eq!(waiter.wait(), 0, "{}", waiter.text());
    true
}
