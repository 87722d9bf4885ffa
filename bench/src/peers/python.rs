//! Python's multiprocessing, through a small script of ours.

use std::process::{Command, Stdio};

use crate::Result;

const SCRIPT: &str = include_str!("primitives.py");

/// The interpreter.
pub const PROGRAM: &str = "python3";

/// What it says it is, if it is there.
pub fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Nanoseconds of one use of a primitive: see the script for which there are.
pub fn primitive(name: &str) -> Result<f64> {
    let output = Command::new(PROGRAM)
        .args(["-c", SCRIPT, name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(text.trim().parse().map_err(|_| format!("{PROGRAM} said {text:?}"))?),
        false => Err(format!("{PROGRAM} ended with {}", output.status).into()),
    }
}
