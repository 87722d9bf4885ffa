//! The options of `procession pipeline`.

use std::path::PathBuf;

use clap::Args;

use super::probability;

/// Hashes and counts files or lines with a pipeline of processes.
///
/// Producers read the input, consumers hash and count it, and one writer writes the results in the order of
/// the input. Each of them is a process. The result of a file is one line: the SHA-256, the numbers of lines,
/// words and bytes, and the name. With --lines, each line of the input has a result.
///
/// Exit status: 0 if each item has exactly one result, 1 if the books do not balance, 2 if some input could
/// not be read or a process failed, 130 after Ctrl-C, 141 if the output lost its reader.
#[derive(Args, Clone, Debug)]
pub struct Pipeline {
    /// The files to read. `-` is standard input, which is also read if there is no FILE.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Hashes and counts each line instead of each file.
    #[arg(long)]
    pub lines: bool,

    /// The number of processes that read [default: 2, or 1 for one file].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub producers: Option<u32>,

    /// The number of processes that hash and count [default: one per processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub consumers: Option<u32>,

    /// The probability from 0 to 1 that a consumer is killed, for each batch of work. Another consumer replaces
    /// a killed one.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub kill_rate: f64,

    /// The seed that decides which consumers are killed, and when. The summary shows the seed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Prints the summary to standard error as one JSON object.
    #[arg(long)]
    pub json: bool,
}
