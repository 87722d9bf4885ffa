//! The options of `procession tickets`.

use std::path::PathBuf;

use clap::Args;

use super::{probability, whole_number};

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
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub buyers: u32,

    /// How many tickets a new file starts with [default: 1]. A file that is there has its own count.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number)]
    pub stock: Option<u64>,

    /// The file with the stock, such as {"count": 1}; made when missing. Without this option the
    /// sale has a file of its own, which is removed at its end.
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,

    /// Waits for the end of another sale of the same file, which otherwise is an error.
    #[arg(long)]
    pub wait: bool,

    // The seed waits 500 ms twice a sale, so that its ten buyers take five and a half seconds. A tenth of
    // that wait is still a hundred times as long as reading and writing the file. So the race that the lock
    // prevents is lost just as surely, in half a second.
    /// How long reading and writing the file are pretended to take, each.
    #[arg(long, value_name = "MS", default_value_t = 50, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub think_time: u64,

    /// Sells without the lock, to see what it prevents.
    #[arg(long)]
    pub no_lock: bool,

    /// The probability that a buyer is killed, from 0 to 1. Half of the victims are killed at a
    /// random moment of their expected life, the others when they have been seen inside the lock.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true, value_parser = probability)]
    pub kill_rate: f64,

    /// Chooses who is killed, and when; the summary names it, so that a run can be tried again.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number)]
    pub seed: Option<u64>,

    /// Prints the summary as one JSON object, and nothing else.
    #[arg(long)]
    pub json: bool,
}
