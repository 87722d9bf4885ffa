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
    /// Measure workloads, with all contenders in turns, and print a table.
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
    /// Perform one scenario of the failure matrix on procession.
    #[command(hide = true)]
    Scenario {
        /// The scenario.
        name: String,
    },
    /// Measure how cost grows with the length of messages, the number of processes, and the number of
    /// entries.
    Grow(Grow),
    /// Measure one point of a curve in this process, and print its figure as JSON.
    #[command(hide = true)]
    GrowOnce {
        /// The quantity that grows.
        subject: String,
        /// The contender whose cost is measured.
        contender: String,
        /// The size at that point.
        size: u64,
    },
    /// Draw figures that `compare --json` has saved.
    Draw {
        /// The files. If a workload is in several of them, the last one counts.
        #[arg(required = true, value_name = "JSON")]
        files: Vec<PathBuf>,
        /// Draw into this file, as SVG.
        #[arg(long, value_name = "FILE")]
        svg: PathBuf,
    },
    /// List the workloads and contenders.
    List,
    /// For days, insert entries of many sizes into a dict and remove them, and draw how much memory that
    /// takes.
    Churn(ChurnFlags),
    /// Idle until the input ends.
    #[command(hide = true)]
    Wait,
}

/// How to compare.
#[derive(Args)]
pub struct Compare {
    /// The workloads to measure. All are measured if none is named.
    pub workloads: Vec<String>,
    /// How often each contender of a workload runs.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = at_least_one)]
    pub pairs: usize,
    /// Wait at most this long in total for other load to go away before the rounds.
    #[arg(long = "max-wait", default_value_t = 60, value_name = "SECONDS")]
    pub max_wait_s: u64,
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
    /// The scenarios to perform, F1 to F27. All are performed if none is named.
    pub scenarios: Vec<String>,
    /// The time after which a scenario counts as hanging.
    #[arg(long = "limit", default_value_t = 6, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    pub limit_s: u64,
    /// Perform the scenarios with procession only.
    #[arg(long)]
    pub no_python: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
}

/// How long to churn.
#[derive(Args)]
pub struct ChurnFlags {
    /// The number of days, of 48 half hours each.
    #[arg(long, default_value_t = 3)]
    days: u64,
    /// The number of operations in half an hour.
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
