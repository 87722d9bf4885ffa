//! One program, built in every way that matters to the linker and to panics: see `fixtures/program`. (A
//! debug build with panics that unwind is what the other tests are.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::family::*;

/// Builds the program with these settings of its profile and gives its path. All builds go to one place, so
/// that cargo builds what they have in common once, and keeps what it has built.
fn built(name: &str, settings: &[(&str, &str)]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/program/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--offline", "--quiet", "--release", "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(&target);
    cargo.envs(settings.iter().map(|(key, value)| (format!("CARGO_PROFILE_RELEASE_{key}"), value)));
    succeeds(&mut cargo);
    let program = target.join(name);
    fs::copy(target.join("release/program"), &program).expect("the program is there");
    program
}

#[track_caller]
fn all_is_well(program: &Path) {
    let _dog = watched();
    let text = succeeds(Command::new(program).env("RUST_BACKTRACE", "1"));
    assert_eq!(text.matches("good: ").count(), 9, "{text}");
    assert!(text.contains("last words") && !text.contains("BAD"), "{text}");
}

#[test]
fn debug_with_panics_that_abort() {
    let debug = [("OPT_LEVEL", "0"), ("DEBUG_ASSERTIONS", "true"), ("PANIC", "abort")];
    all_is_well(&built("debug-abort", &debug));
}

#[test]
fn release_with_many_codegen_units() {
    all_is_well(&built("many", &[("CODEGEN_UNITS", "16")]));
}

#[test]
fn release_with_fat_lto_one_codegen_unit_and_no_symbols() {
    all_is_well(&built("fat", &[("LTO", "fat"), ("CODEGEN_UNITS", "1"), ("STRIP", "true")]));
}
