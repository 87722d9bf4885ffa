//! [`BarrierBuilder`]: options for a new barrier.

use std::sync::atomic::Ordering::SeqCst;

use super::barrier::Barrier;
use super::raw::barrier_state::BarrierBody;
use crate::arena::objects::Object;
use crate::arena::storage::{self, LINE};
use crate::{Error, Result};

/// Options for a new [`Barrier`]. [`Barrier::builder`] creates it.
///
/// ```
/// let builder = procession::sync::Barrier::builder(2).shrink(true);
/// let (one, other) = (builder.build()?, builder.build()?);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BarrierBuilder {
    parties: u32,
    shrink: bool,
}

impl BarrierBuilder {
    pub(super) fn new(parties: u32) -> BarrierBuilder {
        BarrierBuilder { parties, shrink: false }
    }

    /// Sets whether the barrier continues without the parties of a dead process. Otherwise a death breaks it.
    ///
    /// ```
    /// let barrier = procession::sync::Barrier::builder(3).shrink(true).build()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[must_use]
    pub fn shrink(self, yes: bool) -> BarrierBuilder {
        BarrierBuilder { shrink: yes, ..self }
    }

    /// Creates the barrier.
    ///
    /// # Errors
    /// The errors of [`Barrier::new`].
    ///
    /// ```
    /// assert!(procession::sync::Barrier::builder(0).build().is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn build(&self) -> Result<Barrier> {
        if !(1..=Barrier::MAX_PARTIES).contains(&self.parties) {
            let most = Barrier::MAX_PARTIES;
            let text = format!("a barrier has 1 to {most} parties, not {}", self.parties);
            return Err(Error::InvalidArgument(text));
        }
        let room = storage::make(u64::from(self.parties) * 8, LINE)?;
        let fill = |object: &Object| {
            let body: &BarrierBody = object.body();
            body.state.store(1, SeqCst); // free cells belong to round 0
            body.shrinks.store(self.shrink.into(), SeqCst);
        };
        Barrier::of(storage::create::<BarrierBody>([room], fill)?)
    }
}
