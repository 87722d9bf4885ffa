//! The helper processes: the supervisor forks every child, reaps every child, and recovers what the dead held.
//!
//! ```text
//! main ──launches──▶ guard ──forks──▶ supervisor ──forks──▶ spares, children
//!
//!                      SIGCHLD to the supervisor from: the kernel, when a child ends or stops;
//!                      a process that left a request; the guard, for others and when a child is dying; the
//!                      kernel, when the guard dies
//! ```
//!
//! | file               | what it holds                                                          |
//! |--------------------|------------------------------------------------------------------------|
//! | `hook.rs`          | runs before `main`: decides whether this process is a helper           |
//! | `guard.rs`         | the supervisor's parent: kills what the supervisor leaves when it dies |
//! | `launch_report.rs` | why a launched process ended before it was a supervisor                |
//! | `client.rs`        | the family's side: claiming a spare, completing its request            |
//! | `launching.rs`     | launching the supervisor, from main                                    |
//! | `serve.rs`         | the supervisor's loop, and the end of the family                       |
//! | `children.rs`      | what the supervisor keeps about its children                           |
//! | `spares.rs`        | forking spares, and replacing children that died too early             |
//! | `reaping.rs`       | what happens to a child that has ended                                 |
//! | `family_end.rs`    | which children the family's end waits for, and how it ends the others  |
//! | `backlog.rs`       | calls that the kernel refused, and when they are repeated              |
//! | `child_table.rs`   | which child is in which slot                                           |
//! | `dying.rs`         | children that are dead before they can be reaped                       |
//! | `orphans.rs`       | which child an adopted orphan descends from                            |
//! | `child.rs`         | a child from its fork to its end                                       |
//! | `crash_report.rs`  | what a process records about its own end while it dies                 |
//! | `options.rs`       | what a child applies before its function runs                          |
//! | `reexec.rs`        | a child that executes the program again                                |
//! | `preload.rs`       | the function of `preload`, and the template process that runs it       |
//! | `entrypoint.rs`    | how a process names a function for another process                     |
//! | `shutdown.rs`      | the end of the family and the loss of the supervisor, in main          |
//! | `exit_wait.rs`     | waiting for the death of a process, even if its pidfd is lost          |
#![allow(unsafe_code)] // Forks, and calls functions by their address.

/// The title that `ps` shows for the supervisor, and for each of its children until the child has a name.
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
mod family_end;
mod guard;
mod hook;
mod launch_report;
pub(crate) mod launching;
pub(crate) mod options;
mod orphans;
pub(crate) mod preload;
mod reaping;
mod reexec;
mod serve;
pub(crate) mod shutdown;
mod spares;
