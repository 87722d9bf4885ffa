//! Queues: ours between processes, and most of the others between threads.
//!
//! | file        | workloads                                                                |
//! |-------------|--------------------------------------------------------------------------|
//! | `stream.rs` | small messages in one direction: one by one, batched, typed, two by two  |
//! | `turns.rs`  | round trips: between spinning partners, and to one that sleeps           |
//! | `large.rs`  | messages of 1 MiB                                                        |
//! | `flat.rs`   | many processes, many items; what a blocked getter costs                  |
//! | `parties.rs`, `messages.rs` | processes that take part, and what they send      |
//! | `ipc_channel.rs`, `iceoryx.rs` | what these peers reach                                |

pub mod flat;
#[cfg(feature = "peers")]
mod iceoryx;
#[cfg(feature = "peers")]
mod ipc_channel;
pub mod large;
mod messages;
mod parties;
pub mod stream;
pub mod turns;
