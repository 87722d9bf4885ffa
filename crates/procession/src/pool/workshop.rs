//! A pool without workers, for the crash tests: whoever likes does what the next worker would.

use std::sync::Arc;

use super::TaskError;
use super::core::Core;
use super::flow::{Flow, Manner};
use super::run::Each;
use super::task::{Task, Terms, Ticket};
use super::{run, worker};
use crate::arena::encoding::Message;
use crate::arena::member;
use crate::process::Entry;
use crate::{Error, Result};

/// See the module.
#[derive(Clone)]
pub struct Workshop {
    core: Arc<Core>,
    terms: Terms,
}

impl Workshop {
    /// One whose tasks are tried again so often.
    pub fn new(retries: u32) -> Result<Workshop> {
        let core = Core::create(|control| {
            control.wanted.store(8, std::sync::atomic::Ordering::Relaxed);
        })?;
        Ok(Workshop { core, terms: Terms { timeout_us: 0, retries } })
    }

    /// As seen by another process, which holds it as its own. (A fork of the test's has inherited the count of the
    /// handles, but not what the arena says about who holds what.)
    pub fn held_here(&self) -> Result<Workshop> {
        self.core.arena.held_objects(member::slot()).set(self.core.handle().id().index());
        Ok(Workshop { core: Core::take(self.core.handle().id())?, terms: self.terms })
    }

    /// Submits a call.
    pub fn submit<F, A>(&self, _: F, args: A) -> Result<Task<F::Output>, TaskError>
    where
        F: Entry<A, Output: Message>,
        A: Message,
    {
        Ticket::single::<super::run::Spread<F>, A>(&self.core, &args, self.terms).map(Task::new)
    }

    /// A map in one chunk, whose items are on their way when this returns.
    pub fn map<F, T, R>(&self, _: F, items: Vec<T>) -> Mapping<T, R>
    where
        F: Fn(T) -> R + Copy + Send + 'static,
        T: Message,
        R: Message,
    {
        let manner = Manner { terms: self.terms, chunk: Some(items.len() as u32), prefetch: None };
        let mut flow = Flow::new::<Each<F, R>>(&self.core, items.into_iter(), manner);
        flow.refill();
        Mapping { flow, _results: std::marker::PhantomData }
    }

    /// Does the next task, as a worker; false when there is none.
    pub fn work_once(&self) -> bool {
        match worker::try_next(&self.core) {
            Some(seat) => {
                run::run(&self.core, seat);
                true
            }
            None => false,
        }
    }

    /// Whether all cells are free.
    pub fn is_empty(&self) -> bool {
        let mut cells = self.core.control.cells(self.core.arena);
        cells.all(|(_, cell)| cell.state().phase() == super::cell::FREE)
    }
}

/// See [`Workshop::map`].
pub struct Mapping<T, R> {
    flow: Flow<std::vec::IntoIter<T>>,
    _results: std::marker::PhantomData<fn() -> R>,
}

impl<T: Message, R: Message> Mapping<T, R> {
    /// The results, which must be there.
    pub fn results(&mut self) -> Result<Vec<Result<R, TaskError>>> {
        if !self.flow.first_is_done() {
            return Err(Error::other("the chunk is not done"));
        }
        let mut results = Vec::new();
        self.flow.land_first(&mut |_, result| results.push(result));
        Ok(results)
    }
}
