//! The options of `procession pipeline`.

use std::path::PathBuf;

use clap::Args;

use super::probability;

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

    /// Chooses who is killed, and when; the summary names it.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Prints the summary as one JSON object to standard error, in the place of one for people.
    #[arg(long)]
    pub json: bool,
}
