//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Programs made of processes, any of which may be killed at any time.
#[derive(Parser)]
#[command(name = "procession", version, arg_required_else_help = true)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

/// Which program to run.
#[derive(Subcommand)]
pub enum Command {
    Tickets(Tickets),
    Pipeline(Pipeline),
    Map(Map),
}

/// Sells tickets out of a JSON file to buyers that are processes of their own.
///
/// Each buyer looks at the stock, and then buys under a lock: it reads the file, waits, decides,
/// waits, and writes. Every ticket has a number, and who bought it is written to the file in the
/// same step as the new count, under "sold"; other fields of the file are kept.
///
/// Exit status: 0 when the books balance, 1 when they do not, 2 when the command line or the file
/// is no good or a buyer failed, 130 after Ctrl-C.
#[derive(Args, Clone, Debug)]
pub struct Tickets {
    /// How many processes want a ticket.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub buyers: u32,

    /// How many tickets a new file starts with [default: 1]. A file that is there has its own count.
    #[arg(long, value_name = "N")]
    pub stock: Option<u64>,

    /// The file with the stock, such as {"count": 1}; made when missing. Without this option the
    /// sale has a file of its own, which is removed at its end.
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,

    // The seed waits 500 ms twice a sale, so that its ten buyers take five and a half seconds. A
    // tenth of that is still a hundred times what reading and writing the file takes, so the race
    // that the lock prevents is lost as surely, in half a second.
    /// How long reading and writing the file are pretended to take, each.
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub think_time: u64,

    /// Sells without the lock, to see what it prevents.
    #[arg(long)]
    pub no_lock: bool,

    /// The probability that a buyer is killed, from 0 to 1. Half of the victims are killed at a
    /// random moment of their expected life, the others when they have been seen inside the lock.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub kill_rate: f64,

    /// Chooses who is killed, and when; the summary tells it, so that a run can be tried again.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Prints the summary as one JSON object, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Hashes and counts files, or lines: producers read them, consumers work on them, one writer writes
/// the results in the order of the input.
///
/// Producers, consumers and the writer are processes of their own. For each file there is a line with its
/// SHA-256, how many lines, words and bytes it has, and its name; with --lines, the same for each line.
///
/// Exit status: 0 when each item has its result once, 1 when the books do not balance, 2 when some
/// input could not be read or a process failed, 130 after Ctrl-C.
#[derive(Args, Clone, Debug)]
pub struct Pipeline {
    /// The files to read; `-` is standard input, and so is no file at all.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Works on each line by itself.
    #[arg(long)]
    pub lines: bool,

    /// How many processes read [default: 2, or as many as there are files if those are fewer].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub producers: Option<u32>,

    /// How many processes hash and count [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub consumers: Option<u32>,

    /// The probability, for each batch of work, that a consumer is killed, from 0 to 1; another takes its
    /// place.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub kill_rate: f64,

    /// Chooses who is killed, and when; the summary tells it.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Prints the summary as one JSON object to standard error, in the place of one for people.
    #[arg(long)]
    pub json: bool,
}

/// Runs a command for each line of standard input, several at a time.
///
/// Each {} in the command is replaced by the line; without one, the line is the last word. What a command prints
/// comes in one piece. A command that takes too long is killed with everything that it has started.
///
/// A first Ctrl-C is passed on to the commands, and no more are begun; a second one kills everything.
///
/// Exit status: 0 when all commands succeeded, 1 when some failed, 2 when the command line or the log is no good,
/// 130 after Ctrl-C.
#[derive(Args, Clone, Debug)]
pub struct Map {
    /// How many commands run at a time [default: one for each processor].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub jobs: Option<u32>,

    /// How long a command may take.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,

    /// How often a command that failed is tried again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub retries: u32,

    /// Prints in the order of the input.
    #[arg(short, long)]
    pub keep_order: bool,

    /// Writes a line for each command that has ended: exit code, signal, attempts, seconds, input.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Goes on with an interrupted run: what succeeded according to the log is not done again.
    #[arg(long, requires = "log")]
    pub resume: bool,

    /// Prints no summary.
    #[arg(short, long)]
    pub quiet: bool,

    /// The command and its arguments.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub command: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.001..=1e9).contains(&s) => Ok(s),
        Ok(_) => Err("a time limit is a number of seconds from 0.001 on".into()),
        Err(e) => Err(format!("{e}: a time limit is a number of seconds")),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        Ok(_) => Err("a probability is a number from 0 to 1".into()),
        Err(e) => Err(format!("{e}: a probability is a number from 0 to 1")),
    }
}
