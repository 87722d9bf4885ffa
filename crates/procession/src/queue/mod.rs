//! Queues and pipes between processes, any of which may die at any instruction.
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
//! | to pass messages from any number of producers to any number of consumers | [`Queue`] |
//! | the same, with a message returning to the queue when its consumer dies | [`JoinableQueue`] |
//! | the same, with consumers that are replaced when they die | [`JoinableQueue::consumers`] |
//! | two processes to exchange messages, and to notice the end of the other | [`pipe()`] |
//! | to wait for the first of several queues, connections or processes | [`select`] |
//!
//! # If a process dies
//!
//! When `put` returns, the whole message is in the queue, and it stays there even if its producer dies. No
//! thread sends it later, and nothing has to be flushed. If a process dies during `put` or `get`, that call
//! has either its full effect or no effect. The dead process never leaves half a message behind, and no other
//! process waits for it. A message that a plain [`Queue`] delivered is lost if its consumer dies.

// | file            | what it holds                                                  |
// |-----------------|----------------------------------------------------------------|
// | `ring/`         | the algorithm on messages as bytes; `README.md` is its theory   |
// | `sending.rs`    | encodes and puts values, `bundle.rs` many in one step; `receiving.rs` receives and decodes them |
// | `waiting.rs`    | waits for a message or for room: spins for a moment, then sleeps |
// | `plain/`        | `Queue`; `put_in_place.rs` and `get_in_place.rs` its methods that access bytes in place |
// | `joinable/`     | `JoinableQueue`; `lease.rs` its leases and dead letters |
// | `connection.rs` | `pipe` and its ends; `connection_io.rs` sends and receives |
// | `error.rs`      | why a message was not put or received          |
// | `select.rs`     | `select`                                                     |

mod bundle;
mod connection;
mod connection_io;
mod error;
mod get_in_place;
mod joinable;
mod lease;
mod plain;
mod put_in_place;
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
