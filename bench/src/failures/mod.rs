//! The failure matrix: what happens to other processes when something goes wrong, here and in Python's
//! `multiprocessing`.
//!
//! Each scenario is a program that performs it and prints its observations. Nothing in the table is written
//! in advance. `drive.rs` runs the program under a time limit and in a process group of its own. The table
//! shows what the program prints, how it ends, and what it leaves behind.
//!
//! | file         | what it holds                                       |
//! |--------------|-----------------------------------------------------|
//! | `scenarios/` | the scenarios, with procession                      |
//! | `python.py`  | the same scenarios, with Python's `multiprocessing` |
//! | `drive.rs`   | runs one scenario, whatever it does                 |
//! | `table.rs`   | prints the outcomes                                 |

mod drive;
mod scenarios;
mod table;

use std::process::Command;
use std::time::Duration;

use crate::flags::Failures;
use crate::peers::python;
use crate::{Result, pairs};
use drive::Outcome;

/// Something that goes wrong.
pub struct Scenario {
    /// The name on the command line.
    pub name: &'static str,
    /// A description in one line.
    pub says: &'static str,
    /// Performs the scenario with procession.
    run: fn() -> Result,
}

/// The outcome in one library.
pub struct Row {
    scenario: &'static Scenario,
    python: Option<Outcome>,
    ours: Outcome,
}

const PYTHON: &str = include_str!("python.py");

/// Performs every scenario in both libraries, and prints the table. Returns an error if procession hangs or fails
/// in one of them.
pub fn run(flags: &Failures) -> Result {
    pairs::adopt_orphans()?;
    let limit = Duration::from_secs(flags.limit_s);
    let chosen: Vec<&Scenario> = match flags.scenarios.as_slice() {
        [] => scenarios::ALL.iter().collect(),
        names => names.iter().map(|name| find(name)).collect::<Result<_>>()?,
    };
    let python = if flags.no_python { None } else { python::version() };
    let mut rows = Vec::new();
    for scenario in chosen {
        eprintln!("{}: {}", scenario.name, scenario.says);
        let theirs = match &python {
            Some(_) => Some(drive::perform(python_scenario(scenario.name), limit)?),
            None => None,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["scenario", scenario.name]);
        rows.push(Row { scenario, python: theirs, ours: drive::perform(command, limit)? });
    }
    print!("{}", table::show(&rows, python.as_deref(), flags.markdown));
    match rows.iter().filter(|row| row.ours.is_bad()).count() {
        0 => Ok(()),
        bad => Err(format!("procession failed in {bad} scenarios").into()),
    }
}

/// Performs one scenario with procession, in this process.
pub fn perform(name: &str) -> Result {
    match scenarios::PROGRAMS.iter().find(|(program, _)| *program == name) {
        Some((_, run)) => run(),
        None => (find(name)?.run)(),
    }
}

fn find(name: &str) -> Result<&'static Scenario> {
    let found = scenarios::ALL.iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("no scenario is called {name}; they are F1 to F27").into())
}

fn python_scenario(name: &str) -> Command {
    let mut command = Command::new(python::program());
    command.args(["-c", PYTHON, name]).env("DEED_SOURCE", PYTHON);
    command
}
