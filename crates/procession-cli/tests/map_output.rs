//! How `procession map` prints the output of commands.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
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
fn long_lines_do_not_mix() {
    let script = "for i in 1 2 3 4 5; do head -c 1000000 /dev/zero | tr '\\0' $1; done; echo";
    for flags in [&["-q", "-j", "2", "--lb"][..], &["-q", "-j", "2", "--lb", "--tag"]] {
        let said = run_script(flags, script, "a\nb\n");
        let tag = if flags.contains(&"--tag") { 2 } else { 0 };
        let lines: Vec<&str> = said.out.lines().collect();
        assert!(lines.iter().all(|line| line.len() == 5_000_000 + tag), "{flags:?}");
        assert!(lines.iter().all(|line| line.chars().all(|c| c == '\t' || line.starts_with(c))), "{flags:?}");
        assert_eq!(lines.len(), 2);
    }
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
    assert_eq!(place.text("results/1/a/seq"), "1");
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
fn a_reader_that_leaves_ends_an_ungrouped_run_silently() {
    let input = format!("{}\n", "x".repeat(200)).repeat(3000);
    for (flags, input) in [(&["-u", "-j", "2", "--", "echo"][..], input.as_str()), (&["-u", "yes"], "a\nb\n")]
    {
        let mut child = start(map(flags), input.as_bytes());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        drop(output);
        let said = support::Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.err.as_str(), said.code), ("", Some(141)), "{flags:?}");
    }
}

/// The failure of a command has nothing to do with the reader.
#[test]
fn a_failure_is_reported_also_if_the_reader_has_left() {
    let mut child = start(map(&["--", "false"]), b"x\n");
    drop(child.stdout.take());
    let said = support::Said::from(child.wait_with_output().unwrap());
    assert!(said.code == Some(123) && said.err.contains("job 1 (x): exit code 1"), "{said:?}");
}

#[test]
fn a_reader_that_leaves_ends_commands_whose_output_waits() {
    let script =
        "test $1 = b && exec yes; while ! pgrep -P $PPID yes > /dev/null; do sleep 0.02; done; echo $1";
    let mut child = start(map(&with_script(&["-k", "-j", "2"], script)), b"a\nb\n");
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    let said = support::Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.err.as_str(), said.code), ("", Some(141)));
}

#[test]
fn the_summary_waits_for_a_slow_reader() {
    let place = Place::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    (&writer).write_all(&[b'x'; 65_500]).unwrap();
    let script = place.script("echo $$ > @/pid");
    let mut child = map(&with_script(&[], &script)).arg(":::").arg("x").stderr(writer).spawn().unwrap();
    let pid = number(&place.await_lines("pid", 1)[0]);
    support::wait_until(|| support::state(pid).is_none());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("1 command succeeded, 0 failed\n"), "{}", &text[65_500..]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_file_that_reaches_its_limit_is_named() {
    let place = Place::new();
    let run = |flags: &str| {
        let script =
            place.script(&format!("ulimit -f 100; exec \"$0\" map {flags} head -c 20000000 ::: /dev/zero"));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_procession")]);
        support::Said::from(command.stdin(Stdio::null()).output().unwrap())
    };
    let said = run("--results @/res");
    assert!(said.code == Some(125) && said.err.contains("/stdout: File too large"), "{}", said.err);
    let said = run("--tmpdir @");
    let text = place.script("output cannot wait in @: File too large");
    assert!(said.code == Some(125) && said.err.contains(text.trim_end_matches('/')), "{}", said.err);
}

#[test]
fn a_template_for_results_is_refused() {
    let said = run(&["--results", "out/{}.txt", "--", "echo"], "x\n");
    assert!(
        said.code == Some(125) && said.err.contains("out/{}.txt: takes the name of a directory"),
        "{}",
        said.err
    );
}

#[test]
fn a_closed_standard_output_is_reported() {
    for flag in ["", "-u"] {
        let script = format!("echo a | \"$0\" map {flag} echo >&-");
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &script, env!("CARGO_BIN_EXE_procession")]).output().unwrap();
        let said = support::Said::from(output);
        assert!(said.code == Some(125) && said.err.contains("standard output"), "{said:?}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(map(&["--help"]).stdout(full).output().unwrap().status.code(), Some(125));
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
    assert_eq!(support::code(child.wait().unwrap()), Some(143));
}
