//! The helper process: it forks every child, reaps every child, and repairs what the dead left.
//!
//! | file            | what it holds                                                        |
//! |-----------------|----------------------------------------------------------------------|
//! | `hook.rs`       | runs before `main`: is this process to be a supervisor?              |
//! | `guard.rs`      | the supervisor's parent: kills what is left when it dies             |
//! | `launch_report.rs` | why a launched process ended before it was a supervisor               |
//! | `client.rs`     | the family's side: launching a supervisor, claiming a spare          |
//! | `serve.rs`      | the supervisor's loop                                                |
//! | `children.rs`    | slots, forks and spares                                              |
//! | `backlog.rs`    | what the kernel refused to do, and when it is asked again             |
//! | `child_table.rs`     | which child is in which slot                                         |
//! | `dying.rs`      | children that are dead before they can be reaped                     |
//! | `orphans.rs`    | whose the processes are that children left behind                    |
//! | `child.rs`      | a child from its fork to its end                                     |
//! | `crash_report.rs` | what a process says of its end while it dies                           |
//! | `options.rs`    | what a child gets before its function runs, and how it reaches it    |
//! | `reexec.rs`    | a child that executes the program anew                               |
//! | `preload.rs`    | what is built once and shared by all children                        |
//! | `entrypoint.rs` | how a function is named in another process                           |
//! | `shutdown.rs`   | the end of the family, seen from main                                |
//! | `exit_wait.rs`      | waiting for the death of a process, whatever happens to descriptors  |
#![allow(unsafe_code)] // Forks, and calls functions by their address.

/// What `ps` calls the supervisor, and its children until they have a name.
const SUPERVISOR_TITLE: &str = "procession-sup";

mod backlog;
pub(crate) mod child;
mod child_table;
pub(crate) mod children;
pub(crate) mod client;
pub(crate) mod crash_report;
mod dying;
pub(crate) mod entrypoint;
mod exit_wait;
mod guard;
mod hook;
mod launch_report;
pub(crate) mod options;
mod orphans;
pub(crate) mod preload;
mod reexec;
mod serve;
pub(crate) mod shutdown;
