//! Processes: starting them, waiting for them, ending them, and knowing how they ended.
//!
//! | file         | what it holds                                                    |
//! |--------------|------------------------------------------------------------------|
//! | `entry.rs`   | what can be spawned: functions, and closures that capture nothing |
//! | `builder.rs` | a process's name and options                                     |
//! | `spawned.rs` | [`Process`], the typed handle                                    |
//! | `any.rs`     | [`AnyProcess`], the handle without the function's type           |
//! | `waiting.rs` | waiting for the done word                                        |
//! | `signals.rs` | sending a signal to exactly the process that is meant            |
//! | `failure.rs` | how a process can end badly                                      |

mod any;
mod builder;
pub(crate) mod entry;
mod failure;
mod signals;
mod spawned;
mod waiting;

pub use any::{AnyProcess, active_children, current_process, parent_process};
pub use builder::Builder;
pub use entry::Entry;
pub use failure::{Failure, ProcessError};
pub use spawned::Process;
