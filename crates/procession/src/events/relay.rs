//! Main's side: a thread that emits what children have put into the queue.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

#[cfg(feature = "tracing")]
use super::emitter::Emitter;
#[cfg(feature = "log")]
use super::logger;
use super::{Content, Levels, Record};
use crate::arena::Arena;
use crate::os;
use crate::unwind;
use crate::{Queue, Result};

/// The queue, and the thread that empties it.
static RELAY: Mutex<Option<(Queue<Record>, JoinHandle<()>)>> = Mutex::new(None);

/// Starts the thread that emits children's events and records to the subscriber of the calling thread and to
/// the logger, if there is one. Called by main before its first child. Takes effect only once.
pub(crate) fn listen(arena: &Arena) -> Result<()> {
    let mut relay = RELAY.lock().unwrap_or_else(|e| e.into_inner());
    let listener = Listener::of_this_thread();
    if relay.is_some() || listener.levels() == Levels::default() {
        return Ok(());
    }
    let queue = Queue::unbounded()?;
    // From here on only the collector frees the queue, and main keeps its handle.
    queue.object().touch();
    let (from, levels) = (queue.clone(), listener.levels());
    let thread = os::threads::start("procession-log", move || listener.run(&from));
    let thread = thread.map_err(|e| crate::Error::os("starting the thread for children's events", &e))?;
    arena.header().events_levels.store(levels.to_word(), Ordering::Relaxed);
    arena.header().events.store(queue.id().0, Ordering::Release);
    *relay = Some((queue, thread));
    Ok(())
}

/// Waits until everything has been emitted. Called at the end of main, when no child is left.
pub(crate) fn finish() {
    let relay = RELAY.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some((queue, thread)) = relay
        && thread.thread().id() != thread::current().id()
    {
        let _ = queue.close();
        let _ = thread.join();
    }
}

/// Main's subscriber and logger.
struct Listener {
    #[cfg(feature = "tracing")]
    emitter: Option<Emitter>,
}

impl Listener {
    fn of_this_thread() -> Listener {
        Listener {
            #[cfg(feature = "tracing")]
            emitter: Emitter::of_this_thread(),
        }
    }

    fn levels(&self) -> Levels {
        Levels {
            #[cfg(feature = "tracing")]
            tracing: self.emitter.as_ref().map_or(0, Emitter::wanted),
            #[cfg(feature = "log")]
            log: logger::wanted(),
        }
    }

    /// Emits the records of a queue until the queue is closed. Skips records that cannot be decoded.
    fn run(mut self, queue: &Queue<Record>) {
        #[cfg(feature = "tracing")]
        if let Some(emitter) = &self.emitter {
            // A logger may pass its records on to the subscriber.
            let dispatch = emitter.dispatch();
            return tracing_core::dispatcher::with_default(&dispatch, || self.emit_all(queue));
        }
        self.emit_all(queue);
    }

    fn emit_all(&mut self, queue: &Queue<Record>) {
        for record in queue.iter().flatten() {
            // A panic of main's logger or subscriber costs this record. The panic's hook has reported it.
            let _ = unwind::catch(|| self.emit(record));
        }
    }

    fn emit(&mut self, Record { pid, process, content }: Record) {
        match content {
            #[cfg(feature = "tracing")]
            Content::Event(event, spans) => {
                if let Some(emitter) = &mut self.emitter {
                    emitter.emit(&event, &spans, pid, &process);
                }
            }
            #[cfg(feature = "log")]
            Content::Log(line) => logger::emit(&line, pid, &process),
        }
    }
}
