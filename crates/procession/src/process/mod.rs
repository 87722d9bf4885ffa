//! Processes: starting them, waiting for them, ending them, and finding out how they ended.

// | file           | what it holds                                                      |
// |----------------|--------------------------------------------------------------------|
// | `entry.rs`     | what can be spawned: functions, and closures that capture nothing  |
// | `builder.rs`   | a process's name and options                                       |
// | `spawn.rs`     | starting it                                                        |
// | `settings.rs`  | the options, checked                                               |
// | `interrupts.rs` | whether Ctrl-C reaches it                                         |
// | `name.rs`      | the name of a process that was given none                          |
// | `preload.rs`   | `preload`: memory that all processes share, filled before the first one |
// | `stdio.rs`     | `Stdio`: where a standard stream leads                             |
// | `process.rs`   | `Process`, the typed handle                                        |
// | `joining.rs`   | waiting for it, and what its function returned                     |
// | `control.rs`   | signals to it, its exit status, its standard streams               |
// | `future.rs`    | `Process` as a `Future`                                            |
// | `any.rs`       | `AnyProcess`, the handle without the type of the result            |
// | `any_of.rs`    | `wait_any`: the first of many processes to end                     |
// | `relatives.rs` | this process, its parent and its children                          |
// | `waiting.rs`   | waiting for the end of a process, and reading how it ended         |
// | `signals.rs`   | sending a signal to exactly the right process                      |
// | `failure.rs`   | how a process can fail                                             |

mod any;
mod any_of;
mod builder;
mod control;
pub(crate) mod entry;
mod failure;
mod future;
mod interrupts;
mod joining;
mod name;
mod preload;
#[expect(clippy::module_inception, reason = "the file of `Process`")]
mod process;
mod relatives;
mod settings;
mod signals;
mod spawn;
mod stdio;
mod waiting;

pub use any::AnyProcess;
pub use any_of::{ProcessHandle, try_wait_any, wait_any, wait_any_deadline, wait_any_timeout};
pub use builder::Builder;
pub use entry::{Captureless, Entry};
pub use failure::{Failure, ProcessError};
pub use interrupts::Interrupts;
pub use preload::preload;
pub use process::Process;
pub use relatives::{active_children, cpu_count, current_process, parent_process};
pub use settings::StartMethod;
pub use stdio::Stdio;
