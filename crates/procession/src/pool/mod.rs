//! A pool of worker processes: [`Pool`]. If any process dies, no other process waits for ever because of it.
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
//! A task occupies a *cell* of shared memory from `submit` until its last handle is dropped. One word of the
//! cell names the process that works on the task. When a process dies, recovery finds the cells that name the
//! process. It returns their tasks to the workers or ends them. All other tasks continue.
//!
//! # Which call
//!
//! | you have | use |
//! |---|---|
//! | one call | [`Pool::submit`], or [`Pool::apply`] to wait for its result |
//! | many items, and want all results or the first error | [`Pool::map`], [`Pool::starmap`] |
//! | the same, and each item may fail by itself | [`Pool::try_map`] |
//! | more items than fit into memory, or results wanted early | [`Pool::imap`], [`Pool::imap_unordered`] |
//! | the same, from an input that borrows or is bound to its thread | [`Pool::imap_local`], [`Pool::imap_local_unordered`] |
//! | the position of each result's item | [`Imap::indexed`], [`MapError::index`], [`Task::id`] |
//! | a progress bar, or a count of what is done, failed and retried | [`Pool::with_progress`] |
//!
//! # Tasks that submit tasks
//!
//! A pool can be sent to its own tasks. If a task waits for another task of its pool that no worker has
//! begun, the waiting worker runs that task itself. This way, workers do not deadlock even if they all wait
//! for each other's tasks. If the inner task kills its process, both tasks fail.

// | file             | what it holds                                                     |
// |------------------|-------------------------------------------------------------------|
// | `cells/`         | the pool in shared memory: cells, control block, claims, results, recovery |
// | `shared.rs`      | a pool as each process sees it                                    |
// | `pool.rs`        | `Pool`, the handle                                                |
// | `builder.rs`     | its builder                                                       |
// | `calls.rs`       | submitting and mapping                                            |
// | `iterator_calls.rs` | `Pool::imap` and its variants                                  |
// | `life.rs`        | statistics, resizing, closing, joining, terminating               |
// | `task.rs`        | `Task`                                                            |
// | `raw_task.rs`    | the same without the type of the result                           |
// | `job.rs`         | the functions that tasks call                                     |
// | `run.rs`         | running a task in its worker                                      |
// | `running_task.rs` | what such a task needs: arguments, attempts, time limit, result  |
// | `task_id.rs`     | its identity                                                      |
// | `watch.rs`       | callbacks, futures                                                |
// | `as_completed.rs` | tasks in the order in which they are done                        |
// | `worker_death.rs` | the error of a task whose worker died                            |
// | `worker.rs`      | what a worker does between tasks                                  |
// | `claim.rs`       | how it claims one                                                 |
// | `keeper.rs`      | the thread that keeps a pool alive                                |
// | `worker_set.rs`  | how it starts, reaps and kills workers                            |
// | `time_limits.rs` | how it enforces time limits                                       |
// | `limit.rs`       | how much time a task has left                                     |
// | `free_cells.rs`  | how a process allocates and frees cells                           |
// | `window.rs`      | the chunks of a map that are in flight                            |
// | `batch.rs`       | items that were read and not sent out yet                         |
// | `chunk_size.rs`  | how many items a chunk should have                                |
// | `chunks.rs`      | a map whose input the calling thread reads                        |
// | `feed.rs`        | a map with a thread for its input                                 |
// | `map.rs`         | the results of a map all together                                 |
// | `imap.rs`        | the results as they come                                          |
// | `indexed.rs`     | results with the positions of their items                         |
// | `progress.rs`    | how much of a map is done                                         |
// | `reporter.rs`    | when the progress hook is called                                  |
// | `bar.rs`         | a progress bar                                                    |
// | `manual_pool.rs` | a pool without workers, for the crash tests                       |

mod as_completed;
mod bar;
mod batch;
mod builder;
mod calls;
pub(crate) mod cells;
mod chunk_size;
mod chunks;
mod claim;
mod feed;
mod free_cells;
mod imap;
mod indexed;
mod iterator_calls;
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
mod progress;
mod raw_task;
mod reporter;
mod run;
mod running_task;
mod shared;
mod task;
mod task_id;
mod time_limits;
mod watch;
mod window;
mod worker;
mod worker_death;
mod worker_set;

pub use as_completed::{AsCompleted, as_completed};
pub use bar::progress_bar;
pub use builder::Builder;
pub use cells::error::{MapError, TaskError};
pub use imap::{Imap, LocalImap};
pub use indexed::Indexed;
pub use job::Initialized;
pub use life::Stats;
pub use pool::Pool;
pub use progress::Progress;
pub use task::{Task, TaskState};
pub use task_id::TaskId;
