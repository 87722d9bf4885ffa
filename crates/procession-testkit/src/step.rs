//! Crash stepping: an operation is killed at every one of its instructions.
//!
//! The victim runs under ptrace, and is stopped after each instruction. A checker is then forked from the
//! test process. It gets a private copy of the shared memory at the same address. The copy is exactly what a
//! SIGKILL at that place would leave. The checker declares the victim dead, recovers and checks, and is
//! thrown away.
//!
//! The test process, the victim and the checkers share one processor during a run. An operation that uses
//! load-linked and store-conditional (aarch64 without LSE) never ends, because stepping breaks every
//! reservation.

use std::time::Duration;

use crate::checker::Checker;
use crate::child::{PANIC_CODE, describe};
use crate::gate::Gate;
use crate::mapping::Mapping;
use crate::pairwise;
use crate::pin::Pin;
use crate::report::{Failure, Outcome, Point, Report};
use crate::snapshot::Snapshot;
use crate::tracee::{Stop, Tracee};

const MAX_FAILURES: usize = 20;

/// Called in the test process when the victim sleeps.
type OnPark = Box<dyn FnMut(&Point)>;

/// A run of the stepper, to be configured and started.
pub struct CrashStep {
    mapping: Mapping,
    every_instruction: bool,
    max_steps: u64,
    checker_limit: Duration,
    when_parked: Option<OnPark>,
}

impl CrashStep {
    /// Creates a run that steps operations on this memory.
    pub fn new(mapping: Mapping) -> Self {
        mapping.inherit();
        CrashStep {
            mapping,
            every_instruction: false,
            max_steps: 2_000_000,
            checker_limit: Duration::from_secs(10),
            when_parked: None,
        }
    }

    /// Checks after every instruction, even if the shared memory did not change. The start, the end and parks
    /// are always checked.
    pub fn check_every_instruction(mut self, yes: bool) -> Self {
        self.every_instruction = yes;
        self
    }

    /// Makes a run fail if it takes more steps than this.
    pub fn max_steps(mut self, steps: u64) -> Self {
        self.max_steps = steps;
        self
    }

    /// Makes a checker fail if it takes longer than this. The default is 10 s.
    pub fn checker_limit(mut self, limit: Duration) -> Self {
        self.checker_limit = limit;
        self
    }

    /// Sets what to do in the test process, on the real memory, when the victim sleeps. An example is to
    /// unlock a lock. The stepping continues when the victim is awake. If the victim stays asleep, the run
    /// fails. Without this, a park ends the run.
    pub fn when_parked(mut self, f: impl FnMut(&Point) + 'static) -> Self {
        self.when_parked = Some(Box::new(f));
        self
    }

    /// Steps `victim`. At each point `check` runs in a process of its own, on a private copy of the memory.
    ///
    /// `check` declares the victim dead, recovers, and checks the invariants. An `Err`, a panic, a signal or a hang is
    /// a failure.
    pub fn run(self, victim: impl FnOnce(&Gate), check: impl Fn(&Point) -> Result<(), String>) -> Report {
        let mapping = self.mapping;
        self.drive(victim, |snapshot, point| {
            mapping.privatise(snapshot.reader());
            check(point)
        })
    }

    /// Does the same as [`run`](CrashStep::run), with a second process beside the victim.
    ///
    /// At each point the checker creates a fresh shared copy of the memory. `other` runs on it in a child until it ends
    /// or parks. Then the victim counts as dead, and `recover` runs in the checker. Afterwards `other` must end within
    /// the checker's limit. `check` comes last.
    ///
    /// The point before the first instruction counts, too. If `other` waits for something that only a finished victim
    /// provides, `recover` must provide it.
    pub fn run_pairwise(
        mut self,
        victim: impl FnOnce(&Gate),
        other: impl Fn(),
        recover: impl Fn(),
        check: impl Fn(&Point) -> Result<(), String>,
    ) -> Report {
        let (mapping, limit) = (self.mapping, self.checker_limit);
        // The time covers two waits and a recovery, so the checker can still report which process hangs.
        self.checker_limit = limit * 3;
        self.drive(victim, |snapshot, point| {
            mapping.clone_shared(snapshot.reader());
            pairwise::meet(&other, &recover, limit)?;
            check(point)
        })
    }

