//! What happens when a process dies or is stopped.
//!
//! | file         | what it holds                                                |
//! |--------------|--------------------------------------------------------------|
//! | `recover.rs` | the order in which a dead process's traces are repaired      |
//! | `kinds.rs`   | the table from an object's kind to the code that repairs it  |
//! | `spares.rs`  | spares that a dead spawner had claimed                       |
//! | `stopped.rs` | what others take from a process that has been stopped        |

mod kinds;
mod recover;
mod spares;
mod stopped;

pub(crate) use recover::{notify_barriers, recover, release, release_locks_of_ended_threads};
pub(crate) use stopped::pass_by;
