//! Where `procession map` gets its inputs, and how they become commands.

mod support;

use std::fs;

use support::{Place, map, run, run_bytes, run_script, start};

fn output(flags: &[&str], input: &str) -> String {
    let said = run(&[&["-k"], flags].concat(), input);
    assert_eq!(said.code, Some(0), "{flags:?}: {}", said.err);
    said.out
}

#[test]
fn inputs_end_with_null_bytes_or_other_characters() {
    assert_eq!(output(&["-0", "--", "echo"], "a\nb\0c"), "a\nb\nc\n");
    assert_eq!(output(&["--null", "--", "echo"], "a\0"), "a\n");
    assert_eq!(output(&["-d", ",", "--", "echo"], "a,b c,d"), "a\nb c\nd\n");
    for (delimiter, input) in [("\\t", "a\tb"), ("\\r", "a\rb"), ("\\x2c", "a,b"), ("\\054", "a,b")] {
        assert_eq!(output(&["-d", delimiter, "--", "echo"], input), "a\nb\n");
    }
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for flags in [&["-d"][..], &["-n", "2", "--colsep"]] {
        let mut command = map(&[&["-k"], flags].concat());
        command.arg(OsStr::from_bytes(b"\xff")).args(["--", "printf", "%s."]);
        let output = start(command, b"a\xffb").wait_with_output().unwrap();
        assert_eq!(output.stdout, b"a.b.", "{output:?}");
    }
}

#[test]
fn empty_inputs_run_unless_they_are_skipped() {
    assert_eq!(output(&["--", "echo", "<{}>"], "a\n\nb\n"), "<a>\n<>\n<b>\n");
    assert_eq!(output(&["-r", "--", "echo", "<{}>"], "a\n\n  \nb\n"), "<a>\n<b>\n");
    assert_eq!(output(&["-r", "--", "echo"], ""), "");
}

#[test]
fn a_command_gets_several_inputs() {
    assert_eq!(output(&["-n", "2", "--", "echo"], "a\nb\nc\n"), "a b\nc\n");
    assert_eq!(output(&["-n", "2", "--", "echo", "{1}-{2}"], "a\nb\nc\nd\n"), "a-b\nc-d\n");
    assert_eq!(output(&["-N", "2", "--", "echo", "x{}y"], "a\nb\n"), "xay xby\n");
}

#[test]
fn a_command_gets_as_many_inputs_as_fit() {
    assert_eq!(output(&["-X", "-j", "1", "--", "echo"], "a\nb c\nd\n"), "a b c d\n");
    assert_eq!(
        output(&["-X", "-j", "2", "--", "echo", "{.}"], "a.x\nb.x\nc.x\n"),
        "a b\nc\n",
        "spread over the jobs"
    );
    let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let all = output(&["-X", "-j", "1", "--", "echo"], &input);
    assert!((2..20).contains(&all.lines().count()), "{} commands", all.lines().count());
    assert_eq!(all.replace(' ', "\n"), input);
}

/// The kernel limits words and environment together to a quarter of the stack's limit.
#[test]
fn as_many_inputs_as_fit_beside_a_large_environment() {
    let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -s 1024; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_procession")]);
    command.args(["map", "-X", "-j", "1", "-k", "echo"]).env("BIG", "x".repeat(100_000));
    let said: support::Said = start(
        {
            command.env("BIG2", "x".repeat(100_000));
            command
        },
        input.as_bytes(),
    )
    .wait_with_output()
    .unwrap()
    .into();
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.out.replace(' ', "\n"), input);
}

#[test]
fn inputs_cannot_be_linked() {
    for mark in [":::+", "::::+"] {
        let said = run(&["echo", ":::", "a", mark, "b"], "");
        assert_eq!((said.out.as_str(), said.code), ("", Some(125)), "{}", said.err);
        assert!(said.err.contains(&format!("{mark}: inputs cannot be linked")), "{}", said.err);
    }
}

