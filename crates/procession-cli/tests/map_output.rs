//! How `procession map` prints the output of commands.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use support::{Place, map, number, run, run_script, start, with_script};

#[test]
fn output_of_a_command_comes_in_one_piece() {
    let script = "for i in 1 2 3; do echo $1; sleep 0.02; done";
    let said = run_script(&["-j", "4"], script, "a\nb\nc\nd\n");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 12);
    assert!(lines.chunks(3).all(|piece| piece.iter().all(|line| *line == piece[0])), "{}", said.out);
}

#[test]
fn standard_error_is_kept_apart() {
    let said = run_script(&["-q", "-k"], "echo out $1; echo err $1 >&2", "a\nb\n");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out a\nout b\n", "err a\nerr b\n"));
}

#[test]
fn output_comes_in_the_order_of_the_input() {
    let script = "test $1 = 3 || sleep 0.2; echo $1";
    let said = run_script(&["-j", "3", "-k"], script, "1\n2\n3\n");
    assert_eq!(said.out, "1\n2\n3\n");
}

/// Each line is printed as soon as it is whole, while its command still runs.
#[test]
fn lines_are_printed_as_they_come() {
    let place = Place::new();
    let script =
        place.script("printf 'a'; printf 'b\\nc'; while ! test -e @/go; do sleep 0.01; done; echo d");
    let mut child = start(map(&with_script(&["--line-buffer", "--tag"], &script)), b"x\n");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "x\tab");
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "x\tcd");
    assert!(child.wait().unwrap().success());
}

#[test]
fn lines_do_not_mix() {
    let script = "for i in 1 2 3 4 5; do printf %s $1; sleep 0.01; echo $1; done";
    let said = run_script(&["-j", "4", "--lb"], script, "a\nb\nc\nd\n");
    assert!(said.out.lines().count() == 20 && said.out.lines().all(|line| line.len() == 2), "{}", said.out);
    let said = run_script(&["-j", "4", "--lb", "-k"], script, "a\nb\nc\nd\n");
    let order: String = said.out.lines().map(|line| &line[..1]).collect();
    assert_eq!(order, "aaaaabbbbbcccccddddd");
}

#[test]
fn lines_are_tagged() {
    let said = run_script(&["-k", "-q", "--tag"], "echo 1; printf 2; echo e >&2", "a b\nc\n");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("a b\t1\na b\t2c\t1\nc\t2", "a b\te\nc\te\n"));
}

#[test]
fn output_need_not_be_collected() {
    let place = Place::new();
    let script = place.script("printf begun; while ! test -e @/go; do sleep 0.01; done; echo ended");
    let mut child = start(map(&with_script(&["-u"], &script)), b"x\n");
    let mut output = child.stdout.take().unwrap();
    let mut begun = [0; 5];
    output.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"begun");
    fs::write(place.path("go"), "").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().success()), ("ended\n", true));
}

#[test]
fn output_goes_to_files_as_well() {
    let place = Place::new();
    let directory = place.path("results");
    let flags = ["-k", "--results", directory.to_str().unwrap()];
    let said = run_script(&flags, "echo out $1 $2; echo err >&2", "a\nx/y\n");
    assert_eq!(said.out, "out a\nout x/y\n");
    assert_eq!(place.text("results/1/a/stdout"), "out a\n");
    assert_eq!(place.text("results/1/a/stderr"), "err\n");
    assert_eq!(place.text("results/1/a/seq"), "1\n");
    assert_eq!(place.text("results/1/x\\_y/stdout"), "out x/y\n");
    let said = run(&["--results", directory.to_str().unwrap(), "echo", ":::", "p", ":::", ".."], "");
    assert_eq!(said.code, Some(0));
    assert_eq!(place.text("results/1/p/2/\\../stdout"), "p ..\n");
}

/// The engine is the parent of the commands, so the last command can read the engine's peak memory.
#[test]
fn output_is_bounded_in_memory() {
    let place = Place::new();
    let tmp = place.path("");
    let flags = ["-j", "2", "-k", "--tmpdir", tmp.to_str().unwrap()];
    let script = place.script(
        "case $1 in
         slow) while ! test -e @/go; do sleep 0.01; done;;
         big) head -c 200000000 /dev/zero;;
         last) grep VmHWM: /proc/$PPID/status > @/memory; touch @/go;;
         esac",
    );
    let mut child = start(map(&with_script(&flags, &script)), b"slow\nbig\nlast\n");
    let mut length = 0;
    let (mut output, mut buffer) = (child.stdout.take().unwrap(), vec![0; 1 << 16]);
    while let Ok(read @ 1..) = output.read(&mut buffer) {
        length += read;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(length, 200_000_000);
    let text = place.text("memory");
    let kib = number(text.split_whitespace().nth(1).unwrap());
    assert!(kib < 30_000, "{text}");
    assert_eq!(place.lines("memory").len(), 1);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 2, "the file where it waited has no name");
}

#[test]
fn a_place_for_output_that_cannot_be_used_is_named() {
    let said =
        run(&["--tmpdir", "/no/such/directory", "--", "head", "-c", "9000000", "/dev/zero", ";"], "x\n");
    assert_eq!(said.code, Some(125));
    assert!(said.err.contains("/no/such/directory: No such file"), "{}", said.err);
}

/// `procession map .. | head -n 1`
#[test]
fn a_reader_that_leaves_ends_the_run_silently() {
    let input = "x\n".repeat(10_000);
    let mut child = start(map(&["-j", "2", "--", "echo"]), input.as_bytes());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    drop(output);
    let said = support::Said::from(child.wait_with_output().unwrap());
    assert_eq!((line.as_str(), said.err.as_str(), said.code), ("x\n", "", Some(141)));
}

#[test]
fn a_reader_that_leaves_ends_commands_that_run() {
    let mut child =
        start(map(&with_script(&["-j", "2"], "test $1 != a || exec sleep 1000; echo $1")), b"a\nb\nc\n");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn a_full_disk_is_reported() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = map(&["--", "echo", "x", ":::", "y"]).stdin(Stdio::null()).stdout(full).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text.contains("standard output: No space left"), "{text}");
}

/// A slow reader stops neither the commands nor the reaction to signals.
#[test]
fn a_reader_that_does_not_read_does_not_stop_the_run() {
    let place = Place::new();
    let script = place.script("head -c 300000 /dev/zero; echo $1 >> @/done");
    let child = start(map(&with_script(&["-j", "1"], &script)), b"a\nb\nc\n");
    place.await_lines("done", 3);
    support::signal(&child, rustix::process::Signal::TERM);
    let mut child = child;
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
