//! [`Manager`]: creates all kinds of shared objects, and finds objects by name.
//!
//! ```
//! use procession::{Manager, Process};
//!
//! fn work() -> procession::Result<()> {
//!     let stock = Manager::new()?.named("stock").dict::<String, u32>()?;
//!     stock.update("apples", |n| *n -= 1)?;
//!     Ok(())
//! }
//!
//! let manager = Manager::new()?;
//! let stock = manager.named("stock").dict::<String, u32>()?;
//! stock.insert("apples", 10)?;
//! Process::spawn(work, ())?.join()??;
//! assert_eq!(stock.get("apples")?, Some(9));
//! # Ok::<(), procession::Error>(())
//! ```

// | file            | what it holds                                             |
// |-----------------|-----------------------------------------------------------|
// | `manager.rs`    | `Manager`                                                 |
// | `factory.rs`    | the objects without a name that it creates                |
// | `named.rs`      | `Named`: finding or creating an object by its name        |
// | `named_sync.rs` | the same for the types of `sync`                          |
// | `names.rs`      | the dict that maps names to objects                       |

mod factory;
#[expect(clippy::module_inception, reason = "the file of `Manager`")]
mod manager;
mod named;
mod named_sync;
mod names;

pub use manager::Manager;
pub use named::Named;
