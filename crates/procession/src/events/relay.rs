//! Main's side: a thread that emits again what children have put into the queue.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use tracing_core::callsite::{self, Callsite, Identifier};
use tracing_core::field::{FieldSet, Value};
use tracing_core::metadata::Kind;
use tracing_core::subscriber::{Interest, NoSubscriber};
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, dispatcher};

use super::{Record, Site, level_of, number_of_filter};
use crate::arena::Arena;
use crate::os::signal;
use crate::{Queue, Result};

/// The queue, and the thread that empties it.
static RELAY: Mutex<Option<(Queue<Record>, JoinHandle<()>)>> = Mutex::new(None);

/// Has children's events come to the subscriber of the calling thread from now on, if there is one. Done once, by
/// main, before its first child.
pub(crate) fn listen(arena: &Arena) -> Result<()> {
    let mut relay = RELAY.lock().unwrap_or_else(|e| e.into_inner());
    let dispatch = dispatcher::get_default(Dispatch::clone);
    if relay.is_some() || dispatch.is::<NoSubscriber>() {
        return Ok(());
    }
    let queue = Queue::unbounded()?;
    // From here on only the collector frees it, and main keeps its handle.
    queue.object().touch();
    let from = queue.clone();
    // The thread must not be the one that handles the program's signals.
    let mask = signal::block_all();
    let thread = thread::Builder::new().name("procession-log".into()).spawn(move || run(&from, &dispatch));
    signal::set_mask(&mask);
    let thread = thread.map_err(|e| crate::Error::os("starting the thread for children's events", &e))?;
    arena.header().events_level.store(number_of_filter(LevelFilter::current()), Ordering::Relaxed);
    arena.header().events.store(queue.id().0, Ordering::Release);
    *relay = Some((queue, thread));
    Ok(())
}

/// At the end of main, when there are no children any more: waits until everything has been emitted.
pub(crate) fn finish() {
    let relay = RELAY.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some((queue, thread)) = relay
        && thread.thread().id() != thread::current().id()
    {
        let _ = queue.close();
        let _ = thread.join();
    }
}

fn run(queue: &Queue<Record>, dispatch: &Dispatch) {
    let mut sites = HashMap::new();
    dispatcher::with_default(dispatch, || {
        // What cannot be read is nobody's event.
        for record in queue.iter().flatten() {
            emit(dispatch, &mut sites, &record);
        }
    });
}

const FIELDS: &[&str] = &["message", "pid", "process", "fields"];

/// A place in the program, as `tracing` wants it: for good.
struct SiteOfChildren(OnceLock<Metadata<'static>>);

impl Callsite for SiteOfChildren {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        match self.0.get() {
            Some(metadata) => metadata,
            None => unreachable!("INVARIANT: set before anybody has the site"),
        }
    }
}

/// Each place is made once, and there are no more of them than the program has.
fn metadata_of(site: &Site) -> &'static Metadata<'static> {
    let text = |text: &str| -> &'static str { Box::leak(text.into()) };
    let made: &'static SiteOfChildren = Box::leak(Box::new(SiteOfChildren(OnceLock::new())));
    let metadata = made.0.get_or_init(|| {
        Metadata::new(
            text(&site.name),
            text(&site.target),
            level_of(site.level),
            site.file.as_deref().map(text),
            site.line,
            site.module.as_deref().map(text),
            FieldSet::new(FIELDS, Identifier(made)),
            Kind::EVENT,
        )
    });
    callsite::register(made);
    metadata
}

fn emit(dispatch: &Dispatch, sites: &mut HashMap<Site, &'static Metadata<'static>>, record: &Record) {
    let metadata = match sites.get(&record.site) {
        Some(metadata) => *metadata,
        None => {
            let made = metadata_of(&record.site);
            sites.insert(record.site.clone(), made);
            made
        }
    };
    if !dispatch.enabled(metadata) {
        return;
    }
    let (message, process, fields) = (&*record.message, &*record.process, &*record.fields);
    let message = tracing_core::field::display(message);
    let mut values: [Option<&dyn Value>; 4] =
        [Some(&message), Some(&record.pid), Some(&process), Some(&fields)];
    if record.fields.is_empty() {
        values[3] = None;
    }
    let all = metadata.fields().value_set_all(&values);
    dispatch.event(&Event::new(metadata, &all));
}
