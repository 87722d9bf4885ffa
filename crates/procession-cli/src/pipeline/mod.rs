//! Producers and consumers on real input.
//!
//! ```text
//!           sources                   work, leased                 results
//!  line ──▶ [ files ] ──▶ producer ──▶ [ batches ] ──▶ consumer ──▶ [ ... ] ──▶ writer ──▶ standard output
//!   │                     producer                     consumer ✝                 │
//!   └─ kills consumers, and starts others              consumer                   └─ how far it is ──▶ line
//! ```
//!
//! A consumer that is killed has its batch given to another one. It may have told its results before, so
//! the writer may hear of a batch twice; it writes each item once, and its books say so.

mod consumer;
mod line;
mod producer;
mod report;
mod work;
mod writer;

pub use line::run;
