//! Events of `tracing` that children emit appear in main's subscriber (feature `tracing`).
//!
//! | file         | what it holds                                                  |
//! |--------------|----------------------------------------------------------------|
//! | `forward.rs` | the child's subscriber: it puts each event into a queue        |
//! | `relay.rs`   | main's thread: it takes them out and emits them again          |
//!
//! The queue is one of the library's own, so an event is safe as soon as the call that emitted it has returned,
//! and a child that dies in the middle of it hurts nobody. The arena's header names it.

mod forward;
mod relay;

use serde::{Deserialize, Serialize};
use tracing_core::{Level, LevelFilter};

pub(crate) use forward::forward;
pub(crate) use relay::{finish, listen};

/// One event, as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Record {
    pid: i32,
    process: String,
    site: Site,
    message: String,
    /// What it says besides, as `name=value`.
    fields: String,
}

/// Where in the program an event comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Site {
    level: u32,
    name: String,
    target: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

/// Levels as numbers, the gravest first; 0 for none.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

fn number_of(level: Level) -> u32 {
    LEVELS.iter().position(|&other| other == level).map_or(5, |at| at as u32 + 1)
}

fn level_of(number: u32) -> Level {
    LEVELS[(number.clamp(1, 5) - 1) as usize]
}

fn number_of_filter(filter: LevelFilter) -> u32 {
    filter.into_level().map_or(0, number_of)
}
