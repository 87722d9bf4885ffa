//! The child's subscriber.

use tracing_core::span::{Attributes, Current, Id, Record as SpanRecord};
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber, dispatcher};

use super::emitter::{Captured, level_of, number_of};
use super::spans::{self, Spans};
use super::{Content, Record};
use crate::Queue;

/// Installs a subscriber that sends the events of this process to main, unless the process has a subscriber.
pub(super) fn install(queue: &Queue<Record>, level: u8) {
    let forwarder = Forwarder { queue: queue.clone(), level, spans: Spans::default() };
    let _ = dispatcher::set_global_default(Dispatch::new(forwarder));
}

struct Forwarder {
    queue: Queue<Record>,
    /// The least severe level that main takes.
    level: u8,
    spans: Spans,
}

/// Returns the span around a new span or event.
fn around(parent: Option<&Id>, is_contextual: bool) -> Option<spans::Id> {
    match parent {
        Some(parent) => Some(parent.into_u64()),
        None if is_contextual => spans::innermost(),
        None => None,
    }
}

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number_of(*metadata.level()) <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(level_of(self.level)))
    }

    fn event(&self, event: &Event<'_>) {
        let captured = Captured::new(event.metadata(), |values| event.record(values));
        let spans = self.spans.around(around(event.parent(), event.is_contextual()));
        Record::new(Content::Event(captured, spans)).send(&self.queue);
    }

    fn new_span(&self, new: &Attributes<'_>) -> Id {
        let captured = Captured::new(new.metadata(), |values| new.record(values));
        Id::from_u64(self.spans.open(around(new.parent(), new.is_contextual()), new.metadata(), captured))
    }

    fn record(&self, id: &Id, more: &SpanRecord<'_>) {
        self.spans.add(id.into_u64(), Captured::more(|values| more.record(values)));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, id: &Id) {
        spans::enter(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        spans::leave(id.into_u64());
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.spans.share(id.into_u64());
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans.close(id.into_u64())
    }

    fn current_span(&self) -> Current {
        self.spans.current()
    }
}