    fn drive(
        self,
        victim: impl FnOnce(&Gate),
        probe: impl Fn(&Snapshot, &Point) -> Result<(), String>,
    ) -> Report {
        let _pin = Pin::here();
        // Kept until the end, because the victim uses the captures.
        let mut victim = Some(victim);
        match Tracee::launch(&mut victim) {
            Ok(tracee) => Run::new(self, tracee, probe).conduct(),
            Err((mut child, why)) => {
                let failures = vec![Failure { step: 0, rip: 0, why: format!("the victim {why}") }];
                Report { steps: 0, points: 0, failures, outcome: Outcome::Died(child.kill()) }
            }
        }
    }
}

/// A run under way.
struct Run<P> {
    plan: CrashStep,
    tracee: Tracee,
    snapshot: Snapshot,
    checker: Checker<P>,
    point: Point,
    report: Report,
}

impl<P: Fn(&Snapshot, &Point) -> Result<(), String>> Run<P> {
    fn new(plan: CrashStep, tracee: Tracee, probe: P) -> Run<P> {
        let snapshot = Snapshot::take(plan.mapping);
        let checker = Checker::new(plan.checker_limit, probe);
        let point = Point { step: 0, victim_pid: tracee.pid(), parked: false, finished: false };
        let report = Report { steps: 0, points: 0, failures: Vec::new(), outcome: Outcome::Stopped };
        Run { plan, tracee, snapshot, checker, point, report }
    }

    fn conduct(mut self) -> Report {
        self.check();
        self.report.outcome = loop {
            if let Some(outcome) = self.advance() {
                break outcome;
            }
        };
        self.report.steps = self.point.step;
        self.report
    }

    /// Executes one more instruction. Returns the outcome if it was the last.
    fn advance(&mut self) -> Option<Outcome> {
        if self.report.failures.len() >= MAX_FAILURES {
            return Some(Outcome::Stopped);
        }
        if self.point.step >= self.plan.max_steps {
            return self.fail(format!("more than {} steps", self.plan.max_steps), Outcome::Stopped);
        }
        let may_store = self.tracee.next_insn().may_store();
        self.tracee.step();
        let mut stop = self.tracee.settle();
        if matches!(stop, Stop::Parked) {
            self.point.parked = true;
            self.snapshot.renew();
            self.check();
            let Some(wake) = &mut self.plan.when_parked else { return Some(Outcome::Parked) };
            wake(&self.point);
            self.point.parked = false;
            stop = self.tracee.settle_awake();
        }
        match stop {
            Stop::Stepped => self.stepped(may_store),
            Stop::Parked => self.fail("still asleep after when_parked".to_owned(), Outcome::Parked),
            Stop::Hung => self.fail("the victim does not leave a system call".to_owned(), Outcome::Stopped),
            Stop::Died(status) => {
                let why = format!("the victim {}: {}", describe(status), self.tracee.text());
                self.fail(why, Outcome::Died(status))
            }
        }
    }

    fn stepped(&mut self, may_store: bool) -> Option<Outcome> {
        self.point.step += 1;
        self.point.finished = self.tracee.ended();
        let changed = may_store && self.snapshot.renew();
        if changed || self.plan.every_instruction || self.point.finished {
            self.check();
        }
        if self.point.finished {
            return self.finish();
        }
        if self.tracee.panicked() {
            return self.fail(format!("the victim {}", self.tracee.text()), Outcome::Died(PANIC_CODE << 8));
        }
        None
    }

    /// The gate has ended. The rest of the victim's closure runs freely.
    fn finish(&mut self) -> Option<Outcome> {
        match self.tracee.run_to_end() {
            Some(0) => Some(Outcome::Finished),
            Some(status) => {
                let why = format!("after Gate::end the victim {}: {}", describe(status), self.tracee.text());
                self.fail(why, Outcome::Died(status))
            }
            None => self.fail("the victim does not return after Gate::end".to_owned(), Outcome::Stopped),
        }
    }

    fn check(&mut self) {
        self.report.points += 1;
        if let Err(why) = self.checker.ask(&self.snapshot, &self.point) {
            self.note(why);
        }
    }

    fn fail(&mut self, why: String, outcome: Outcome) -> Option<Outcome> {
        self.note(why);
        Some(outcome)
    }

    fn note(&mut self, why: String) {
        self.report.failures.push(Failure { step: self.point.step, rip: self.tracee.rip(), why });
    }
}
