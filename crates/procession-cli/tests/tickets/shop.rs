//! A directory in which a test sells tickets, and the program under test.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A directory with a database in it, or with a path where a sale creates one.
pub(super) struct Shop {
    pub(super) directory: TempDir,
}

impl Shop {
    pub(super) fn new() -> Shop {
        Shop { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn with(text: &str) -> Shop {
        let shop = Shop::new();
        fs::write(shop.db(), text).unwrap();
        shop
    }

    pub(super) fn db(&self) -> PathBuf {
        self.directory.path().join("db.json")
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.db()).unwrap()
    }

    pub(super) fn content(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    pub(super) fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(super) fn command(&self, flags: &str) -> Command {
        let mut command = tickets(flags);
        command.arg("--db").arg(self.db());
        command
    }

    /// Runs a sale with `--json`. Returns its exit code and its summary.
    pub(super) fn sell(&self, flags: &str) -> (Option<i32>, Value) {
        let output = self.command(flags).arg("--json").output().unwrap();
        let json = serde_json::from_slice(&output.stdout);
        (output.status.code(), json.unwrap_or_else(|e| panic!("{e}: {output:?}")))
    }

    /// Runs a sale that must be refused before it begins. Returns its message.
    pub(super) fn refused(&self, flags: &str) -> String {
        refused(&mut self.command(flags))
    }
}

/// Starts a watchdog, so that a sale that hangs fails the test. Five minutes is many times longer than all
/// sales take.
pub(super) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(300));
            eprintln!("the sales have not ended after five minutes");
            std::process::abort();
        });
    });
}

pub(super) fn tickets(flags: &str) -> Command {
    watch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("tickets").args(flags.split_whitespace());
    command
}

pub(super) fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8(stdout).unwrap(), "");
    stderr
}

pub(super) fn numbers(summary: &Value, fields: &[&str]) -> Vec<u64> {
    fields
        .iter()
        .map(|field| summary[field].as_u64().unwrap_or_else(|| panic!("{field}: {summary}")))
        .collect()
}
