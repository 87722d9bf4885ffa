//! The options of `procession tickets`.

use std::path::PathBuf;

use clap::Args;

use super::{probability, whole_number};

/// Sells tickets from a JSON file. Each buyer is a process.
///
/// Each buyer looks at the stock, and then buys under a lock: it reads the file, waits, decides, waits, and
/// writes. Every ticket has a number. One write changes the count and adds the ticket's buyer under "sold".
/// Other fields of the file are kept.
///
/// Exit status: 0 if the books balance, 1 if they do not, 2 if the command line or the file is invalid or a
/// buyer failed, 130 after Ctrl-C.
#[derive(Args, Clone, Debug)]
pub struct Tickets {
    /// The number of processes that want a ticket.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub buyers: u32,

    /// The number of tickets in a new file [default: 1]. An existing file keeps its count.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number)]
    pub stock: Option<u64>,

    /// The file with the stock, such as {"count": 1}. A missing file is created. Without this option, the sale
    /// uses a temporary file.
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,

    /// Waits for the end of another sale from the same file. Without this option, another sale is an error.
    #[arg(long)]
    pub wait: bool,

    // Reading and writing the file take less than a hundredth of this default. So without the lock, two buyers
    // practically always sell the same ticket, and a sale to ten buyers still takes only half a second.
    /// The time in milliseconds that a buyer waits before it decides, and again before it writes.
    #[arg(long, value_name = "MS", default_value_t = 50, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub think_time: u64,

    /// Sells without the lock, which shows what the lock prevents.
    #[arg(long)]
    pub no_lock: bool,

    /// The probability from 0 to 1 that a buyer is killed. Half of these buyers are killed at a random moment of
    /// their expected life. The others are killed once they hold the lock.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true, value_parser = probability)]
    pub kill_rate: f64,

    /// The seed that decides which buyers are killed, and when. The summary shows the seed, so a run can be
    /// repeated.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number)]
    pub seed: Option<u64>,

    /// Prints only the summary, as one JSON object.
    #[arg(long)]
    pub json: bool,
}
