//! Starts programs for `procession map`, and holds all of its unsafe code.
//!
//! | file | what it exports |
//! |---|---|
//! | `launcher.rs` | [`Launcher`]: starts programs; the parent's half |
//! | `order.rs` | [`Order`]: what to start; and the child's half, up to `execve` |
//! | `signals.rs` | [`AllBlocked`]; the signals and streams that this process found; gives the program the same signals |
//! | `signal_queue.rs` | [`SignalQueue`]: signals that are read instead of handled |
//! | `split.rs` | [`split()`]: forks this program while it has one thread |
//! | `terminal.rs` | [`give_terminal`]: moves a terminal's foreground |
//!
//! `std::process::Command` does most of this. It cannot make the child end with its parent, give it the terminal
//! before it runs, or leave SIGPIPE ignored. With some C libraries it leaves signals 32 and 33 ignored.
#![allow(unsafe_code)] // Processes are made of system calls that the compiler cannot check.

mod launcher;
mod order;
mod signal_queue;
mod signals;
mod split;
mod terminal;

pub use launcher::Launcher;
pub use order::{Failure, Order, Step};
pub use signal_queue::{Batch, SignalQueue};
pub use signals::{AllBlocked, ignore, was_closed, was_ignored};
pub use split::{Half, split};
pub use terminal::give_terminal;
