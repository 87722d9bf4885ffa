//! Compares procession with its peers and with the limits of the machine. See `README.md`.
//!
//! | file         | what it holds                                                      |
//! |--------------|--------------------------------------------------------------------|
//! | `flags.rs`   | the command line                                                   |
//! | `pairs.rs`   | runs contenders by turns, each time in a fresh process             |
//! | `load.rs`    | how busy others kept the machine meanwhile                         |
//! | `table.rs`   | what the figures look like: plain, Markdown, JSON                  |
//! | `chart.rs`   | the same as pictures                                               |
//! | `growth.rs`  | how cost grows                                                     |
//! | `machine.rs` | the clock, the CPUs, a GiB of memory, what `/proc` says            |
//! | `churn.rs`   | days of churn in a dict, drawn by `plot.rs`                          |
//! | `board.rs`   | shared memory in which a workload's processes meet                 |
//! | `stats.rs`   | statistics of a few figures                                        |
//! | `workload.rs`| a workload, its contenders, and a figure                           |
//! | `workloads/` | what is measured                                                   |
//! | `failures/`  | what happens to the others when a process is killed                |
//! | `peers/`     | what is measured against: bare system calls made safe, and Python  |

mod board;
mod chart;
mod churn;
mod failures;
mod flags;
mod growth;
mod load;
mod machine;
mod pairs;
mod peers;
mod plot;
mod stats;
mod table;
mod workload;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flags::{Command, Compare};

/// A result whose error is a message for the user.
type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    // In a process that procspawn started, this does not return.
    procspawn::init();
    let done = match flags::parse() {
        Command::Compare(flags) => compare(&flags),
        Command::Run { workload, contender } => run(&workload, &contender),
        Command::Failures(flags) => failures::run(&flags),
        Command::Scenario { name } => failures::perform(&name),
        Command::Grow(flags) => grow(&flags),
        Command::GrowOnce { subject, contender, size } => grow_once(&subject, &contender, size),
        Command::Draw { files, svg } => draw(&files, &svg),
        Command::List => list(),
        Command::Churn(flags) => churn::run(flags.churn(), flags.svg.as_deref()),
        Command::Wait => wait(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("procession-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns an error with `what` unless `good`.
fn ensure(good: bool, what: &str) -> Result {
    if good { Ok(()) } else { Err(what.into()) }
}

/// Runs one contender once, in this process, and prints its figure for `pairs.rs` to read.
fn run(workload: &str, contender: &str) -> Result {
    let sample = (workloads::find(workload)?.contender(contender)?.run)()?;
    println!("{}", sample.to_json());
    Ok(())
}

fn list() -> Result {
    for workload in workloads::ALL {
        let names: Vec<_> = workload.contenders.iter().map(|c| c.name).collect();
        println!("{:<18} {} ({})", workload.name, workload.says, names.join(", "));
    }
    Ok(())
}

fn grow(flags: &flags::Grow) -> Result {
    pairs::adopt_orphans()?;
    let curves = growth::measure(flags)?;
    print!("{}\n{}", machine::describe(), growth::markdown(&curves));
    if let Some(path) = &flags.svg {
        std::fs::write(path, chart::growth(&curves, &machine::describe()))?;
    }
    Ok(())
}

fn grow_once(subject: &str, contender: &str, size: u64) -> Result {
    println!("{}", workload::Sample::new(growth::once(subject, contender, size)?).to_json());
    Ok(())
}

fn wait() -> Result {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Draws figures that `compare --json` has saved. If a workload is in several files, the last one counts.
fn draw(files: &[PathBuf], svg: &Path) -> Result {
    let (mut machine, mut comparisons) = (String::new(), Vec::<pairs::Comparison>::new());
    for file in files {
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        machine = kept["machine"].as_str().unwrap_or_default().to_owned();
        for one in kept["workloads"].as_array().into_iter().flatten() {
            let found = pairs::Comparison::from_json(one)?;
            comparisons.retain(|other| !std::ptr::eq(other.workload, found.workload));
            comparisons.push(found);
        }
    }
    comparisons
        .sort_by_key(|one| workloads::ALL.iter().position(|workload| std::ptr::eq(workload, one.workload)));
    Ok(std::fs::write(svg, chart::ratios(&comparisons, &machine))?)
}

fn compare(flags: &Compare) -> Result {
    let chosen = match flags.workloads.as_slice() {
        [] => workloads::ALL.iter().collect(),
        names => names.iter().map(|name| workloads::find(name)).collect::<Result<Vec<_>>>()?,
    };
    pairs::adopt_orphans()?;
    let started = Instant::now();
    let mut quiet_wait = load::QuietWait(Duration::from_secs(flags.max_wait_s));
    let mut comparisons = Vec::new();
    for workload in chosen {
        eprintln!("{}: {}", workload.name, workload.says);
        comparisons.push(pairs::compare(workload, flags.pairs, &mut quiet_wait)?);
    }
    let report = table::Report { machine: machine::describe(), took: started.elapsed(), comparisons };
    print!("{}", if flags.markdown { report.markdown() } else { report.plain() });
    if let Some(path) = &flags.json {
        std::fs::write(path, format!("{:#}\n", report.json()))?;
    }
    if let Some(path) = &flags.svg {
        std::fs::write(path, chart::ratios(&report.comparisons, &report.machine))?;
    }
    match report.failures() {
        0 => Ok(()),
        failures => Err(format!("{failures} runs failed").into()),
    }
}
