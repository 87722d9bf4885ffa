//! Processes: starting them, waiting for them, ending them, and knowing how they ended.

// | file         | what it holds                                                    |
// |--------------|------------------------------------------------------------------|
// | `entry.rs`   | what can be spawned: functions, and closures that capture nothing |
// | `builder.rs` | a process's name and options; `settings.rs` checks them          |
// | `name.rs`    | the name of a process that was given none                        |
// | `preload.rs` | `preload`: what all processes share, built before the first one |
// | `stdio.rs`   | `Stdio`: where its standard streams lead                       |
// | `process.rs` | `Process`, the typed handle                                    |
// | `any.rs`     | `AnyProcess`, the handle without the function's type           |
// | `any_of.rs`  | `wait_any`: the first of many processes to end                 |
// | `future.rs`  | `Process` as a `Future`                                        |
// | `waiting.rs` | waiting for the done word                                        |
// | `signals.rs` | sending a signal to exactly the process that is meant            |
// | `failure.rs` | how a process can end badly                                      |

mod any;
mod any_of;
mod builder;
pub(crate) mod entry;
mod failure;
mod future;
mod name;
mod preload;
#[expect(clippy::module_inception, reason = "the file of `Process`")]
mod process;
mod settings;
mod signals;
mod stdio;
mod waiting;

pub use any::{AnyProcess, ProcessHandle, active_children, cpu_count, current_process, parent_process};
pub use any_of::{try_wait_any, wait_any, wait_any_deadline, wait_any_timeout};
pub use builder::Builder;
pub use entry::{Captureless, Entry};
pub use failure::{Failure, ProcessError};
pub use preload::preload;
pub use process::Process;
pub use settings::StartMethod;
pub use stdio::Stdio;
