//! [`Reporter`]: calls the progress hook of a map.

use std::fmt;
use std::ops::Add;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cells::chunk_counts::ChunkCounts;
use super::progress::Progress;
use crate::arena::member;
use crate::os::clock::now_ns;

/// The hook is called at most once in this time.
const INTERVAL_NS: u64 = 100_000_000;
/// If nothing has changed, the hook is called again after this time.
const IDLE_NS: u64 = 1_000_000_000;

/// The user's progress hook. All maps of one handle to a pool share it.
#[derive(Clone)]
pub(super) struct Hook(Arc<Mutex<dyn FnMut(Progress) + Send>>);

impl Hook {
    pub(super) fn new(hook: impl FnMut(Progress) + Send + 'static) -> Hook {
        Hook(Arc::new(Mutex::new(hook)))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// How many items of a map are done and have failed, and how often items were retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) retried: usize,
}

impl Counts {
    /// The counts of items that could not be sent to a worker.
    pub(super) fn refused(items: usize) -> Counts {
        Counts { done: items, failed: items, retried: 0 }
    }
}

impl From<ChunkCounts> for Counts {
    fn from(counts: ChunkCounts) -> Counts {
        let ChunkCounts { done, failed, retried } = counts;
        Counts { done: done as usize, failed: failed as usize, retried: retried as usize }
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            done: self.done + other.done,
            failed: self.failed + other.failed,
            retried: self.retried + other.retried,
        }
    }
}

/// The progress hook of one map, and when it is called next.
pub(super) struct Reporter {
    hook: Hook,
    pub(super) total: Option<usize>,
    /// When the map began; 0 if it has not begun.
    began_ns: u64,
    called_ns: u64,
    due_ns: u64,
    /// The counts of the last call.
    last: Counts,
}

impl Reporter {
    /// `left` is the size hint of the input.
    pub(super) fn new(hook: Hook, left: (usize, Option<usize>)) -> Reporter {
        let total = Some(left.0).filter(|&least| left.1 == Some(least));
        Reporter { hook, total, began_ns: 0, called_ns: 0, due_ns: 0, last: Counts::default() }
    }

    /// Returns when the counts should be reported next.
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Calls the hook, unless nothing has changed since a moment ago.
    pub(super) fn report(&mut self, counts: Counts) {
        let now = now_ns();
        self.due_ns = now + INTERVAL_NS;
        let is_first = self.began_ns == 0;
        if is_first {
            self.began_ns = now;
        }
        if is_first || counts != self.last || now - self.called_ns >= IDLE_NS {
            self.called_ns = now;
            self.call(counts, false);
        }
    }

    /// Calls the hook for the last time. Does nothing if the map has never begun, or if this thread panics.
    pub(super) fn finish(mut self, counts: Counts) {
        if self.began_ns != 0 && !std::thread::panicking() {
            self.call(counts, true);
        }
    }

    fn call(&mut self, counts: Counts, is_over: bool) {
        // In a plain fork, another thread may have held the hook's lock for ever.
        if member::is_forked() {
            return;
        }
        self.last = counts;
        let Counts { done, failed, retried } = counts;
        let elapsed = Duration::from_nanos(now_ns() - self.began_ns);
        let progress = Progress { done, failed, retried, total: self.total, elapsed, is_over };
        (self.hook.0.lock().unwrap_or_else(|e| e.into_inner()))(progress);
    }
}