#[test]
fn inputs_come_from_files_and_from_the_command_line() {
    let place = Place::new();
    fs::write(place.path("a"), "1\n2\n").unwrap();
    let file = place.path("a");
    let file = file.to_str().unwrap();
    assert_eq!(output(&["-a", file, "--", "echo"], "not read\n"), "1\n2\n");
    assert_eq!(output(&["echo", ":::", "a b", "c"], "not read\n"), "a b\nc\n");
    assert_eq!(output(&["echo", "::::", file], ""), "1\n2\n");
    assert_eq!(output(&["-a", "-", "echo"], "x\n"), "x\n");
    assert_eq!(output(&["echo", "{2}{1}", ":::", "a", "b", "::::", file], ""), "1a\n2a\n1b\n2b\n");
    assert_eq!(output(&["echo", ":::", "a", "b", ":::", "1", "2"], ""), "a 1\na 2\nb 1\nb 2\n");
    assert_eq!(output(&["-a", "-", "-a", file, "echo"], "x\n"), "x 1\nx 2\n");
    assert_eq!(output(&["echo", ":::"], "not read\n"), "");
    let said = run(&["-a", "/no/such/file", "--", "echo"], "");
    assert!(said.code == Some(125) && said.err.contains("/no/such/file: No such file"), "{}", said.err);
    let said = run(&["-a", "/", "--", "echo"], "");
    assert!(said.code == Some(125) && said.err.contains("/: Is a directory"), "{}", said.err);
}

#[test]
fn inputs_have_columns() {
    assert_eq!(output(&["--colsep", ",", "--", "echo", "{2}", "{1/}"], "a/b,c\n"), "c b\n");
    assert_eq!(output(&["--colsep", "\\t", "--", "echo", "{1}{3}."], "a\tb\n"), "a.\n");
    assert_eq!(output(&["--colsep", ", ", "--", "echo", "<{}>"], "a, b\n"), "<a> <b>\n");
}

#[test]
fn blocks_of_lines_go_to_standard_input() {
    let input: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let all = output(&["--pipe", "--block", "10K", "--", "cat"], &input);
    assert!(all == input, "in order and whole");
    let counts = output(&["--pipe", "--block", "10K", "--", "wc", "-c"], &input);
    let counts: Vec<usize> = counts.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(counts.len() > 5 && counts.iter().all(|&count| count <= 10 << 10), "{counts:?}");
    assert_eq!(output(&["--pipe", "-n", "2", "--", "tr", "\\n", " "], "a\nb\nc"), "a b c");
    assert_eq!(output(&["--pipe", "-0", "--block", "1", "--", "tr", "\\000", "."], "a\0b\0"), "a.b.");
}

#[test]
fn a_block_may_be_refused_or_empty() {
    let input = "x".repeat(3 << 20);
    let said = run(&["--pipe", "--", "true"], &input);
    assert_eq!(said.code, Some(0), "a command need not read: {}", said.err);
    assert_eq!(output(&["--pipe", "--", "wc", "-c"], ""), "", "as in GNU parallel");
}

#[test]
fn a_retried_command_gets_its_block_again() {
    let place = Place::new();
    let script = place.script("cat; test -e @/flag || { touch @/flag; exit 1; }");
    let said = run_script(&["--pipe", "--retries", "1"], &script, "a\nb\n");
    assert_eq!((said.out.as_str(), said.code), ("a\nb\n", Some(0)), "{}", said.err);
}

#[test]
fn commands_do_not_read_each_other_s_input() {
    assert_eq!(run_script(&["-j", "1", "-k"], "cat; echo $1", "a\nb\n").out, "a\nb\n");
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_others_run() {
    let input = [&[b'x'; 300_000][..], b"\nshort\n"].concat();
    let said = run_bytes(&["-k", "--", "echo"], &input);
    assert_eq!((said.status.code(), &said.stdout[..]), (Some(126), &b"short\n"[..]));
    assert!(String::from_utf8_lossy(&said.stderr).contains("Argument list too long"));
    let nul = run_bytes(&["-k", "--", "echo"], b"a\0b\nc\n");
    assert_eq!((nul.status.code(), &nul.stdout[..]), (Some(126), &b"c\n"[..]), "no word has a null byte");
    let text = String::from_utf8_lossy(&nul.stderr);
    assert!(text.contains("job 1 (a b): the input has a null byte") && text.contains("-0"), "{text}");
}

#[test]
fn an_input_that_cannot_be_read_is_reported() {
    let directory = fs::File::open("/").unwrap();
    let output = map(&["--", "echo"]).stdin(directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(125) && text.contains("standard input: Is a directory"), "{text}");
}

/// Reading ahead is bounded: a long input does not fill the memory.
#[test]
fn a_long_input_is_read_only_as_needed() {
    let line = [&[b'y'; 1000][..], b"\n"].concat();
    let script = "grep VmHWM: /proc/$PPID/status";
    let input = line.repeat(60_000);
    let child = start(map(&["-j", "1", "--halt", "soon,done=1", "--", "sh", "-c", script, "sh"]), &input);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let kib: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 40_000, "{text}");
}
