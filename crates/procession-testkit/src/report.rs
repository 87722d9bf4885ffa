//! The result of a run of the stepper.

use std::fmt;
use std::fs;

/// A moment at which the victim counts as killed.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Instructions executed since `Gate::begin`.
    pub step: u64,
    /// The victim's process id. While a checker runs, the victim is stopped, and not dead yet.
    pub victim_pid: i32,
    /// The victim sleeps in a futex.
    pub parked: bool,
    /// The victim has finished the operation.
    pub finished: bool,
}

/// A point that did not pass.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Instructions executed since `Gate::begin`.
    pub step: u64,
    /// The instruction that would have come next.
    pub rip: u64,
    /// What the checker reported, or how it ended.
    pub why: String,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The victim reached `Gate::end` and returned.
    Finished,
    /// The victim slept in a futex inside the gate, and was killed there.
    Parked,
    /// The victim ended by itself, with this wait status. The status of a panic is `101 << 8`.
    Died(i32),
    /// The run was cut short: too many failures, or too many steps.
    Stopped,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number of instructions stepped.
    pub steps: u64,
    /// The number of points checked.
    pub points: u64,
    /// Points that did not pass, at most 20.
    pub failures: Vec<Failure>,
    /// How the run ended.
    pub outcome: Outcome,
}

impl Report {
    /// # Panics
    /// Unless at least one point was checked, none failed, and the victim did not die by itself.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.failures.is_empty(), "{self}");
        assert!(self.points > 0, "nothing was checked: {self}");
        assert!(!matches!(self.outcome, Outcome::Died(_) | Outcome::Stopped), "{self}");
    }

    /// Asserts that the run found a bug. Used by controls, which switch a rule off.
    ///
    /// # Panics
    /// Unless at least one point failed. Otherwise the test would not have detected the bug.
    #[track_caller]
    pub fn assert_broken(&self) {
        assert!(!self.failures.is_empty(), "the injected bug was not found: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { steps, points, failures, outcome } = self;
        write!(f, "{steps} steps, {points} points, {} failures, {outcome:?}", failures.len())?;
        for failure in failures.iter().take(5) {
            write!(f, "\n  step {}, next {}: {}", failure.step, place(failure.rip), failure.why)?;
        }
        Ok(())
    }
}

/// Formats an address as `file+offset`, as `addr2line -e file offset` expects it.
fn place(address: u64) -> String {
    find(address).unwrap_or_else(|| format!("{address:#x}"))
}

fn find(address: u64) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let ranges: Vec<(u64, u64, &str)> = maps.lines().filter_map(range).collect();
    let (_, _, file) = ranges.iter().find(|(start, end, _)| (*start..*end).contains(&address))?;
    let (base, _, _) = ranges.iter().find(|(_, _, other)| other == file)?;
    Some(format!("{address:#x} (addr2line -e {file} {:#x})", address - base))
}

fn range(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let file = words.nth(4)?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, file))
}
