//! A queue, a victim that puts into it and gets out of it, and what must be true of it after its death.

use procession::Queue;
use procession::internals;
use procession_testkit::{CrashStep, Gate, Point, Report};

use super::{Before, Diary, VICTIM, arena, nothing_in, open};
use crate::ensure;

/// What the victim has begun.
pub const BEGUN: u64 = 1;
/// What it has come to the end of.
pub const DONE: u64 = 2;

/// Crash stepping on the arena.
pub fn crash() -> CrashStep {
    CrashStep::new(arena())
}

/// A message of so many bytes that can be told from others.
pub fn message(number: u8, bytes: usize) -> Vec<u8> {
    vec![number; bytes]
}

/// Everything in a queue, taken out.
pub fn drain(queue: &Queue<Vec<u8>>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| queue.try_get().ok()).collect()
}

/// A queue with messages in it.
pub struct Line {
    pub queue: Queue<Vec<u8>>,
    /// What there was before the queue.
    pub before: Before,
    pub diary: Diary,
}

impl Line {
    /// Made by `make`, which also brings it into the state that is wanted.
    pub fn new(make: impl FnOnce() -> Queue<Vec<u8>>) -> Line {
        arena();
        open([VICTIM]);
        let before = Before::now();
        Line { queue: make(), before, diary: Diary::new() }
    }

    /// Kills the victim at every instruction of `operation`. After each death the queue must hold `left` (what
    /// it holds if nothing was done) or `right` (if all was done), and the latter if the operation had
    /// returned.
    pub fn step(
        &self,
        step: CrashStep,
        operation: impl Fn(&Queue<Vec<u8>>),
        left: &[Vec<u8>],
        right: &[Vec<u8>],
    ) -> Report {
        self.diary.write(0, 0);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            self.diary.write(0, BEGUN);
            gate.begin();
            operation(&self.queue);
            self.diary.write(0, DONE);
            gate.end();
        };
        let report = step.run(victim, |point| self.verdict(point, left, right));
        println!("{report}");
        report
    }

    /// After the victim's death.
    pub fn verdict(&self, _: &Point, left: &[Vec<u8>], right: &[Vec<u8>]) -> Result<(), String> {
        internals::recover(VICTIM);
        nothing_in(VICTIM)?;
        self.is_sound()?;
        ensure!(
            self.queue.len() == left.len() || self.queue.len() == right.len(),
            "its length is {}",
            self.queue.len()
        );
        // It can be used as if nothing had happened.
        let last = message(250, 40);
        self.queue.try_put(last.clone()).map_err(|e| format!("putting afterwards: {e}"))?;
        let mut found = drain(&self.queue);
        ensure!(found.pop() == Some(last), "what was put afterwards comes last");
        let whole = found == left || found == right;
        ensure!(whole, "it holds {} messages: {:?}", found.len(), lengths(&found));
        ensure!(self.diary.read(0) != DONE || found == right, "it was done, and is not there");
        self.is_sound()?;
        Ok(())
    }

    /// Every block that the queue owns can be reached, and the other way round.
    pub fn is_sound(&self) -> Result<(), String> {
        let (owned, reachable) = internals::queue_blocks(&self.queue);
        ensure!(owned == reachable, "it owns {owned:x?}, of which can be reached {reachable:x?}");
        Ok(())
    }
}

fn lengths(messages: &[Vec<u8>]) -> Vec<usize> {
    messages.iter().map(Vec::len).collect()
}
