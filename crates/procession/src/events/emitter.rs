//! Events and spans that a child has captured, and how main emits them again.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use crate::unwind;
use serde::{Deserialize, Serialize};
use tracing_core::callsite::{self, Callsite, Identifier};
use tracing_core::field::{DisplayValue, Field, FieldSet, Value, Visit, display};
use tracing_core::metadata::Kind;
use tracing_core::span::{Attributes, Id};
use tracing_core::subscriber::{Interest, NoSubscriber};
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata, dispatcher};

/// An event or a span in the form in which it travels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Captured {
    site: Site,
    /// The values, each with the index of its field.
    values: Vec<(u32, FieldValue)>,
}

/// The place in the program where an event or span was recorded, and its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Site {
    is_span: bool,
    level: u8,
    name: String,
    target: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    fields: Vec<String>,
}

/// The value of a field.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum FieldValue {
    Bool(bool),
    Signed(i128),
    Unsigned(u128),
    Float(f64),
    Text(String),
    /// The `Debug` output of a value.
    Debug(String),
}

/// The spans around an event that is being emitted. Dropping this value exits them, even if the subscriber
/// panics, so that the next event is not inside them.
struct Entered<'a> {
    dispatch: &'a Dispatch,
    ids: Vec<Id>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        for id in self.ids.drain(..).rev() {
            // A second panic at the same time would end main.
            let _ = unwind::catch(|| {
                self.dispatch.exit(&id);
                self.dispatch.try_close(id);
            });
        }
    }
}

/// The levels, the most severe first. As a number, a level is its index plus 1. The number 0 means no level.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

pub(super) fn number_of(level: Level) -> u8 {
    LEVELS.iter().position(|&other| other == level).map_or(5, |at| at as u8 + 1)
}

pub(super) fn level_of(number: u8) -> Level {
    LEVELS[usize::from(number.clamp(1, 5) - 1)]
}

impl Captured {
    pub(super) fn new(metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) -> Captured {
        let site = Site {
            is_span: metadata.is_span(),
            level: number_of(*metadata.level()),
            name: metadata.name().into(),
            target: metadata.target().into(),
            module: metadata.module_path().map(Into::into),
            file: metadata.file().map(Into::into),
            line: metadata.line(),
            fields: metadata.fields().iter().map(|field| field.name().to_owned()).collect(),
        };
        Captured { site, ..Captured::more(record) }
    }

    /// Captures only the values of fields.
    pub(super) fn more(record: impl FnOnce(&mut dyn Visit)) -> Captured {
        let mut captured = Captured::default();
        record(&mut Values(&mut captured.values));
        captured
    }

    /// Adds values. A new value replaces the former value of the same field.
    pub(super) fn add(&mut self, more: Captured) {
        self.values.retain(|(at, _)| more.values.iter().all(|(other, _)| other != at));
        self.values.extend(more.values);
    }
}

struct Values<'a>(&'a mut Vec<(u32, FieldValue)>);

impl Values<'_> {
    fn note(&mut self, field: &Field, value: FieldValue) {
        self.0.push((field.index() as u32, value));
    }
}

