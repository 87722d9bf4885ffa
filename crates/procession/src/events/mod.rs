//! Events and records that children emit with `tracing` and `log` appear in main's subscriber and logger (the features of
//! these names).
//!
//! | file            | what it holds                                                                     |
//! |-----------------|-----------------------------------------------------------------------------------|
//! | `subscriber.rs` | the child's subscriber: it puts each event into a queue, with the spans around it |
//! | `spans.rs`      | the child's open spans                                                            |
//! | `relay.rs`      | main's thread, which takes records out of the queue and emits them                |
//! | `emitter.rs`    | how that thread emits events to main's subscriber                                 |
//! | `logger.rs`     | the child's logger, and how main logs records again                               |
//!
//! The queue is an ordinary queue of this library. So a record is safe as soon as the call that emitted it
//! has returned. A child that dies during that call harms no other process. The arena's header names the
//! queue.

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

/// An event or a record of `log`, with the process that emitted it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    process: String,
    content: Content,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Content {
    /// An event of `tracing`, and the spans around it, the outermost first.
    #[cfg(feature = "tracing")]
    Event(emitter::Captured, Vec<emitter::Captured>),
    #[cfg(feature = "log")]
    Log(logger::Line),
}

impl Record {
    fn new(content: Content) -> Record {
        Record { pid: process::pid(), process: member::name(), content }
    }

    /// Puts the record into the queue. Writes it to standard error if the shared memory is full or this
    /// process is a plain fork of a member.
    fn send(self, queue: &Queue<Record>) {
        if let Err(refused) = queue.put(self) {
            process::write_raw(2, format!("{:?}\n", refused.into_item().content).as_bytes());
        }
    }
}

/// The least severe levels that main takes: 1 to 5, the most severe first, or 0 for none.
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

/// Makes this process, a child that has not begun, send its events and records to main, if main takes any. A subscriber
/// or logger that is already installed (because it was preloaded) stays.
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
