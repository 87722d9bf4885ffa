//! The spans that a child has opened, and how they nest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tracing_core::Metadata;
use tracing_core::span::Current;

use super::emitter::Captured;

pub(super) type Id = u64;

thread_local! {
    /// The spans that this thread has entered, the innermost last.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
pub(super) struct Spans(Mutex<HashMap<Id, Span>>);

struct Span {
    /// The number of handles to this span and of spans inside it.
    users: usize,
    around: Option<Id>,
    metadata: &'static Metadata<'static>,
    captured: Captured,
}

impl Spans {
    /// Locks the spans. Callers capture values before they lock, so that no user code runs under this lock.
    fn all(&self) -> MutexGuard<'_, HashMap<Id, Span>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn open(
        &self,
        around: Option<Id>,
        metadata: &'static Metadata<'static>,
        captured: Captured,
    ) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut all = self.all();
        let around = around.filter(|around| all.get_mut(around).map(|span| span.users += 1).is_some());
        all.insert(id, Span { users: 1, around, metadata, captured });
        id
    }

    /// Adds values of fields.
    pub(super) fn add(&self, id: Id, more: Captured) {
        if let Some(span) = self.all().get_mut(&id) {
            span.captured.add(more);
        }
    }

    pub(super) fn share(&self, id: Id) {
        if let Some(span) = self.all().get_mut(&id) {
            span.users += 1;
        }
    }

    /// Drops a handle. Returns whether it was the last.
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

    /// Returns a span and those around it, the outermost first.
    pub(super) fn around(&self, innermost: Option<Id>) -> Vec<Captured> {
        let all = self.all();
        let chain = std::iter::successors(innermost.and_then(|id| all.get(&id)), |span| {
            span.around.and_then(|around| all.get(&around))
        });
        let mut captured: Vec<Captured> = chain.map(|span| span.captured.clone()).collect();
        captured.reverse();
        captured
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

/// Returns the innermost span that this thread has entered. A thread that is ending has none.
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
