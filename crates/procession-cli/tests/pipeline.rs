//! The pipeline as users see it: the built program, its output, its summary, its exit code.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn pipeline(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("pipeline").args(flags.split_ascii_whitespace()).stdin(Stdio::null());
    command
}

/// Runs the command. Returns the lines that it prints, its summary and its exit code.
fn run(command: &mut Command) -> (Vec<String>, Value, Option<i32>) {
    let Output { stdout, stderr, status } = command.arg("--json").output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let summary = stderr.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let lines = String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, summary.unwrap_or_else(|| panic!("no summary: {stderr}")), status.code())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates a directory with files `0`, `1`, ... of these contents.
fn files(contents: &[&[u8]]) -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..contents.len()).map(|n| directory.path().join(n.to_string())).collect();
    paths.iter().zip(contents).for_each(|(path, content)| fs::write(path, content).unwrap());
    (directory, paths)
}

#[test]
fn each_file_has_its_line_in_the_order_of_the_command_line() {
    let large = vec![7; 3 << 20];
    let (_directory, paths) = files(&[&large, b"one two\nthree\n", b"", b"\xff\x00\n"]);
    let (lines, summary, code) = run(pipeline("").args(&paths));
    let counts = ["0 1 3145728", "2 3 14", "0 0 0", "1 1 3"];
    let expected: Vec<String> = paths
        .iter()
        .zip(counts)
        .map(|(path, counts)| format!("{}  {counts}  {}", hex(&fs::read(path).unwrap()), path.display()))
        .collect();
    assert_eq!(lines, expected);
    assert_eq!((code, &summary["balanced"], &summary["items"]), (Some(0), &true.into(), &4.into()));
}

#[test]
fn each_line_has_its_line() {
    let (_directory, paths) = files(&[b"a b\n\nlast", b"x\n"]);
    let (lines, summary, code) = run(pipeline("--lines --producers 2").args(&paths));
    let (first, second) = (paths[0].display(), paths[1].display());
    let expected = [
        format!("{}  2 4  {first}:1", hex(b"a b\n")),
        format!("{}  0 1  {first}:2", hex(b"\n")),
        format!("{}  1 4  {first}:3", hex(b"last")),
        format!("{}  1 2  {second}:1", hex(b"x\n")),
    ];
    assert_eq!(lines, expected);
    assert_eq!((code, &summary["produced"]), (Some(0), &4.into()));
}

#[test]
fn standard_input_is_read() {
    for name in ["", "-"] {
        let mut command = pipeline(name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let expected = format!("{}  1 1 6  -\n", hex(b"hello\n"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert!(output.status.success());
    }
}

#[test]
fn no_item_is_lost_although_consumers_are_killed() {
    let text: String = (0..300_000).map(|n| format!("line {n}\n")).collect();
    let (_directory, paths) = files(&[text.as_bytes()]);
    let (undisturbed, ..) = run(pipeline("--lines").args(&paths));
    assert_eq!(undisturbed.len(), 300_000);
    let mut killed = 0;
    for seed in 1..=20 {
        let flags = format!("--lines --consumers 3 --kill-rate 1 --seed {seed}");
        let (lines, summary, code) = run(pipeline(&flags).args(&paths));
        assert!(lines == undisturbed, "seed {seed}: other lines than without kills");
        assert_eq!((code, &summary["balanced"], &summary["seed"]), (Some(0), &true.into(), &seed.into()));
        killed += summary["killed"].as_u64().unwrap();
        if killed > 50 {
            return;
        }
    }
    panic!("only {killed} consumers were killed");
}

#[test]
fn an_unreadable_input_is_named_and_the_rest_is_done() {
    let (directory, paths) = files(&[b"fine\n"]);
    let missing = directory.path().join("missing");
    let output = pipeline("").arg(&missing).args(&paths).arg(directory.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains(&format!("{}: No such file", missing.display())), "{stderr}");
    assert!(stderr.contains("Is a directory"), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&hex(b"fine\n")));
}

#[test]
fn bad_flags_are_explained() {
    for (flags, why) in [
        ("--kill-rate 2", "from 0 to 1"),
        ("--consumers 0", "0 is not in 1..=1000"),
        ("- -", "standard input can be read only once"),
    ] {
        let output = pipeline(flags).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(stderr.contains(why), "{flags}: {stderr}");
    }
}

/// `procession pipeline .. | head -n 1`
#[test]
fn a_full_disk_is_reported() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let (_directory, paths) = files(&[b"x"]);
    let output = pipeline("").args(&paths).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("No space left"), "{stderr}");
}

/// `<(..)` of a shell is a descriptor of the process that the shell starts, but other processes read the
/// files.
#[test]
fn process_substitution_is_read() {
    let script = format!(
        "{} pipeline --json <(printf hello) <(printf 'a\\n') - < <(echo x)",
        env!("CARGO_BIN_EXE_procession")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let starts: Vec<&str> = text.lines().map(|line| &line[..64]).collect();
    assert_eq!(
        starts,
        [hex(b"hello"), hex(b"a\n"), hex(b"x\n")],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("  0 1 5  /dev/fd/") && output.status.success(), "{text}");
    let mut command = pipeline("/dev/stdin");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}  0 1 5  /dev/stdin\n", hex(b"hello")));
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(std::ffi::OsStr::from_bytes(b"a\xff"));
    fs::write(&path, "x").unwrap();
    let output = pipeline("").arg(&path).output().unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"/a\xff\n"), "{output:?}");
    let output = pipeline("--lines").arg(&path).output().unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"/a\xff:1\n"), "{output:?}");
}

/// The form of `sha256sum`.
#[test]
fn a_name_of_several_lines_is_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a\nb\\c");
    fs::write(&path, "x").unwrap();
    for flags in ["", "--lines"] {
        let output = pipeline(flags).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("\\{}  ", hex(b"x"))) && text.lines().count() == 1, "{text}");
        assert!(text.contains("/a\\nb\\\\c"), "{text}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_pipeline_silently() {
    let (_directory, paths) = files(&[&b"line\n".repeat(100_000)]);
    let mut command = pipeline("--lines");
    let mut child = command.args(&paths).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}

#[test]
fn a_closed_standard_output_is_reported() {
    let script = "\"$0\" pipeline - < /dev/null >&-";
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_procession")]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("standard output is closed"), "{text}");
}

#[test]
fn after_ctrl_c_the_counts_are_those_of_what_was_written() {
    use std::io::{BufRead, BufReader, Read};
    let mut command = pipeline("--lines --json");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all("a line\n".repeat(100_000).as_bytes()).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    drop(stdin);
    let summary: Value = serde_json::from_slice(&stderr).unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!((signal, &summary["interrupted_by"]), (Some(2), &2.into()), "{summary}");
    assert_eq!(
        (&summary["produced"], summary["items"].as_u64()),
        (&Value::Null, Some(1 + rest.lines().count() as u64))
    );
    assert_eq!(summary["lines"], summary["items"]);
}
