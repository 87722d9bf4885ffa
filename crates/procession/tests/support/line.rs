//! A queue, a victim that uses it, and what must be true of it after the victim's death.

use std::cell::Cell;

use procession::internals::{self, Census, End};
use procession::queue::GetError;
use procession::{Lock, Message, Queue};
use procession_testkit::{CrashStep, Gate, Point, Report};

use super::{Diary, OTHER, VICTIM, arena, open};
use crate::ensure;

/// An item that can be told from others.
pub trait Numbered: Message {
    fn new(number: u64) -> Self;
    fn number(&self) -> u64;
}

/// The smallest.
impl Numbered for u64 {
    fn new(number: u64) -> u64 {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// Of which three have room in the smallest segment.
impl Numbered for Vec<u32> {
    fn new(number: u64) -> Vec<u32> {
        vec![number as u32; 100]
    }

    fn number(&self) -> u64 {
        assert_eq!(*self, vec![self[0]; 100], "an item is not whole");
        self[0].into()
    }
}

/// In a block of its own.
impl Numbered for Vec<u64> {
    fn new(number: u64) -> Vec<u64> {
        vec![number; 70]
    }

    fn number(&self) -> u64 {
        assert_eq!(*self, vec![self[0]; 70], "an item is not whole");
        self[0]
    }
}

/// With a handle in it, and so large that its span has few neighbours: to free a queue is to look at each.
impl Numbered for (u64, Lock, String) {
    fn new(number: u64) -> (u64, Lock, String) {
        (number, Lock::named(&number.to_string()).expect("a lock"), long())
    }

    fn number(&self) -> u64 {
        assert_eq!((self.1.name(), &self.2), (self.0.to_string(), &long()), "an item is not whole");
        drop(self.1.lock().expect("a free lock"));
        self.0
    }
}

fn long() -> String {
    "long".repeat(140)
}

/// By turns inline, in a block, and with a handle.
#[derive(serde::Serialize, serde::Deserialize)]
pub enum Mixed {
    Inline(u64),
    Block(u64, String),
    Handle((u64, Lock, String)),
}

impl Numbered for Mixed {
    fn new(number: u64) -> Mixed {
        match number % 3 {
            0 => Mixed::Inline(number),
            1 => Mixed::Block(number, long()),
            _ => Mixed::Handle(Numbered::new(number)),
        }
    }

    fn number(&self) -> u64 {
        match self {
            Mixed::Inline(number) => *number,
            Mixed::Block(number, text) => {
                assert_eq!(*text, long(), "an item is not whole");
                *number
            }
            Mixed::Handle(item) => item.number(),
        }
    }
}

const RETURNED: usize = 0;
const TOLD: usize = 1;

/// The first number of the items that the tests put in to see whether that works.
const FRESH: u64 = 900;

/// A queue and what is in it.
pub struct Line<T> {
    queue: Cell<Option<Queue<T>>>,
    pub held: Vec<u64>,
    pub diary: Diary,
    before: Census,
}

/// What there is of other things than the queue. Main keeps spans for what it takes.
fn around() -> Census {
    internals::collect_if_wanted();
    let mut census = internals::census();
    census.small_spans.retain(|&(_, owner)| owner != 0);
    census
}

impl<T: Numbered> Line<T> {
    /// A queue made by `make`. `prepare` puts in what the victim finds, and tells what that is.
    pub fn new(
        make: impl Fn() -> procession::Result<Queue<T>>,
        prepare: impl Fn(&Queue<T>) -> Vec<u64>,
    ) -> Line<T> {
        arena();
        open([VICTIM, OTHER]);
        let before = around();
        let queue = make().expect("a queue");
        let held = prepare(&queue);
        Line { queue: Cell::new(Some(queue)), held, diary: Diary::new(), before }
    }

    /// One in a small segment, with these numbers.
    pub fn with(numbers: impl IntoIterator<Item = u64> + Clone) -> Line<T> {
        Line::new(|| Queue::bounded(20), |queue| put_all(queue, numbers.clone()))
    }

    /// For closures that outlive the test's scope.
    pub fn leaked(self) -> &'static Line<T> {
        Box::leak(Box::new(self))
    }

    /// The queue, which lives until [`end`](Line::end).
    pub fn queue(&self) -> &Queue<T> {
        // SAFETY: taken out by `end` alone, which is the last use in its process.
        unsafe { &*self.queue.as_ptr() }.as_ref().expect("the queue is there")
    }

    /// Kills at every instruction of `operation`, which is done by the victim with what `prepare` made.
    pub fn step<P>(
        &self,
        step: CrashStep,
        prepare: impl Fn() -> P,
        operation: impl Fn(&Line<T>, P),
        verdict: impl Fn(&Point) -> Result<(), String>,
    ) -> Report {
        let victim = |gate: &Gate| {
            become_victim();
            let prepared = prepare();
            gate.begin();
            operation(self, prepared);
            gate.end();
        };
        let report = step.run(victim, |point| {
            internals::recover(VICTIM);
            super::nothing_in(VICTIM)?;
            verdict(point)
        });
        println!("{report}");
        internals::recover(VICTIM);
        report
    }

    /// The victim has returned from its operation; `told` is what it was told.
    pub fn returned(&self, told: u64) {
        self.diary.write(TOLD, told);
        self.diary.write(RETURNED, 1);
    }

    /// What the victim was told, if it has returned.
    pub fn told(&self) -> Option<u64> {
        (self.diary.read(RETURNED) == 1).then(|| self.diary.read(TOLD))
    }

    /// The victim was putting `new`. They are in the queue, or not; they are if it was told so. They go in
    /// all at once, unless `bit_by_bit`.
    pub fn after_put(&self, point: &Point, new: &[u64], bit_by_bit: bool) -> Result<(), String> {
        let put = self.queue().len().saturating_sub(self.held.len()).min(new.len());
        let told = self.told();
        ensure!(!point.finished || told.is_some(), "it has not returned");
        ensure!(told.is_none_or(|told| told == put as u64), "{put} are there, and it was told {told:?}");
        ensure!(bit_by_bit || put == 0 || put == new.len(), "{put} of {} are there", new.len());
        self.holds(&[&self.held, &new[..put]].concat())
    }

    /// The victim was taking `count` items at once. It has them, or not; it has if it was told so.
    pub fn after_get(&self, point: &Point, count: usize) -> Result<(), String> {
        let taken = self.held.len().saturating_sub(self.queue().len());
        let told = self.told();
        ensure!(!point.finished || told.is_some(), "it has not returned");
        ensure!(told.is_none_or(|told| told == taken as u64), "{taken} are gone, and it was told {told:?}");
        ensure!(taken == 0 || taken == count, "{taken} of {count} are gone");
        self.holds(&self.held[taken..])
    }

    /// The queue holds exactly this, in this order, and nothing that it does not; and it can be used.
    pub fn holds(&self, expected: &[u64]) -> Result<(), String> {
        self.is_whole()?;
        let (queue, len) = (self.queue(), expected.len());
        ensure!(queue.len() == len, "it says that it has {} and has {expected:?}", queue.len());
        let got = drain(queue);
        ensure!(got == *expected, "it holds {got:?} instead of {expected:?}");
        self.is_whole()?;
        ensure!(!queue.is_closed(), "it is closed");
        let fresh = [FRESH, FRESH + 1, FRESH + 2];
        for number in fresh {
            queue.try_put(T::new(number)).map_err(|e| format!("putting {number}: {e}"))?;
            let got = drain(queue);
            ensure!(got == [number], "{number} went in and {got:?} came out");
        }
        let many = queue.try_put_many(fresh.map(T::new)).unwrap_or_else(|e| 3 - e.into_item().len());
        let got = drain(queue);
        ensure!(got == fresh[..many], "{many} went in and {got:?} came out");
        self.is_whole()?;
        self.end()
    }

    /// What belongs to the queue can be reached from it.
    pub fn is_whole(&self) -> Result<(), String> {
        let (owned, reachable) = internals::queue_blocks(self.queue());
        ensure!(owned == reachable, "it owns {owned:x?} and can reach {reachable:x?}");
        let words = [End::Producers, End::Consumers].map(|end| internals::queue_lock_word(self.queue(), end));
        ensure!(words == [0, 0], "its locks are {words:x?}");
        Ok(())
    }

    /// Without the queue everything is as it was.
    pub fn end(&self) -> Result<(), String> {
        drop(self.queue.take());
        let now = around();
        ensure!(now == self.before, "not as before: {now:x?} instead of {:x?}", self.before);
        Ok(())
    }
}

/// Puts these, and gives them back.
pub fn put_all<T: Numbered>(queue: &Queue<T>, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    numbers.iter().for_each(|&number| queue.try_put(T::new(number)).expect("there is room"));
    numbers
}

/// This process becomes the victim, which has spans for the blocks of items and segments: to make one has a
/// test of its own.
pub fn become_victim() {
    internals::become_member(VICTIM);
    let blocks = [700, 1500].map(|bytes| internals::reserve(bytes).expect("a block"));
    blocks.into_iter().for_each(internals::free);
}

/// Takes everything out.
pub fn drain<T: Numbered>(queue: &Queue<T>) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        match queue.try_get() {
            Ok(item) => got.push(item.number()),
            Err(GetError::Empty | GetError::Closed) => return got,
            Err(other) => panic!("after {got:?}: {other}"),
        }
    }
}
