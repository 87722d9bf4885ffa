//! Producers and consumers on real input.
//!
//! ```text
//!           sources                   work, leased                 results
//!  line ──▶ [ files ] ──▶ producer ──▶ [ batches ] ──▶ consumer ──▶ [ ... ] ──▶ writer ──▶ standard output
//!   │                     producer                     consumer ✝                 │
//!   └─ kills consumers, and starts others              consumer                   └─ how far it is ──▶ line
//! ```
//!
//! The batch of a killed consumer is given to another one. The first consumer may have sent its results
//! before it was killed, so the writer may receive a batch twice. It writes each item once, and its books
//! count the duplicates.

mod consumer;
mod line;
mod producer;
mod report;
mod work;
mod writer;

pub use line::run;
