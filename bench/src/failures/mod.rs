//! The failure matrix: what happens to other processes when something goes wrong, here and in Python's
//! `multiprocessing`.
//!
//! Each deed is a program that performs the deed and prints its observations. Nothing in the table is written
//! in advance. `drive.rs` runs the program under a time limit and in a process group of its own. The table
//! shows what the program prints, how it ends, and what it leaves behind.
//!
//! | file        | what it holds                                        |
//! |-------------|------------------------------------------------------|
//! | `deeds/`    | the deeds, done to procession                        |
//! | `python.py` | the same deeds, done to Python's `multiprocessing`   |
//! | `drive.rs`  | runs one deed, whatever it does                      |
//! | `table.rs`  | prints the outcomes                                  |

mod deeds;
mod drive;
mod table;

use std::process::Command;
use std::time::Duration;

use crate::flags::Failures;
use crate::peers::python;
use crate::{Result, pairs};
use drive::Outcome;

/// Something that goes wrong.
pub struct Deed {
    /// The name on the command line.
    pub name: &'static str,
    /// A description in one line.
    pub says: &'static str,
    /// Performs the deed with procession.
    run: fn() -> Result,
}

/// The outcome in one library.
pub struct Row {
    deed: &'static Deed,
    python: Option<Outcome>,
    ours: Outcome,
}

const PYTHON: &str = include_str!("python.py");

/// Performs every deed in both libraries, and prints the table. Returns an error if procession hangs or fails
/// in one of them.
pub fn run(flags: &Failures) -> Result {
    pairs::adopt_orphans()?;
    let limit = Duration::from_secs(flags.limit_s);
    let chosen: Vec<&Deed> = match flags.deeds.as_slice() {
        [] => deeds::ALL.iter().collect(),
        names => names.iter().map(|name| find(name)).collect::<Result<_>>()?,
    };
    let python = if flags.no_python { None } else { python::version() };
    let mut rows = Vec::new();
    for deed in chosen {
        eprintln!("{}: {}", deed.name, deed.says);
        let theirs = match &python {
            Some(_) => Some(drive::perform(python_deed(deed.name), limit)?),
            None => None,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["deed", deed.name]);
        rows.push(Row { deed, python: theirs, ours: drive::perform(command, limit)? });
    }
    print!("{}", table::show(&rows, python.as_deref(), flags.markdown));
    match rows.iter().filter(|row| row.ours.is_bad()).count() {
        0 => Ok(()),
        bad => Err(format!("procession failed in {bad} deeds").into()),
    }
}

/// Performs one deed with procession, in this process.
pub fn perform(name: &str) -> Result {
    match deeds::PROGRAMS.iter().find(|(program, _)| *program == name) {
        Some((_, run)) => run(),
        None => (find(name)?.run)(),
    }
}

fn find(name: &str) -> Result<&'static Deed> {
    let found = deeds::ALL.iter().find(|deed| deed.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("no deed is called {name}; they are F1 to F27").into())
}

fn python_deed(name: &str) -> Command {
    let mut command = Command::new(python::program());
    command.args(["-c", PYTHON, name]).env("DEED_SOURCE", PYTHON);
    command
}
