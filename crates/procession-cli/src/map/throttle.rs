//! [`Throttle`]: decides whether a command may start now.

use std::fs;
use std::time::Duration;

use super::plan::StartPlan;

/// How often the load and the available memory are checked while they prevent a start.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub struct Throttle {
    plan: StartPlan,
    last_start: Option<Duration>,
    /// The time until which no command starts, and the reason.
    closed: Option<(Duration, String)>,
}

impl Throttle {
    pub fn new(plan: StartPlan) -> Throttle {
        Throttle { plan, last_start: None, closed: None }
    }

    pub fn note_start(&mut self, now: Duration) {
        self.last_start = Some(now);
    }

    /// Returns whether a command may start.
    pub fn is_open(&mut self, now: Duration) -> bool {
        if self.closed.as_ref().is_some_and(|(until, _)| now < *until) {
            return false;
        }
        self.closed = self.reason(now);
        self.closed.is_none()
    }

    /// Returns when to check again, and the reason for the wait.
    pub fn closed(&self) -> Option<&(Duration, String)> {
        self.closed.as_ref()
    }

    fn reason(&self, now: Duration) -> Option<(Duration, String)> {
        let next = self.last_start.map_or(Duration::ZERO, |last| last + self.plan.delay);
        if now < next {
            return Some((next, "the delay".into()));
        }
        if let Some(most) = self.plan.load
            && load()? > most
        {
            return Some((now + LOOK_AGAIN, format!("a load of {most}")));
        }
        let least = self.plan.memory?;
        (available_memory()? < least).then(|| (now + LOOK_AGAIN, "free memory".into()))
    }
}

/// Returns the load average of the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Returns the available memory in bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
