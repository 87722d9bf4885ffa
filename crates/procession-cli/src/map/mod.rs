//! A command for each line of input.
//!
//! ```text
//!            signals ──▶ front ──▶ engine ──▶ command, in a process group of its own
//!                                   │  ▲ ▲        │
//!  input ──▶ records ──▶ batch ──▶ job │ └────────┘ output, end
//!                                   │  └── again, if it failed
//!                                   └──▶ printer ──▶ outlet · results · log · tally
//! ```
//!
//! The front is the process that the user has started, and the engine is a fork of it. Each of them is a
//! subreaper and ends with the other. So when either is killed, no process that a command has started is
//! left.
//!
//! | file | what it holds |
//! |---|---|
//! | `front.rs`, `engine/` | the two processes |
//! | `plan.rs` | what the options mean; `quantity.rs`, `halt.rs` read their values |
//! | `input.rs`, `records.rs`, `batch.rs`, `job.rs` | from bytes to jobs |
//! | `template.rs`, `quoting.rs`, `program.rs` | the words of a command, its program and environment |
//! | `running.rs`, `tree.rs`, `kinship.rs` | a command's process, what it has started, and the relatives of a process |
//! | `printer.rs`, `backlog.rs`, `spool.rs`, `outlet.rs`, `results.rs` | what commands print |
//! | `progress.rs`, `tally.rs`, `log/` | reports of the run |
//! | `signals.rs`, `terminal.rs`, `throttle.rs` | other events that the engine waits for |

mod backlog;
mod batch;
mod engine;
mod front;
pub mod halt;
mod input;
mod job;
mod kinship;
mod log;
mod outlet;
mod plan;
mod printer;
mod program;
mod progress;
pub mod quantity;
mod quoting;
mod records;
mod results;
mod running;
mod signals;
mod spool;
mod tally;
mod template;
mod terminal;
mod throttle;
mod tree;

pub use front::run;
pub use tally::OURS;
