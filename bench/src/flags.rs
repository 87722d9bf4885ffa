//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::churn::Churn;

/// Compares procession with its peers and with the limits of the machine.
#[derive(Parser)]
#[command(version, about)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Measure workloads, every contender by turns, and print a table.
    Compare(Compare),
    /// Measure one contender once in this process, and print its figure as JSON.
    Run {
        /// The workload, as `list` calls it.
        workload: String,
        /// The contender, as `list` calls it.
        contender: String,
    },
    /// Kill processes at bad moments, here and in Python's multiprocessing, and print what happens to the others.
    Failures(Failures),
    /// Do one deed of the failure matrix to procession.
    #[command(hide = true)]
    Deed {
        /// The deed.
        name: String,
    },
    /// Measure how cost grows with the length of messages, the number of processes, the number of entries.
    Grow(Grow),
    /// Measure one point of a curve in this process, and print its figure as JSON.
    #[command(hide = true)]
    GrowOnce {
        /// What grows.
        subject: String,
        /// Whose cost.
        contender: String,
        /// How large.
        size: u64,
    },
    /// Draw figures that `compare --json` has kept.
    Draw {
        /// The files; of a workload that is in several, the last one counts.
        #[arg(required = true, value_name = "JSON")]
        files: Vec<PathBuf>,
        /// Draw into this file, as SVG.
        #[arg(long, value_name = "FILE")]
        svg: PathBuf,
    },
    /// Say which workloads and contenders there are.
    List,
    /// Put entries of many sizes into a dict and take them out for days, and draw what that leaves of the memory.
    Churn(ChurnFlags),
    /// Wait for the end of the input: a process that idles.
    #[command(hide = true)]
    Wait,
}

/// How to compare.
#[derive(Args)]
pub struct Compare {
    /// The workloads to measure; all when none is named.
    pub workloads: Vec<String>,
    /// How often each contender of a workload runs.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = at_least_one)]
    pub pairs: usize,
    /// Wait this long at most, all in all, for other load to go away before a round.
    #[arg(long = "patience", default_value_t = 60, value_name = "SECONDS")]
    pub patience_s: u64,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the ratios into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
}

/// How to measure growth.
#[derive(Args)]
pub struct Grow {
    /// How often each point is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = at_least_one)]
    pub pairs: usize,
    /// Draw the curves into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// How to make the failure matrix.
#[derive(Args)]
pub struct Failures {
    /// The deeds to do, F1 to F27; all when none is named.
    pub deeds: Vec<String>,
    /// Time after which a deed counts as hanging.
    #[arg(long = "limit", default_value_t = 6, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    pub limit_s: u64,
    /// Do it to procession alone.
    #[arg(long)]
    pub no_python: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
}

/// How long to churn.
#[derive(Args)]
pub struct ChurnFlags {
    /// So many days, of 48 half hours each.
    #[arg(long, default_value_t = 3)]
    days: u64,
    /// So many operations in half an hour.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// Draw the result into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl ChurnFlags {
    pub fn churn(&self) -> Churn {
        Churn { days: self.days, operations: self.operations }
    }
}

/// Reads the command line. On a mistake it prints the error and exits.
pub fn parse() -> Command {
    Flags::parse().command
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("one pair is the least".into()),
        Ok(pairs) => Ok(pairs),
        Err(e) => Err(format!("{e}")),
    }
}
