//! A queue, a victim that uses it, and checks of the queue after the victim's death.

use std::cell::Cell;

use procession::internals::{self, Census, End};
use procession::queue::GetError;
use procession::{Lock, Message, Queue};
use procession_testkit::{CrashStep, Gate, Point, Report};

use super::{Diary, OTHER, VICTIM, arena, open};
use crate::ensure;

/// An item with a number.
pub trait Numbered: Message {
    fn new(number: u64) -> Self;
    fn number(&self) -> u64;
}

/// The smallest item.
impl Numbered for u64 {
    fn new(number: u64) -> u64 {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// Three of these items fit into the smallest segment.
impl Numbered for Vec<u32> {
    fn new(number: u64) -> Vec<u32> {
        vec![number as u32; 100]
    }

    fn number(&self) -> u64 {
        assert_eq!(*self, vec![self[0]; 100], "an item is not whole");
        self[0].into()
    }
}

/// An item in a block of its own.
impl Numbered for Vec<u64> {
    fn new(number: u64) -> Vec<u64> {
        vec![number; 70]
    }

    fn number(&self) -> u64 {
        assert_eq!(*self, vec![self[0]; 70], "an item is not whole");
        self[0]
    }
}

/// An item with a handle in it. The item is large so that its span holds few blocks, because freeing a queue
/// examines each block of the span.
impl Numbered for (u64, Lock, String) {
    fn new(number: u64) -> (u64, Lock, String) {
        (number, Lock::labeled(&number.to_string()).expect("a lock"), long())
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

/// An item that alternates between three forms: stored inline, stored in a block, or with a handle.
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

/// The first number of the items that the tests put to check that the queue still works.
const FRESH: u64 = 900;

/// A queue and its items.
pub struct Line<T> {
    queue: Cell<Option<Queue<T>>>,
    pub held: Vec<u64>,
    pub diary: Diary,
    before: Census,
}

/// Returns the state of the arena without main's spans. Main keeps those spans for later allocations.
fn around() -> Census {
    internals::collect_if_wanted();
    let mut census = internals::census();
    census.small_spans.retain(|&(_, owner)| owner != 0);
    census
}

impl<T: Numbered> Line<T> {
    /// Creates a queue with `make`. Then `prepare` puts the items that the victim will find, and returns
    /// their numbers.
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

    /// Creates a queue with a small segment and with items of these numbers.
    pub fn with(numbers: impl IntoIterator<Item = u64> + Clone) -> Line<T> {
        Line::new(|| Queue::bounded(20), |queue| put_all(queue, numbers.clone()))
    }

    /// Leaks the line, for closures that outlive the test's scope.
    pub fn leaked(self) -> &'static Line<T> {
        Box::leak(Box::new(self))
    }

    /// Returns the queue, which lives until [`end`](Line::end).
    pub fn queue(&self) -> &Queue<T> {
        // SAFETY: only `end` takes the queue out, and that is the last use in its process.
        unsafe { &*self.queue.as_ptr() }.as_ref().expect("the queue is there")
    }

    /// Kills the victim at every instruction of `operation`. The victim runs `operation` on the result of
    /// `prepare`.
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

    /// Records that the victim's operation has returned, and its result.
    pub fn returned(&self, told: u64) {
        self.diary.write(TOLD, told);
        self.diary.write(RETURNED, 1);
    }

    /// Returns the result of the victim's operation, if it has returned.
    pub fn told(&self) -> Option<u64> {
        (self.diary.read(RETURNED) == 1).then(|| self.diary.read(TOLD))
    }

    /// Checks the queue after the victim was killed while it put the items `new`. The queue may or may not
    /// contain the items. It must contain them if the operation has returned. Unless `bit_by_bit` is true, it
    /// contains either all of them or none.
    pub fn after_put(&self, point: &Point, new: &[u64], bit_by_bit: bool) -> Result<(), String> {
        let put = self.queue().len().saturating_sub(self.held.len()).min(new.len());
        let told = self.told();
        ensure!(!point.finished || told.is_some(), "the operation has not returned");
        ensure!(
            told.is_none_or(|told| told == put as u64),
            "{put} items are there, and the operation returned {told:?}"
        );
        ensure!(bit_by_bit || put == 0 || put == new.len(), "{put} of {} are there", new.len());
        self.holds(&[&self.held, &new[..put]].concat())
    }

    /// Checks the queue after the victim was killed while it took `count` items. The items may or may not
    /// have been taken. They must have been taken if the operation has returned.
    pub fn after_get(&self, point: &Point, count: usize) -> Result<(), String> {
        let taken = self.held.len().saturating_sub(self.queue().len());
        let told = self.told();
        ensure!(!point.finished || told.is_some(), "the operation has not returned");
        ensure!(
            told.is_none_or(|told| told == taken as u64),
            "{taken} items are gone, and the operation returned {told:?}"
        );
        ensure!(taken == 0 || taken == count, "{taken} of {count} are gone");
        self.holds(&self.held[taken..])
    }

    /// Checks that the queue holds exactly these items, in this order, and that it can still be used.
    pub fn holds(&self, expected: &[u64]) -> Result<(), String> {
        self.is_whole()?;
        let (queue, len) = (self.queue(), expected.len());
        ensure!(queue.len() == len, "the queue reports {} items and has {expected:?}", queue.len());
        let got = drain(queue);
        ensure!(got == *expected, "the queue holds {got:?} instead of {expected:?}");
        self.is_whole()?;
        ensure!(!queue.is_closed(), "the queue is closed");
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

    /// Checks that the queue reaches every block that it owns, and that its locks are free.
    pub fn is_whole(&self) -> Result<(), String> {
        let (owned, reachable) = internals::queue_blocks(self.queue());
        ensure!(owned == reachable, "the queue owns {owned:x?} and reaches {reachable:x?}");
        let words = [End::Producers, End::Consumers].map(|end| internals::queue_lock_word(self.queue(), end));
        ensure!(words == [0, 0], "the queue's locks are {words:x?}");
        Ok(())
    }

    /// Drops the queue, and checks that the arena is as it was before the queue was created.
    pub fn end(&self) -> Result<(), String> {
        drop(self.queue.take());
        let now = around();
        ensure!(now == self.before, "not as before: {now:x?} instead of {:x?}", self.before);
        Ok(())
    }
}

/// Puts these numbers, and returns them.
pub fn put_all<T: Numbered>(queue: &Queue<T>, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    numbers.iter().for_each(|&number| queue.try_put(T::new(number)).expect("there is room"));
    numbers
}

/// Makes this process the victim, and opens spans for the blocks of items and segments. Other tests cover
/// opening spans.
pub fn become_victim() {
    internals::become_member(VICTIM);
    let blocks = [700, 1500].map(|bytes| internals::reserve(bytes).expect("a block"));
    blocks.into_iter().for_each(internals::free);
}

/// Takes all items out, and returns their numbers.
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
