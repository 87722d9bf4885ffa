//! What children say with `tracing` and `log` appears in main's subscriber and logger (the features of these
//! names).
//!
//! | file            | what it holds                                                                  |
//! |-----------------|--------------------------------------------------------------------------------|
//! | `subscriber.rs` | the child's subscriber: it puts each event into a queue, with the spans around it |
//! | `spans.rs`      | the child's open spans                                                         |
//! | `relay.rs`      | main's thread: it takes out what comes, and says it again                      |
//! | `emitter.rs`    | how it says events again                                                       |
//! | `logger.rs`     | the child's logger, and how main says records again                            |
//!
//! The queue is one of the library's own, so what was said is safe as soon as the call that said it has returned,
//! and a child that dies in the middle of it hurts nobody. The arena's header names it.

#[cfg(feature = "tracing")]
mod emitter;
#[cfg(feature = "log")]
mod logger;
mod relay;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(feature = "tracing")]
mod subscriber;

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::Queue;
use crate::arena::{Arena, member, objects};
use crate::os::process;

pub(crate) use relay::{finish, listen};

/// One thing that was said, as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    process: String,
    said: Said,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Said {
    /// With `tracing`: what, and the spans that it was said in, the outermost first.
    #[cfg(feature = "tracing")]
    Event(emitter::Told, Vec<emitter::Told>),
    #[cfg(feature = "log")]
    Log(logger::Line),
}

impl Record {
    fn new(said: Said) -> Record {
        Record { pid: process::pid(), process: member::name(), said }
    }

    /// Puts it into the queue. A stray fork is no member, and when memory is full it is told where it can be.
    fn send(self, queue: &Queue<Record>) {
        if let Err(refused) = queue.put(self) {
            process::write_raw(2, format!("{:?}\n", refused.into_item().said).as_bytes());
        }
    }
}

/// How grave the least grave is that main wants to hear of, 1 to 5, the gravest first; 0 for nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Levels {
    #[cfg(feature = "tracing")]
    tracing: u8,
    #[cfg(feature = "log")]
    log: u8,
}

impl Levels {
    fn to_word(self) -> u32 {
        let mut word = 0;
        #[cfg(feature = "tracing")]
        (word |= u32::from(self.tracing));
        #[cfg(feature = "log")]
        (word |= u32::from(self.log) << 8);
        word
    }

    fn from_word(word: u32) -> Levels {
        Levels {
            #[cfg(feature = "tracing")]
            tracing: word as u8,
            #[cfg(feature = "log")]
            log: (word >> 8) as u8,
        }
    }
}

/// Has what this process says, a child that has not begun, go to main, if main listens. A subscriber or logger that
/// is there already (it was preloaded) stays.
pub(crate) fn forward(arena: &Arena) {
    let id = arena.header().events.load(Ordering::Acquire);
    if id == 0 {
        return;
    }
    let levels = Levels::from_word(arena.header().events_levels.load(Ordering::Relaxed));
    let Ok(queue) = Queue::with_id(objects::Id(id)) else { return };
    #[cfg(feature = "tracing")]
    if levels.tracing > 0 {
        subscriber::install(&queue, levels.tracing);
    }
    #[cfg(feature = "log")]
    if levels.log > 0 {
        logger::install(&queue, levels.log);
    }
}
