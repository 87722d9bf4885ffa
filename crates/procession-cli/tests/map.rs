//! `procession map` as its user meets it: output, exit code, log.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn map(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("map").args(flags);
    command
}

fn started(mut command: Command, input: &str) -> Child {
    let pipe = || Stdio::piped();
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child
}

/// What it prints, what it complains, its exit code.
fn run(flags: &[&str], input: &str) -> (String, String, Option<i32>) {
    let Output { stdout, stderr, status } = started(map(flags), input).wait_with_output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

#[test]
fn a_command_runs_for_each_line() {
    let input: String = (0..50).map(|n| format!("{n}\n")).collect();
    let (mut out, summary, code) = run(&["-j", "3", "--", "echo", "<{}>"], &input);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_by_key(|line| line.len());
    assert_eq!((lines.len(), code), (50, Some(0)));
    assert!(summary.contains("50 commands succeeded, 0 failed"), "{summary}");
    (out, ..) = run(&["-j", "3", "-k", "--", "echo"], &input);
    assert_eq!(out, input, "in order");
    assert_eq!(run(&["--", "echo"], "").0, "");
}

#[test]
fn what_a_command_prints_comes_in_one_piece() {
    let script = "for i in 1 2 3; do echo $1; done";
    let (out, ..) = run(&["-j", "4", "--", "sh", "-c", script, "sh", "{}"], "a\nb\nc\nd\n");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 12);
    assert!(lines.chunks(3).all(|piece| piece.iter().all(|line| *line == piece[0])), "{out}");
}

#[test]
fn failures_are_told_and_tried_again() {
    let (_, told, code) = run(&["--", "sh", "-c", "exit $1", "sh", "{}"], "0\n3\n");
    assert!(code == Some(1) && told.contains("line 2 (3) left with exit code 3"), "{told}");
    let (_, told, code) = run(&["--", "/no/such/program"], "x\n");
    assert!(code == Some(1) && told.contains("/no/such/program"), "{told}");
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("flag");
    let script = format!("test -e {0} || {{ touch {0}; exit 1; }}", flag.display());
    let (_, told, code) = run(&["--retries", "1", "--", "sh", "-c", &script], "x\n");
    assert_eq!(code, Some(0), "{told}");
}

/// Whether some process has this word in its command line.
fn is_running(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).split('\0').any(|part| part == word))
    })
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
    // A number that no other test sleeps for.
    let nap = format!("98765.{}", std::process::id());
    let (out, told, code) = run(
        &["--timeout", "0.3", "--retries", "1", "--", "sh", "-c", &format!("sleep {nap} & sleep {nap}")],
        "x\n",
    );
    assert_eq!((out.as_str(), code), ("", Some(1)));
    assert!(told.contains("took more than 300ms and was killed, attempt 2"), "{told}");
    assert!(!is_running(&nap));
}

#[test]
fn an_interrupted_run_is_resumed_from_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ran) = (directory.path().join("log"), directory.path().join("ran"));
    let (log_flag, script) = (log.to_str().unwrap(), format!("echo $1 >> {}; test $1 != b", ran.display()));
    let flags = |resume: bool| {
        let mut flags = vec!["-j", "1", "-k", "--log", log_flag];
        flags.extend(resume.then_some("--resume"));
        flags.extend(["--", "sh", "-c", &script, "sh", "{}"]);
        flags.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let with = |resume: bool, input: &str| {
        let flags = flags(resume);
        run(&flags.iter().map(String::as_str).collect::<Vec<_>>(), input)
    };
    assert_eq!(with(false, "a\nb\nc\n").2, Some(1));
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 4);
    assert_eq!(with(true, "a\nb\nc\nd\n").2, Some(1));
    let mut all: Vec<String> = read_lines(&ran);
    all.sort();
    assert_eq!(all, ["a", "b", "b", "c", "d"]);
    let (_, told, code) = with(true, "another\nb\nc\n");
    assert!(code == Some(2) && told.contains("another input"), "{told}");
}

fn read_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// A line may be anything, and is not waited for by those before it.
#[test]
fn the_input_is_bytes_and_a_stream() {
    let mut child = map(&["-j", "2", "--", "printf", "%s."])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for line in [&b"\xff\xfe"[..], b"", b"last"] {
        input.write_all(&[line, b"\n"].concat()).unwrap();
        let mut said = vec![0; line.len() + 1];
        output.read_exact(&mut said).unwrap();
        assert_eq!(said, [line, b"."].concat());
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The commands get the signal, and may end as they like; what was not done is done by the next run.
#[test]
fn a_signal_is_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let (log, begun) = (directory.path().join("log"), directory.path().join("begun"));
    let script = format!(
        "trap 'echo caught; exit 3' INT; echo x >> {}; sleep 60 > /dev/null 2>&1 & wait",
        begun.display()
    );
    let flags = ["-j", "2", "--log", log.to_str().unwrap(), "--", "sh", "-c", &script];
    let child = started(map(&flags), "a\nb\nc\n");
    while !begun.exists() || read_lines(&begun).len() < 2 {
        std::thread::yield_now();
    }
    // Whoever is in the middle of starting is told later.
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let Output { stderr, status, .. } = child.wait_with_output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(130), "{told}");
    assert!(told.contains("0 commands succeeded, 0 failed, interrupted with 3 to do"), "{told}");
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1);
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(run(&[], "x\n").2, Some(2));
    assert_eq!(run(&["-j", "0", "--", "echo"], "x\n").2, Some(2));
    assert_eq!(run(&["--timeout", "0", "--", "echo"], "x\n").2, Some(2));
    assert_eq!(run(&["--resume", "--", "echo"], "x\n").2, Some(2));
    let (_, told, code) = run(&["--joblog", "file", "--", "echo"], "x\n");
    assert!(code == Some(2) && told.contains("unexpected argument '--joblog'"), "{told}");
}
