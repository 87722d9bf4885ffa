//! [`Progress`]: how much of a map is done.

use std::fmt;
use std::time::Duration;

/// How much of a map is done: see [`Pool::with_progress`](super::Pool::with_progress). It can be printed:
/// `312 of 500 done, 3 failed, 2 retried, 104/s, 2 s to go`.
///
/// ```
/// use std::sync::mpsc;
/// let pool = procession::Pool::new(2)?;
/// let (sender, calls) = mpsc::channel();
/// pool.with_progress(move |progress| sender.send(progress).unwrap()).map(|n: u32| n, 0..1000)?;
/// let last = calls.iter().last().unwrap();
/// assert_eq!((last.done, last.failed, last.total, last.is_over), (1000, 0, Some(1000), true));
/// assert!(last.to_string().starts_with("1000 of 1000 done"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The number of items that are done, in any order. An item is done when its function has returned, or
    /// when the item has failed for good. Its result may still wait for the results of earlier items.
    pub done: usize,
    /// How many of these items have failed: they have an error instead of a result.
    pub failed: usize,
    /// How many times an item was retried, after a panic, a time-out or the death of its worker.
    pub retried: usize,
    /// The number of items in the input. `None` if the `size_hint` of the input is not exact, and the input has not
    /// ended yet.
    pub total: Option<usize>,
    /// The time since the map began.
    pub elapsed: Duration,
    /// The map is over, and the hook is not called again for it. Either all items are done, or the map has
    /// stopped early: at a failed item, or because its iterator was dropped.
    pub is_over: bool,
}

impl Progress {
    /// Returns how many items were done in a second, on average since the map began.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?.with_progress(|progress| assert!(progress.rate() >= 0.0));
    /// pool.map(|n: u32| n, 0..1000)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 }
    }

    /// Returns the time that the remaining items take at this [rate](Progress::rate). Returns `None` if no item is
    /// done yet, or if the number of items is not known.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?.with_progress(|progress| {
    ///     assert!(progress.done == 0 || progress.eta().is_some());
    /// });
    /// pool.map(|n: u32| n, 0..1000)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done);
        let seconds = left as f64 / Some(self.rate()).filter(|&rate| rate > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.done)?;
        if let Some(total) = self.total {
            write!(f, " of {total}")?;
        }
        f.write_str(" done")?;
        for (count, what) in [(self.failed, "failed"), (self.retried, "retried")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.rate() {
            0.0 => {}
            rate if rate < 10.0 => write!(f, ", {rate:.1}/s")?,
            rate => write!(f, ", {rate:.0}/s")?,
        }
        match self.eta() {
            _ if self.is_over => write!(f, ", took {}", Rounded(self.elapsed)),
            Some(eta) => write!(f, ", {} to go", Rounded(eta)),
            None => Ok(()),
        }
    }
}

/// A duration in whole seconds, minutes and hours.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64().round() as u64 {
            seconds @ 0..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_printed_in_one_line() {
        let mut progress = Progress {
            done: 0,
            failed: 0,
            retried: 0,
            total: Some(500),
            elapsed: Duration::ZERO,
            is_over: false,
        };
        assert_eq!(progress.to_string(), "0 of 500 done");
        (progress.done, progress.failed, progress.retried) = (312, 3, 2);
        progress.elapsed = Duration::from_secs(3);
        assert_eq!(progress.to_string(), "312 of 500 done, 3 failed, 2 retried, 104/s, 2 s to go");
        progress.elapsed = Duration::from_secs(312);
        assert_eq!(progress.to_string(), "312 of 500 done, 3 failed, 2 retried, 1.0/s, 3 min 8 s to go");
        progress.total = None;
        assert_eq!(progress.to_string(), "312 done, 3 failed, 2 retried, 1.0/s");
        progress.is_over = true;
        assert_eq!(progress.to_string(), "312 done, 3 failed, 2 retried, 1.0/s, took 5 min 12 s");
    }
}
