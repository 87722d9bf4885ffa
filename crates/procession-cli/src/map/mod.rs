//! A command for each line of input, in a pool of processes.
//!
//! ```text
//!  lines ──▶ drive ──▶ pool ──▶ worker ──▶ command, in a process group of its own
//!              │  ▲               ✝ too long: killed, and its commands with it
//!              │  └── outcome ────┘
//!              └──▶ output, grouped · log · bar
//! ```

mod command;
mod drive;
mod input;
mod log;
mod printer;

pub use drive::run;
