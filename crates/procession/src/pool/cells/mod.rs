//! A pool in shared memory.
//!
//! | file         | what it holds                                                       |
//! |--------------|---------------------------------------------------------------------|
//! | `cell.rs`    | one task: its state word and its states                             |
//! | `control.rs` | the pool's control block and its table of cells                     |
//! | `claims.rs`  | which worker has claimed which cells, and which tasks came back     |
//! | `results.rs` | the results of a chunk                                              |
//! | `error.rs`   | why a task or a map failed                                          |
//! | `recover.rs` | what recovery does when a process of the pool dies                  |

pub(crate) mod cell;
pub(crate) mod claims;
pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod recover;
pub(crate) mod results;
