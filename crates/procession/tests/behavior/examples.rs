//! Every numbered example prints the output in `examples/expected`.
//!
//! The comparison ignores what the scheduler decides: process ids become `pid`, and each test below states
//! which lines may come in another order.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The two tasks print in either order, and the line `main` may come anywhere. The two lines of a task stay
/// together.
#[test]
fn the_ordered_printing_example_prints_its_output() {
    let tasks = |lines: Vec<String>| {
        let (main, tasks): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line == "main");
        let mut tasks: Vec<_> = tasks.chunks(2).map(<[String]>::to_vec).collect();
        tasks.sort();
        (main, tasks)
    };
    assert_eq!(tasks(printed("01_ordered_printing")), tasks(expected("01_ordered_printing")));
}

/// The buyers come in any order. A buyer that arrives late finds the ticket gone. The final content of the file is
/// printed last.
#[test]
fn the_tickets_example_prints_its_output() {
    let told = |mut lines: Vec<String>| {
        let end = lines.pop();
        let mut lines: Vec<_> = lines.iter().map(|line| line.replace("sees 0 left", "sees 1 left")).collect();
        lines.sort();
        (lines, end)
    };
    assert_eq!(told(printed("02_tickets")), told(expected("02_tickets")));
}

/// No process's decrement is lost.
#[test]
fn the_shared_dict_example_prints_its_output() {
    assert_eq!(printed("03_shared_dict"), expected("03_shared_dict"));
}

/// The queue has room for three items. The output is the same every time.
#[test]
fn the_queue_example_prints_its_output() {
    assert_eq!(printed("04_queue"), expected("04_queue"));
}

/// The output does not depend on which process gets which item, or on which process dies.
#[test]
fn the_producer_consumer_example_prints_its_output() {
    assert_eq!(printed("05_producer_consumer"), expected("05_producer_consumer"));
}

/// The results of a pool are the same every time.
#[test]
fn the_pool_example_prints_its_output() {
    assert_eq!(printed("06_pool"), expected("06_pool"));
}

#[test]
fn the_async_examples_print_the_same_every_time() {
    assert_eq!(printed("07_async_tasks"), expected("07_async_tasks"));
    assert_eq!(printed("08_async_queue"), expected("08_async_queue"));
}

/// The report is sorted, so it does not depend on which text fails first. Standard error is no terminal, so there is no
/// bar.
#[test]
fn the_failure_report_example_prints_its_output() {
    assert_eq!(printed("09_failure_report"), expected("09_failure_report"));
}

/// Which consumer dies does not change what is printed.
#[test]
fn the_consumers_example_prints_its_output() {
    assert_eq!(printed("10_consumers"), expected("10_consumers"));
}

/// Every numbered example is run by a test above, and is short enough to read without scrolling.
#[test]
fn each_numbered_example_is_short_and_has_an_expected_output() {
    let names =
        fs::read_dir(EXAMPLES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbered: Vec<String> =
        names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(!numbered.is_empty());
    for file in numbered {
        let text = fs::read_to_string(Path::new(EXAMPLES).join(&file)).unwrap();
        assert!(text.lines().count() < 60, "{file} has {} lines", text.lines().count());
        let name = file.strip_suffix(".rs").unwrap();
        assert!(!expected(name).is_empty(), "{name} prints nothing");
        let tested = include_str!("examples.rs").contains(&format!("printed(\"{name}\")"));
        assert!(tested, "{name} is not run here");
    }
}

fn expected(name: &str) -> Vec<String> {
    let path = Path::new(EXAMPLES).join("expected").join(name).with_extension("txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// Returns the lines that the example prints, without process ids.
fn printed(name: &str) -> Vec<String> {
    let output = Command::new(program(name)).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{name}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(without_pid).collect()
}

/// Turns `[4711] sees` into `[pid] sees`.
fn without_pid(line: &str) -> String {
    let pid = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match pid.filter(|(pid, _)| pid.parse::<u32>().is_ok()) {
        Some((_, rest)) => format!("[pid]{rest}"),
        None => line.to_owned(),
    }
}

/// Returns the example's executable. `cargo test` builds the executable before this test runs, unless only
/// this test binary was requested. Then the executable may be missing or outdated, and this function builds
/// it.
fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let profile = me.parent().and_then(Path::parent).expect("tests are built in TARGET/PROFILE/deps");
    let program = profile.join("examples").join(name);
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = Path::new(EXAMPLES).join(name).with_extension("rs");
    if changed(&program) < changed(&library).max(changed(&source)) {
        build(name, profile);
    }
    assert!(program.is_file(), "{} was not built", program.display());
    program
}

/// Returns the time of the last change of a file, or of the newest file in a folder. Returns `None` if there
/// is no file.
fn changed(path: &Path) -> Option<SystemTime> {
    match fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| changed(&entry.ok()?.path())).max(),
        Err(_) => fs::metadata(path).and_then(|found| found.modified()).ok(),
    }
}

/// Builds an example in the same way as this test: in the same folder, with the same profile.
fn build(name: &str, profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut target = profile.parent().expect("a profile has its folder in the target folder");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--example", name, "--manifest-path"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    command.arg("--profile").arg(match profile.file_name() {
        Some(folder) if folder != "debug" => folder.to_owned(),
        _ => OsString::from("dev"),
    });
    // `--target` adds a folder, and only the outermost folder has this tag.
    if !target.join("CACHEDIR.TAG").exists() {
        command.arg("--target").arg(target.file_name().expect("the folder of a target"));
        target = target.parent().expect("a target has its folder in the target folder");
    }
    let status = command.arg("--target-dir").arg(target).status();
    assert!(status.is_ok_and(|status| status.success()), "building {name} has failed");
}
