//! Messages between processes, of which any may die at any instruction.
//!
//! ```
//! use procession::{Process, Queue};
//!
//! let queue = Queue::<String>::bounded(3)?;
//! let child = Process::spawn(|queue: Queue<String>| queue.put("hello".into()).unwrap(), (queue.clone(),))?;
//! assert_eq!(queue.get()?, "hello");
//! child.join()?;
//! # Ok::<(), procession::Error>(())
//! ```
//!
//! # Which one?
//!
//! | you want | use |
//! |---|---|
//! | to hand messages from any number of producers to any number of consumers | [`Queue`] |
//! | the same, and a message comes back when the consumer that works on it dies | [`JoinableQueue`] |
//! | two processes to talk to each other, and to notice when the other is gone | [`pipe()`] |
//! | to wait for several of these, or for processes, at once | [`select`] |
//!
//! # If a process dies
//!
//! A message is in the queue, whole, when `put` returns, and stays there whatever happens to its
//! producer: there is no thread that still has to send it, and nothing to flush. A process that dies
//! in the middle of `put` or `get` has put or taken its message, or not: never half of it, and nobody else
//! waits for the dead. What a plain [`Queue`] has given to a consumer goes with that consumer.

// | file            | what it holds                                                  |
// |-----------------|----------------------------------------------------------------|
// | `ring/`         | the algorithm: messages as bytes; `README.md` is its theory     |
// | `sending.rs`    | a value on its way in; `receiving.rs` on its way out           |
// | `waiting.rs`    | waiting for a message or for room: spin a moment, then sleep    |
// | `plain/`        | `Queue`; `in_place.rs` its bytes in place                     |
// | `joinable/`     | `JoinableQueue`; `lease.rs` what it hands out         |
// | `connection.rs` | `pipe`                                                     |
// | `error.rs`      | why a message was not put or received |
// | `select.rs`     | `select`                                                     |

mod connection;
mod error;
mod in_place;
mod joinable;
mod lease;
mod plain;
mod receiving;
pub(crate) mod ring;
pub(crate) mod select;
mod sending;
pub(crate) mod waiting;

pub use connection::{Connection, pipe};
pub use error::{GetError, JoinError, PutError};
pub use joinable::JoinableQueue;
pub use lease::{DeadLetter, DeadLetters, Lease};
pub use plain::{Iter, Queue};
pub use select::{Ready, SelectError, select, select_deadline, select_timeout, try_select};
