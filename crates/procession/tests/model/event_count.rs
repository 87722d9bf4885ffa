//! The event count under every interleaving that the memory model allows.
//!
//! The futex is a model. It refuses a sleeper that expects another value of the word, and a wake-up reaches
//! only threads that already sleep. A lost wake-up shows as loom's "deadlock", which aborts the test binary.
//! To see a lost wake-up, change `wake` in `event.rs` so that it clears the bit without counting.

use loom::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use procession::internals::event::{self, Word};

/// The number of events that no thread has consumed yet, and the threads that wait for an event.
struct Source {
    word: AtomicU32,
    there: AtomicU64,
    /// The futex: the sleeping threads, in the order in which they fell asleep.
    sleepers: Mutex<Vec<thread::ThreadId>>,
    condvar: Condvar,
}

// Loom treats SeqCst operations as AcqRel. Only its fences are SeqCst.
impl Word for Source {
    fn load(&self) -> u32 {
        fence(SeqCst);
        self.word.load(SeqCst)
    }

    fn set(&self, bits: u32) -> u32 {
        let now = self.word.fetch_or(bits, SeqCst) | bits;
        fence(SeqCst);
        now
    }

    fn count(&self) {
        self.word.fetch_add(event::ONE, SeqCst);
    }

    fn exchange(&self, old: u32, new: u32) -> bool {
        self.word.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }

    fn wake(&self, count: i32) -> usize {
        let mut sleepers = self.sleepers.lock().unwrap();
        let woken = sleepers.len().min(count as usize);
        sleepers.drain(..woken);
        if woken > 0 {
            self.condvar.notify_all();
        }
        woken
    }
}

impl Source {
    fn new() -> Arc<Source> {
        let (word, there) = (AtomicU32::new(0), AtomicU64::new(0));
        Arc::new(Source { word, there, sleepers: Mutex::new(Vec::new()), condvar: Condvar::new() })
    }

    fn sleep(&self, expected: u32) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if self.load() != expected {
            return;
        }
        let me = thread::current().id();
        sleepers.push(me);
        while sleepers.contains(&me) {
            sleepers = self.condvar.wait(sleepers).unwrap();
        }
    }

    fn put(&self) {
        self.there.fetch_add(1, SeqCst);
        event::notify(self, 1);
    }

    fn try_get(&self) -> bool {
        let now = self.there.load(SeqCst);
        now > 0 && self.there.compare_exchange(now, now - 1, SeqCst, SeqCst).is_ok()
    }

    fn get(&self) {
        while !self.try_get() {
            let ticket = event::prepare(self);
            if self.there.load(SeqCst) == 0 {
                self.sleep(ticket);
            }
        }
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

#[test]
fn a_sleeper_is_woken() {
    model(4, || {
        let source = Source::new();
        let other = source.clone();
        let getter = thread::spawn(move || other.get());
        source.put();
        getter.join().unwrap();
    });
}

#[test]
fn two_sleepers_are_both_woken() {
    model(2, || {
        let source = Source::new();
        let getters: Vec<_> = (0..2)
            .map(|_| {
                let other = source.clone();
                thread::spawn(move || other.get())
            })
            .collect();
        source.put();
        source.put();
        getters.into_iter().for_each(|getter| getter.join().unwrap());
    });
}

#[test]
fn an_unneeded_bit_is_cleared_in_time() {
    model(3, || {
        let source = Source::new();
        event::prepare(&*source); // by a thread that then found what it wanted, or died
        let (second, third) = (source.clone(), source.clone());
        let getter = thread::spawn(move || second.get());
        let putter = thread::spawn(move || third.put());
        source.put();
        source.get();
        getter.join().unwrap();
        putter.join().unwrap();
    });
}

#[test]
fn the_end_wakes_the_sleeper() {
    model(4, || {
        let source = Source::new();
        let other = source.clone();
        let getter = thread::spawn(move || {
            loop {
                let ticket = event::prepare(&*other);
                if ticket & event::GONE != 0 {
                    break;
                }
                other.sleep(ticket);
            }
        });
        source.set(event::GONE);
        source.wake(i32::MAX);
        getter.join().unwrap();
    });
}

/// Two items of a queue with leases (`queue/ring/leases.rs`). At first, one is leased and the other is in the
/// ring.
struct Work {
    leased: [AtomicU32; 2],
    in_ring: AtomicU32,
    finished: Arc<Source>,
}

impl Work {
    fn lease_the_second(&self) {
        self.leased[1].store(1, SeqCst);
        self.in_ring.store(0, Release);
    }

    /// Works like `Ring::finish` and `tell_joiners`.
    fn finish(&self, which: usize) {
        self.leased[which].store(0, SeqCst);
        fence(SeqCst);
        if self.in_ring.load(Acquire) == 0 {
            event::notify(&*self.finished, i32::MAX);
        }
    }

    /// Works like `Ring::is_finished`, for a queue that receives no more items.
    fn is_finished(&self) -> bool {
        self.in_ring.load(Acquire) == 0 && self.leased.iter().all(|cell| cell.load(SeqCst) == 0)
    }

    fn join(&self) {
        while !self.is_finished() {
            let ticket = event::prepare(&*self.finished);
            if !self.is_finished() {
                self.finished.sleep(ticket);
            }
        }
    }
}

/// Without the fence in `finish`, each of the two threads may believe that the other thread still has an
/// item.
#[test]
fn one_of_two_threads_that_finish_the_last_messages_wakes_the_joiner() {
    model(2, || {
        let leased = [AtomicU32::new(1), AtomicU32::new(0)];
        let work = Arc::new(Work { leased, in_ring: AtomicU32::new(1), finished: Source::new() });
        let (first, second) = (work.clone(), work.clone());
        let first = thread::spawn(move || first.finish(0));
        let second = thread::spawn(move || {
            second.lease_the_second();
            second.finish(1);
        });
        work.join();
        first.join().unwrap();
        second.join().unwrap();
    });
}
