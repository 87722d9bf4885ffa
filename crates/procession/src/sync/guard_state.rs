//! What a guard knows besides its lock, in one word.
//!
//! A guard of two words stays in registers where a larger one goes through memory, which costs an
//! uncontended lock a third of its speed. So what is rare hides behind a bit of the pointer.
#![allow(unsafe_code)] // Tags a pointer to a journal entry, or to a box that also holds the news.

use super::error::OwnerDied;
use super::raw::lock::Held;

/// The lock is to be marked when it is released.
pub(crate) const MARK_IT: usize = 1;
/// The thread was panicking already when it took the lock.
pub(crate) const WAS_PANICKING: usize = 2;
/// The pointer leads to a [`Recovered`].
const NEWS: usize = 4;
const TAGS: usize = 7;

/// A journal entry, tagged: as it is, or in a box with the news of who left the lock marked.
pub(crate) struct GuardState(*const u8);

#[repr(align(8))]
struct Recovered {
    held: Held,
    news: OwnerDied,
}

impl GuardState {
    #[inline]
    pub(crate) fn new(held: Held) -> GuardState {
        let grip = GuardState(std::ptr::from_ref(held).cast());
        if std::thread::panicking() { grip.with(WAS_PANICKING) } else { grip }
    }

    pub(crate) fn with_news(held: Held, news: OwnerDied) -> GuardState {
        let recovered = Box::into_raw(Box::new(Recovered { held, news }));
        let panicking = if std::thread::panicking() { WAS_PANICKING } else { 0 };
        GuardState(recovered.cast_const().cast()).with(NEWS | panicking)
    }

    /// As it is, for who let the lock go in between and had these news of it.
    pub(crate) fn with_news_of_before(self, news: Option<OwnerDied>) -> GuardState {
        match news {
            Some(news) if !self.is(NEWS) => GuardState::with_news(self.held(), news),
            _ => self,
        }
    }

    fn with(self, tags: usize) -> GuardState {
        GuardState(self.0.map_addr(|at| at | tags))
    }

    pub(crate) fn set(&mut self, tag: usize) {
        self.0 = self.0.map_addr(|at| at | tag);
    }

    pub(crate) fn is(&self, tag: usize) -> bool {
        self.0.addr() & tag != 0
    }

    /// The entry, if there is nothing else to it.
    #[inline]
    pub(crate) fn plain(&self) -> Option<Held> {
        // SAFETY: without a tag it is the reference that `new` was given.
        (self.0.addr() & TAGS == 0).then(|| unsafe { &*self.0.cast() })
    }

    /// The entry, whatever else there is.
    pub(crate) fn held(&self) -> Held {
        if self.is(NEWS) {
            // SAFETY: as in `news`.
            return unsafe { &*self.recovered() }.held;
        }
        // SAFETY: without `NEWS` it is the reference that `new` was given, and tags.
        unsafe { &*self.0.map_addr(|at| at & !TAGS).cast() }
    }

    fn recovered(&self) -> *mut Recovered {
        self.0.map_addr(|at| at & !TAGS).cast_mut().cast()
    }

    /// Who left the lock marked.
    pub(crate) fn news(&self) -> Option<&OwnerDied> {
        // SAFETY: with this tag it is the box that `with_news` made, which lives until `take`.
        self.is(NEWS).then(|| unsafe { &(*self.recovered()).news })
    }

    /// The entry, for the last time: the grip is not used again.
    pub(crate) fn take(&mut self) -> Held {
        if self.is(NEWS) {
            // SAFETY: as in `news`; the guard that owns this grip is being dropped.
            return unsafe { Box::from_raw(self.recovered()) }.held;
        }
        self.held()
    }
}
