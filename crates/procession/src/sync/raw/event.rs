//! A word that counts events, for those who sleep until something has happened.
//!
//! ```text
//!  31            2    1      0
//! ┌───────────────┬──────┬───────┐
//! │    events     │ GONE │WAITING│
//! └───────────────┴──────┴───────┘
//! ```
//!
//! Who wants to sleep says so ([`prepare`]), looks once more whether it has to, and sleeps while the
//! word is what `prepare` gave. Who has made something happen [`notify`]s: that is one load when
//! nobody sleeps. Both orders end well: either the sleeper, looking once more, sees what happened,
//! or the other sees WAITING and counts, so that the sleep is refused or ended.
//!
//! WAITING is taken back by a notifier that wakes nobody. A thread may have gone to sleep between its
//! wake and that store, so it counts in the same store (who is not yet asleep is refused) and wakes
//! all who are.
//!
//! GONE says that whoever made things happen is no more. It stays.
//!
//! If a process dies between what happened and its `notify`, or after it was woken on behalf of
//! others, the death sweep counts one event for all who sleep and wakes them.
//!
//! Source: the event counts of Reed and Kanodia ("Synchronization with eventcounts and sequencers",
//! 1979) in the form with one bit for waiters that futexes made usual.

/// What is added for an event.
pub const ONE: u32 = 4;
/// Somebody may sleep.
pub const WAITING: u32 = 1;
/// Nothing will happen any more.
pub const GONE: u32 = crate::arena::objects::GONE;

/// A 32-bit atomic word on which threads can sleep. Every operation is SeqCst.
pub trait Word {
    /// Reads it.
    fn load(&self) -> u32;
    /// Sets these bits; gives what the word is then.
    fn set(&self, bits: u32) -> u32;
    /// Adds [`ONE`].
    fn count(&self);
    /// Moves it from `old` to `new`, if it is `old`.
    fn exchange(&self, old: u32, new: u32) -> bool;
    /// Wakes at most so many who sleep on it; says how many.
    fn wake(&self, count: i32) -> usize;
}

/// Announces a sleeper. Gives what the word must still be when it falls asleep; before that it looks
/// once more.
pub fn prepare(word: &impl Word) -> u32 {
    word.set(WAITING)
}

/// Tells of something that happened (a sequentially consistent store, or one before a fence): wakes
/// at most `count` who sleep.
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
