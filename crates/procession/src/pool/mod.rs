//! A pool of processes that nothing can hang: [`Pool`].
//!
//! ```text
//!  submit, map          the ring          workers                     Task::get, map
//!      │            ┌──┬──┬──┬──┬──┐    ┌──────────┐                       ▲
//!      │  number ──▶│17│ 4│ 9│  │  │──▶ │ process  │── runs the function ──┐│
//!      ▼            └──┴──┴──┴──┴──┘    └──────────┘                       ││
//!  ┌────────┬────────┬────────┬────────┬─────────                          ││
//!  │ cell 0 │ cell 1 │ cell 2 │  ...   │   arguments ▶ state ▶ result ◀─────┘│
//!  └────────┴────────┴────────┴────────┴───────────────────────────────────┘
//! ```
//!
//! A task stands in a *cell* of shared memory from `submit` until its last handle is gone, and one word of the cell
//! says who has it in his hands. So a death costs no more than what the dead had: recovery finds the cells that
//! name it, and returns them to the workers or ends them. Nothing has to be asked, and nobody waits for the dead.
//!
//! # Which call
//!
//! | you have | use |
//! |---|---|
//! | one thing to do | [`Pool::submit`], or [`Pool::apply`] to wait for it |
//! | many items, and want all results or the first error | [`Pool::map`], [`Pool::starmap`] |
//! | the same, and each item may fail by itself | [`Pool::try_map`] |
//! | more items than fit into memory, or results wanted early | [`Pool::imap`], [`Pool::imap_unordered`] |
//! | the same, from an input that borrows or is bound to its thread | [`Pool::imap_local`], [`Pool::imap_local_unordered`] |
//!
//! # Tasks that submit tasks
//!
//! A pool can be sent to its own tasks. A task that waits for another one of its pool which nobody has begun runs it
//! itself, in its own process, so workers that all wait for each other's tasks do not hang. (If that inner task kills
//! its process, both have died.)
//!
//! # What is inside
//!
//! | file          | what it holds                                                       |
//! |---------------|---------------------------------------------------------------------|
//! | `cell.rs`     | a task in shared memory: the word and its states                    |
//! | `control.rs`  | a pool in shared memory; `core.rs` as each process sees it          |
//! | `pool.rs`     | [`Pool`]: the handle; `calls.rs` what it is asked to do, `life.rs` its end |
//! | `task.rs`     | [`Task`]; `ticket.rs` the same without its type                     |
//! | `job.rs`      | the functions that tasks call; `run.rs` a task in its worker; `output.rs` the results of a chunk |
//! | `watch.rs`    | callbacks, futures, [`as_completed`]                                |
//! | `worker.rs`   | what a worker does between tasks                                    |
//! | `keeper.rs`   | the thread that replaces workers and kills what takes too long      |
//! | `limit.rs`    | how much of its time a task has left                                |
//! | `seats.rs`    | how a process comes by a cell; `take.rs` how a worker takes a task  |
//! | `hands.rs`    | which tasks are in whose hands, and which came back                 |
//! | `bury.rs`     | what recovery does when a process dies                              |
//! | `workshop.rs` | a pool without workers, for the crash tests                        |
//! | `window.rs`   | the chunks of a map on their way, and their sizes                   |
//! | `flow.rs`     | a map whose input the calling thread reads; `feed.rs` one that has a thread for it |
//! | `map.rs`      | the results of a map all together, `imap.rs` as they come; `bar.rs` a bar |

#[cfg(feature = "indicatif")]
mod bar;
mod builder;
mod bury;
mod calls;
mod cell;
mod control;
mod core;
mod error;
mod feed;
mod flow;
mod hands;
mod imap;
mod job;
mod keeper;
mod life;
mod limit;
mod map;
mod output;
#[expect(clippy::module_inception, reason = "the file of `Pool`")]
mod pool;
mod run;
mod seats;
mod take;
mod task;
mod ticket;
mod watch;
mod window;
mod worker;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod workshop;

#[cfg(feature = "indicatif")]
pub use bar::progress_bar;
pub use builder::Builder;
pub(crate) use bury::{bury, tell_keepers, workers_kept_by};
pub use error::{MapError, TaskError};
pub use imap::{Imap, LocalImap};
pub use job::Initialized;
pub use life::Stats;
pub use map::Progress;
pub use pool::Pool;
pub use task::{Task, TaskState};
pub use watch::as_completed;
