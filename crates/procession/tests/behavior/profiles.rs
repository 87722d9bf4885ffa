//! One program, built with every setting that matters to the linker and to panics. The program is in
//! `fixtures/program`. All other tests use a debug build in which panics unwind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::family::*;

/// Builds the program with these settings of its profile, and returns its path. All builds share a folder, so cargo
/// builds their common parts once and keeps its results.
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
    assert_eq!(text.matches("good: ").count(), 10, "{text}");
    assert!(text.contains("last words") && !text.contains("BAD"), "{text}");
}

#[test]
fn the_program_works_in_debug_with_panics_that_abort() {
    let debug = [("OPT_LEVEL", "0"), ("DEBUG_ASSERTIONS", "true"), ("PANIC", "abort")];
    all_is_well(&built("debug-abort", &debug));
}

#[test]
fn the_program_works_in_release_with_many_codegen_units() {
    all_is_well(&built("many", &[("CODEGEN_UNITS", "16")]));
}

#[test]
fn the_program_works_with_fat_lto_and_no_symbols() {
    all_is_well(&built("fat", &[("LTO", "fat"), ("CODEGEN_UNITS", "1"), ("STRIP", "true")]));
}
