//! The helper process: it forks every child, reaps every child, and repairs what the dead left.
//!
//! | file            | what it holds                                                        |
//! |-----------------|----------------------------------------------------------------------|
//! | `hook.rs`       | runs before `main`: is this process to be a supervisor?              |
//! | `client.rs`     | the family's side: launching a supervisor, claiming a spare          |
//! | `guard.rs`      | the supervisor's parent: kills what is left when it dies             |
//! | `serve.rs`      | the supervisor's loop                                                |
//! | `nursery.rs`    | slots, forks and spares                                              |
//! | `backlog.rs`    | what the kernel refused to do, and when it is asked again             |
//! | `roster.rs`     | which child is in which slot                                         |
//! | `orphans.rs`    | whose the processes are that children left behind                    |
//! | `child.rs`      | a child from its fork to its end                                     |
//! | `last_words.rs` | what a process says of its end while it dies                           |
//! | `options.rs`    | what a child gets before its function runs, and how it reaches it    |
//! | `rebirth.rs`    | a child that executes the program anew                               |
//! | `preload.rs`    | what is built once and shared by all children                        |
//! | `entrypoint.rs` | how a function is named in another process                           |
//! | `outcome.rs`    | how a process ended, in shared memory                                |
//! | `recovery.rs`   | what happens when a process dies: one function, in one order         |
//! | `farewell.rs`   | the end of the family, seen from main                                |
//! | `vigil.rs`      | waiting for the death of a process, whatever happens to descriptors  |
#![allow(unsafe_code)] // Forks, and calls functions by their address.

/// What `ps` calls the supervisor, and its children until they have a name.
const SUPERVISOR_TITLE: &str = "procession-sup";

mod backlog;
pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod entrypoint;
pub(crate) mod farewell;
mod guard;
mod hook;
pub(crate) mod last_words;
pub(crate) mod nursery;
pub(crate) mod options;
mod orphans;
pub(crate) mod outcome;
pub(crate) mod preload;
mod rebirth;
pub(crate) mod recovery;
mod roster;
mod serve;
mod vigil;
