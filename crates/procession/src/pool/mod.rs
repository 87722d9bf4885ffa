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

// | file            | what it holds                                                     |
// |-----------------|-------------------------------------------------------------------|
// | `cells/`        | the pool in shared memory: cells, control block, claims, results, recovery |
// | `shared.rs`     | a pool as each process sees it                                    |
// | `pool.rs`       | `Pool`, the handle; `builder.rs` its builder                    |
// | `calls.rs`      | submitting and mapping; `life.rs` closing, joining, terminating   |
// | `task.rs`       | `Task`; `raw_task.rs` the same without its type                 |
// | `job.rs`        | the functions that tasks call; `run.rs` runs one in its worker    |
// | `watch.rs`      | callbacks, futures, `as_completed`                              |
// | `worker.rs`     | what a worker does between tasks; `claim.rs` how it claims one    |
// | `keeper.rs`     | the thread that replaces workers and enforces time limits         |
// | `limit.rs`      | how much of its time a task has left                              |
// | `free_cells.rs` | how a process allocates and frees cells                           |
// | `window.rs`     | the chunks of a running map, and their sizes                      |
// | `chunks.rs`     | a map whose input the calling thread reads; `feed.rs` one with a thread for its input |
// | `map.rs`        | the results of a map all together; `imap.rs` as they come; `bar.rs` a progress bar |
// | `manual_pool.rs`| a pool without workers, for the crash tests                       |

#[cfg(feature = "indicatif")]
mod bar;
mod builder;
mod calls;
pub(crate) mod cells;
mod chunks;
mod claim;
mod feed;
mod free_cells;
mod imap;
mod job;
mod keeper;
mod life;
mod limit;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod manual_pool;
mod map;
#[expect(clippy::module_inception, reason = "the file of `Pool`")]
mod pool;
mod raw_task;
mod run;
mod shared;
mod task;
mod watch;
mod window;
mod worker;

#[cfg(feature = "indicatif")]
pub use bar::progress_bar;
pub use builder::Builder;
pub use cells::error::{MapError, TaskError};
pub use imap::{Imap, LocalImap};
pub use job::Initialized;
pub use life::Stats;
pub use map::Progress;
pub use pool::Pool;
pub use task::{Task, TaskState};
pub use watch::as_completed;