impl Visit for Values<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, FieldValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, FieldValue::Signed(value.into()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.note(field, FieldValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, FieldValue::Unsigned(value.into()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.note(field, FieldValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.note(field, FieldValue::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, FieldValue::Text(value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, FieldValue::Debug(format!("{value:?}")));
    }
}

impl FieldValue {
    /// Returns the value for `tracing`, with its original type.
    fn value(&self) -> Box<dyn Value + '_> {
        match self {
            FieldValue::Bool(value) => Box::new(*value),
            FieldValue::Signed(value) => match i64::try_from(*value) {
                Ok(value) => Box::new(value),
                Err(_) => Box::new(*value),
            },
            FieldValue::Unsigned(value) => match u64::try_from(*value) {
                Ok(value) => Box::new(value),
                Err(_) => Box::new(*value),
            },
            FieldValue::Float(value) => Box::new(*value),
            FieldValue::Text(text) => Box::new(text.as_str()),
            FieldValue::Debug(text) => Box::<DisplayValue<&str>>::new(display(text)),
        }
    }
}

/// Emits what children have captured to a thread's subscriber.
pub(super) struct Emitter {
    dispatch: Dispatch,
    sites: HashMap<Site, &'static Metadata<'static>>,
}

impl Emitter {
    /// Creates an emitter for the calling thread's subscriber, if the thread has one.
    pub(super) fn of_this_thread() -> Option<Emitter> {
        let dispatch = dispatcher::get_default(Dispatch::clone);
        (!dispatch.is::<NoSubscriber>()).then(|| Emitter { dispatch, sites: HashMap::new() })
    }

    /// Returns the least severe level that the subscriber takes, or 0.
    pub(super) fn wanted(&self) -> u8 {
        LevelFilter::current().into_level().map_or(0, number_of)
    }

    pub(super) fn dispatch(&self) -> Dispatch {
        self.dispatch.clone()
    }

    /// Emits an event in the spans in which it was captured. The spans are created for it and closed after it, because a
    /// child that is killed never closes them.
    pub(super) fn emit(&mut self, event: &Captured, spans: &[Captured], pid: i32, process: &str) {
        let metadata = self.metadata_of(&event.site);
        if !self.dispatch.enabled(metadata) {
            return;
        }
        let mut entered = Entered { dispatch: &self.dispatch.clone(), ids: Vec::new() };
        for span in spans {
            let metadata = self.metadata_of(&span.site);
            if self.dispatch.enabled(metadata) {
                let id = with_values(metadata, span, &[], |values| match entered.ids.last() {
                    Some(around) => {
                        self.dispatch.new_span(&Attributes::child_of(around.clone(), metadata, values))
                    }
                    None => self.dispatch.new_span(&Attributes::new_root(metadata, values)),
                });
                self.dispatch.enter(&id);
                entered.ids.push(id);
            }
        }
        with_values(metadata, event, &[&pid, &process], |values| {
            self.dispatch.event(&Event::new(metadata, values));
        });
    }

    fn metadata_of(&mut self, site: &Site) -> &'static Metadata<'static> {
        if let Some(known) = self.sites.get(site) {
            return known;
        }
        let made = make_metadata(site);
        self.sites.insert(site.clone(), made);
        made
    }
}

/// Calls `f` with the captured values, followed by `more`.
fn with_values<R>(
    metadata: &'static Metadata<'static>,
    captured: &Captured,
    more: &[&dyn Value],
    f: impl FnOnce(&tracing_core::field::ValueSet<'_>) -> R,
) -> R {
    let own: Vec<(u32, Box<dyn Value + '_>)> =
        captured.values.iter().map(|(at, value)| (*at, value.value())).collect();
    let mut all: Vec<Option<&dyn Value>> = vec![None; captured.site.fields.len()];
    for (at, value) in &own {
        if let Some(place) = all.get_mut(*at as usize) {
            *place = Some(&**value);
        }
    }
    all.extend(more.iter().map(|&value| Some(value)));
    f(&metadata.fields().value_set_all(&all))
}

/// The callsite of a child's event or span. It is never freed, as `tracing` requires.
struct ChildCallsite(OnceLock<Metadata<'static>>);

impl Callsite for ChildCallsite {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        match self.0.get() {
            Some(metadata) => metadata,
            None => unreachable!("INVARIANT: set before the callsite is registered"),
        }
    }
}

/// Creates the metadata of a site. Each site gets its metadata once, so the program bounds their number.
fn make_metadata(site: &Site) -> &'static Metadata<'static> {
    let text = |text: &str| -> &'static str { Box::leak(text.into()) };
    let mut fields: Vec<&'static str> = site.fields.iter().map(|name| text(name)).collect();
    if !site.is_span {
        for name in ["pid", "process"] {
            // The event may have a field of that name itself.
            let free = fields.iter().all(|&other| other != name);
            fields.push(if free { name } else { text(&format!("{name}_of_child")) });
        }
    }
    let made: &'static ChildCallsite = Box::leak(Box::new(ChildCallsite(OnceLock::new())));
    let metadata = made.0.get_or_init(|| {
        Metadata::new(
            text(&site.name),
            text(&site.target),
            level_of(site.level),
            site.file.as_deref().map(text),
            site.line,
            site.module.as_deref().map(text),
            FieldSet::new(fields.leak(), Identifier(made)),
            if site.is_span { Kind::SPAN } else { Kind::EVENT },
        )
    });
    callsite::register(made);
    metadata
}
