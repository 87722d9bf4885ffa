//! A pool in shared memory. [Its theory](README.md).
//!
//! | file               | what it holds                                                       |
//! |--------------------|---------------------------------------------------------------------|
//! | `cell.rs`          | one task: its words                                                 |
//! | `state.rs`         | its state word: phases and endings                                  |
//! | `attempt.rs`       | the word that counts the attempts at an item                        |
//! | `progress.rs`      | the word that says how much of a chunk is finished                  |
//! | `chunk_counts.rs`  | the words that count its failures and retries                       |
//! | `items.rs`         | the items of a chunk as bytes                                       |
//! | `results.rs`       | the results of a chunk                                              |
//! | `control.rs`       | the pool's control block                                            |
//! | `cell_table.rs`    | the pool's table of cells                                           |
//! | `claims.rs`        | which worker has claimed which cells                                |
//! | `returned.rs`      | which tasks recovery has returned to the workers                    |
//! | `view.rs`          | a pool's part of the shared memory, as other code sees it           |
//! | `error.rs`         | why a task or a map failed                                          |
//! | `recover.rs`       | what recovery does when a process of the pool dies                  |
//! | `task_recovery.rs` | what it does to one task                                            |

pub(crate) mod attempt;
pub(crate) mod cell;
pub(crate) mod cell_table;
pub(crate) mod chunk_counts;
pub(crate) mod claims;
pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod items;
pub(crate) mod progress;
pub(crate) mod recover;
pub(crate) mod results;
pub(crate) mod returned;
pub(crate) mod state;
pub(crate) mod task_recovery;
pub(crate) mod view;
