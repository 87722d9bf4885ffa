//! Boost.Interprocess, through a small C++ program that `scripts/peers` compiles.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/boost");

/// Returns whether the program was compiled.
pub fn is_here() -> bool {
    Path::new(PROGRAM).exists()
}

/// Returns the program's figure for a workload, in the workload's unit.
pub fn reaches(workload: &str) -> Result<f64> {
    let output =
        Command::new(PROGRAM).arg(workload).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(text.trim().parse().map_err(|_| format!("the program with Boost said {text:?}"))?),
        false => Err(format!("the program with Boost ended with {}", output.status).into()),
    }
}
