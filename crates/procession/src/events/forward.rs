//! The child's subscriber.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record as SpanRecord};
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber, dispatcher};

use super::{Record, Site, level_of, number_of};
use crate::Queue;
use crate::arena::{Arena, member, objects};
use crate::os::process;

/// Has the events of this process, a child that has not begun, go to main, if main listens. A subscriber that is
/// there already (it was preloaded) stays.
pub(crate) fn forward(arena: &Arena) {
    let id = arena.header().events.load(Ordering::Acquire);
    if id == 0 {
        return;
    }
    if let Ok(queue) = Queue::with_id(objects::Id(id)) {
        let level = arena.header().events_level.load(Ordering::Relaxed);
        let _ = dispatcher::set_global_default(Dispatch::new(Forwarder { queue, level }));
    }
}

struct Forwarder {
    queue: Queue<Record>,
    /// Less grave ones are of no interest to main.
    level: u32,
}

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number_of(*metadata.level()) <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.level == 0 { LevelFilter::OFF } else { LevelFilter::from_level(level_of(self.level)) })
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let data = event.metadata();
        let site = Site {
            level: number_of(*data.level()),
            name: data.name().into(),
            target: data.target().into(),
            module: data.module_path().map(Into::into),
            file: data.file().map(Into::into),
            line: data.line(),
        };
        let record = Record {
            pid: process::pid(),
            process: member::name(),
            site,
            message: text.message,
            fields: text.fields,
        };
        // A stray fork is no member, and when memory is full the event is told where it can be.
        if let Err(refused) = self.queue.put(record) {
            let record = refused.into_item();
            let line = format!("{} {} {}\n", record.site.target, record.message, record.fields);
            process::write_raw(2, line.as_bytes());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The fields of an event as text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let (to, separator) = match field.name() {
            "message" => (&mut self.message, ""),
            _ if self.fields.is_empty() => (&mut self.fields, ""),
            _ => (&mut self.fields, " "),
        };
        let _ = match field.name() {
            "message" => write!(to, "{value:?}"),
            name => write!(to, "{separator}{name}={value:?}"),
        };
    }
}
