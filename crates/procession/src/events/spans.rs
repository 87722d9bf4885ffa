//! The spans that a child has opened: what they are called, and who is inside whom.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tracing_core::Metadata;
use tracing_core::span::Current;

use super::emitter::Told;

pub(super) type Id = u64;

thread_local! {
    /// Those that this thread is inside of, the innermost last.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
pub(super) struct Spans(Mutex<HashMap<Id, Span>>);

struct Span {
    /// Handles to it, and spans inside it.
    users: usize,
    around: Option<Id>,
    metadata: &'static Metadata<'static>,
    told: Told,
}

impl Spans {
    /// What is in here is told beforehand: no code of the user's runs under this lock.
    fn all(&self) -> MutexGuard<'_, HashMap<Id, Span>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn open(&self, around: Option<Id>, metadata: &'static Metadata<'static>, told: Told) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut all = self.all();
        let around = around.filter(|around| all.get_mut(around).map(|span| span.users += 1).is_some());
        all.insert(id, Span { users: 1, around, metadata, told });
        id
    }

    /// More of its fields have values.
    pub(super) fn add(&self, id: Id, more: Told) {
        if let Some(span) = self.all().get_mut(&id) {
            span.told.add(more);
        }
    }

    pub(super) fn share(&self, id: Id) {
        if let Some(span) = self.all().get_mut(&id) {
            span.users += 1;
        }
    }

    /// One handle less; says whether it was the last.
    pub(super) fn close(&self, id: Id) -> bool {
        let (mut all, mut next, mut closed) = (self.all(), Some(id), false);
        while let Some(id) = next.take() {
            if let Some(span) = all.get_mut(&id) {
                span.users -= 1;
                if span.users == 0 {
                    closed = true;
                    next = all.remove(&id).and_then(|span| span.around);
                }
            }
        }
        closed
    }

    /// This one and those around it, the outermost first.
    pub(super) fn around(&self, innermost: Option<Id>) -> Vec<Told> {
        let all = self.all();
        let chain = std::iter::successors(innermost.and_then(|id| all.get(&id)), |span| {
            span.around.and_then(|around| all.get(&around))
        });
        let mut told: Vec<Told> = chain.map(|span| span.told.clone()).collect();
        told.reverse();
        told
    }

    pub(super) fn current(&self) -> Current {
        match innermost() {
            Some(id) => match self.all().get(&id) {
                Some(span) => Current::new(tracing_core::span::Id::from_u64(id), span.metadata),
                None => Current::none(),
            },
            None => Current::none(),
        }
    }
}

/// What this thread is inside of. (Of a thread in its last moments that is not known.)
pub(super) fn innermost() -> Option<Id> {
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

pub(super) fn enter(id: Id) {
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id));
}

pub(super) fn leave(id: Id) {
    let _ = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        if let Some(at) = entered.iter().rposition(|&other| other == id) {
            entered.remove(at);
        }
    });
}
