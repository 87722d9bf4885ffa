//! Process-based parallelism: processes, locks and shared state of which any part may be killed at
//! any instruction while the others go on.

mod arena;
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod os;
pub mod process;
mod rules;
mod supervisor;
pub mod sync;

pub use arena::payload::Message;
pub use error::{Error, Result};
pub use process::{
    AnyProcess, Failure, Process, ProcessError, active_children, current_process, parent_process,
};
pub use sync::Lock;
