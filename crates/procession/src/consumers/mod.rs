//! Fleets of consumers: [`JoinableQueue::consumers`](crate::JoinableQueue::consumers).
//!
//! ```text
//!  JoinableQueue ── lease ──▶ consumer ── f(item) returns ──▶ done
//!        ▲                       │
//!        └── the item returns ───┴── f fails or panics, or the process dies
//! ```
//!
//! A thread of the process that created the fleet, the keeper, starts the consumers and replaces those that
//! die. The queue's leases alone decide what happens to an item, so the keeper is not needed for that.

// | file           | what it holds                                        |
// |----------------|------------------------------------------------------|
// | `consumers.rs` | `Consumers`, the handle                              |
// | `fleet.rs`     | what the handle, the keeper and the consumers share  |
// | `keeper.rs`    | the thread that starts and replaces consumers        |
// | `consumer.rs`  | what a consumer does                                 |
// | `handled.rs`   | what the function of a fleet may return              |

mod consumer;
#[expect(clippy::module_inception, reason = "the file of `Consumers`")]
mod consumers;
mod fleet;
mod handled;
mod keeper;

pub use consumers::Consumers;
pub use handled::Handled;
