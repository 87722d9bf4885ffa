//! Python's multiprocessing, its executor, and loky, through small Python scripts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::Result;

const PRIMITIVES: &str = include_str!("primitives.py");
const STRUCTURES: &str = include_str!("structures.py");

/// The interpreter that `scripts/peers` has installed, or the system's.
static PROGRAM: LazyLock<&str> = LazyLock::new(|| {
    const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/bin/python3");
    if Path::new(OWN).exists() { OWN } else { "python3" }
});

/// Returns the interpreter's path.
pub fn program() -> &'static str {
    &PROGRAM
}

/// Returns the version that the interpreter reports, if there is an interpreter.
pub fn version() -> Option<String> {
    let output = Command::new(program()).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Returns whether the interpreter has loky.
pub fn has_loky() -> bool {
    let looked = Command::new(program()).args(["-c", "import loky"]).stderr(Stdio::null()).status();
    looked.is_ok_and(|status| status.success())
}

/// Returns the nanoseconds of one use of a primitive. The script lists the primitives.
pub fn primitive(name: &str) -> Result<f64> {
    run(PRIMITIVES, name)
}

/// Returns the figure of a whole workload, in the workload's unit.
pub fn structure(name: &str) -> Result<f64> {
    run(STRUCTURES, name)
}

fn run(script: &str, name: &str) -> Result<f64> {
    let output = Command::new(program())
        .args(["-c", script, name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(text.trim().parse().map_err(|_| format!("{} said {text:?}", program()))?),
        false => Err(format!("{} ended with {}", program(), output.status).into()),
    }
}
