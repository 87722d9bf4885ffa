//! The command line.

mod map;
mod pipeline;
mod tickets;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use map::{LogFormat, Map};
pub use pipeline::Pipeline;
pub use tickets::Tickets;

/// Programs that consist of processes. Any of these processes may be killed at any time.
#[derive(Parser)]
#[command(name = "procession", version, arg_required_else_help = true)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

/// The program to run.
#[derive(Subcommand)]
pub enum Command {
    Map(Box<Map>),
    Tickets(Tickets),
    Pipeline(Pipeline),
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints a man page.
    Man {
        /// A subcommand, such as `map`.
        command: Option<String>,
    },
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        Ok(_) => Err("a probability is a number from 0 to 1".into()),
        Err(e) => Err(format!("{e}: a probability is a number from 0 to 1")),
    }
}

fn whole_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a whole number from 0 to {} is wanted", u64::MAX))
}
