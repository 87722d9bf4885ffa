//! An event count: a word on which threads sleep until something has happened.
//!
//! ```text
//!  31            2    1      0
//! ┌───────────────┬──────┬───────┐
//! │    events     │ GONE │WAITING│
//! └───────────────┴──────┴───────┘
//! ```
//!
//! A thread that wants to sleep calls [`prepare`], checks its condition again, and sleeps while the word has
//! the value that `prepare` returned. A thread that makes the condition true calls [`notify`] afterwards,
//! which is one load if no thread sleeps. The two threads may run in any order. Either the sleeper's check
//! sees the change, or the notifier sees WAITING and counts an event. The event ends the sleep, or keeps the
//! thread from falling asleep.
//!
//! A notifier that wakes no thread clears WAITING. Another thread may have fallen asleep between the
//! notifier's wake and that store. So the same store counts an event, which keeps other threads from falling
//! asleep. Then the notifier wakes all sleepers.
//!
//! GONE says that the other side no longer exists. Once set, the bit stays set.
//!
//! A process may die between its change and its `notify`, or after it has used up a wake that was meant for
//! others. Then the death sweep counts an event on every word with sleepers and wakes them.
//!
//! Source: the event counts of Reed and Kanodia ("Synchronization with eventcounts and sequencers", 1979) in
//! the form with one bit for waiters, which is usual with futexes.

/// The increment for an event.
pub const ONE: u32 = 4;
/// Set while a thread may sleep on the word.
pub const WAITING: u32 = 1;
/// No further events will happen.
pub const GONE: u32 = crate::arena::objects::GONE;

/// A 32-bit atomic word on which threads can sleep. Every operation is SeqCst.
pub trait Word {
    /// Returns the word.
    fn load(&self) -> u32;
    /// Sets these bits. Returns the new word.
    fn set(&self, bits: u32) -> u32;
    /// Adds [`ONE`].
    fn count(&self);
    /// Replaces `old` by `new`. Returns false if the word is not `old`.
    fn exchange(&self, old: u32, new: u32) -> bool;
    /// Wakes at most `count` sleepers. Returns how many it woke.
    fn wake(&self, count: i32) -> usize;
}

/// Announces a sleeper. Returns the value that the word must still have when the thread falls asleep. Before
/// it falls asleep, the thread must check its condition again.
pub fn prepare(word: &impl Word) -> u32 {
    word.set(WAITING)
}

/// Wakes at most `count` sleepers after a change. The change must be a SeqCst store, or come before a SeqCst fence.
#[inline]
pub fn notify(word: &impl Word, count: i32) {
    if word.load() & WAITING != 0 {
        wake(word, count);
    }
}

#[cold]
fn wake(word: &impl Word, count: i32) {
    word.count();
    if word.wake(count) == 0 {
        let now = word.load();
        if now & WAITING != 0 && word.exchange(now, now.wrapping_add(ONE) & !WAITING) {
            word.wake(i32::MAX);
        }
    }
}
