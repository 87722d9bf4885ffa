//! `procession map` as users see it: commands, words, exit codes.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use support::{Place, lives, map, number, run, run_bytes, run_script, start, wait_until};

#[test]
fn a_command_runs_for_each_line() {
    let input: String = (0..50).map(|n| format!("{n}\n")).collect();
    let said = run(&["-j", "3", "--", "echo", "<{}>"], &input);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_by_key(|line| line.len());
    assert_eq!((lines.len(), said.code), (50, Some(0)));
    assert!(said.err.contains("50 commands succeeded, 0 failed"), "{}", said.err);
    assert_eq!(run(&["-j", "3", "-k", "--", "echo"], &input).out, input, "in order");
    assert_eq!(run(&["--", "echo"], "").out, "");
    assert_eq!(run(&["-q", "--", "echo"], "x\n").err, "");
}

#[test]
fn the_exit_code_is_that_of_xargs() {
    for (script, code) in [("exit 0", 0), ("exit $1", 123), ("kill -9 $$", 123), ("exit 255", 124)] {
        assert_eq!(run_script(&[], script, "7\n").code, Some(code), "{script}");
    }
    assert_eq!(run(&["--", "/dev/null"], "x\n").code, Some(126), "not executable");
    assert_eq!(run(&["--", "/no/such/program"], "x\n").code, Some(127), "not found");
    assert_eq!(run(&["--no-such-option", "--", "echo"], "x\n").code, Some(125), "ours");
    assert_eq!(run(&["-a", "/no/such/file", "--", "echo"], "").code, Some(125), "ours");
    assert_eq!(run(&["--help"], "").code, Some(0));
}

#[test]
fn failures_are_reported() {
    let said = run_script(&["-j", "1"], "exit $1", "0\n3\n");
    assert!(said.err.contains("job 2 (3): exit code 3\n"), "{}", said.err);
    assert!(said.err.contains("1 command succeeded, 1 failed"), "{}", said.err);
    assert!(run_script(&[], "kill -9 $$", "x\n").err.contains("job 1 (x): killed by signal 9\n"));
}

#[test]
fn a_missing_program_is_reported_once_and_ends_the_run() {
    let input: String = (0..1000).map(|n| format!("{n}\n")).collect();
    for program in ["/no/such/program", "no-such-program"] {
        let said = run(&["-j", "4", "--", program], &input);
        assert_eq!(
            (said.err.matches("command not found").count(), said.code),
            (1, Some(127)),
            "{}",
            said.err
        );
        assert!(said.err.contains("999 to do"), "{}", said.err);
    }
    let said = run(&["-j", "1", "--", "/no/such/{}"], "a\nb\n");
    assert_eq!(
        (said.err.matches("command not found").count(), said.code),
        (2, Some(127)),
        "each its own program"
    );
}

#[test]
fn long_inputs_are_shortened_in_complaints() {
    let said = run_bytes(&["--", "false"], &[&[b'y'; 100_000][..], b"\n"].concat());
    assert!(
        said.stderr.len() < 1000 && String::from_utf8_lossy(&said.stderr).contains("yyy...): exit code 1")
    );
}

#[test]
fn words_and_inputs_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut command = map(&["-k", "--", "printf"]);
    command.arg(OsStr::from_bytes(b"\xff%s.")).args(["-I", "{}"]);
    let output = start(command, b"\xfe\xfd\nlast").wait_with_output().unwrap();
    assert_eq!(output.stdout, b"\xff-I.\xff\xfe\xfd.\xff-I.\xfflast.");
    assert!(output.status.success());
    let mut command = map(&["-a"]);
    let place = Place::new();
    let name = place.path("").join(OsStr::from_bytes(b"in\xff"));
    fs::write(&name, "x\n").unwrap();
    let output = command.arg(&name).args(["--", "echo"]).output().unwrap();
    assert_eq!(output.stdout, b"x\n");
}

/// The input is a stream: a command does not wait for later lines.
#[test]
fn a_line_runs_as_soon_as_it_arrives() {
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

#[test]
fn places_in_the_command_are_filled_in() {
    let said =
        run(&["-j", "1", "--", "echo", "{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{%}"], "a/b.c\nx\n");
    assert_eq!(said.out, "a/b.c a/b b.c a b 1 1\nx x x . x 2 1\n");
    let said = run(&["-j", "1", "--", "echo", "{#}"], "a\nb\n");
    assert_eq!(said.out, "1\n2\n", "a command with a place gets no further words");
    let said = run(&["-I", "WORD", "--", "echo", "WORD{}WORD"], "x\n");
    assert_eq!(said.out, "x{}x\n");
    assert_eq!(
        run(&["--", "echo", "-n", "--", "x"], "y\n").out,
        "-- x y",
        "what follows the command is the command's"
    );
}

#[test]
fn a_command_knows_its_job_and_slot() {
    let said = run_script(&["-j", "1", "-k"], "echo $PROCESSION_JOB $PROCESSION_SLOT", "a\nb\n");
    assert_eq!(said.out, "1 1\n2 1\n");
    let said = run_script(&["-j", "2"], "echo $PROCESSION_SLOT; sleep 0.2", "a\nb\n");
    let mut slots: Vec<&str> = said.out.lines().collect();
    slots.sort_unstable();
    assert_eq!(slots, ["1", "2"]);
}

#[test]
fn directory_and_nice_value_are_given() {
    let place = Place::new();
    let directory = fs::canonicalize(place.path("")).unwrap();
    let said = run(&["--wd", directory.to_str().unwrap(), "--", "pwd", "-P", "{#}"], "");
    assert_eq!(said.code, Some(0));
    let said = run_script(&["--wd", directory.to_str().unwrap(), "--nice", "3"], "pwd -P; nice", "x\n");
    assert_eq!(said.out, format!("{}\n3\n", directory.display()));
    let said = run(&["--wd", "/no/such/directory", "--", "true"], "x\n");
    assert!(said.code == Some(125) && said.err.contains("/no/such/directory: No such file"), "{}", said.err);
    let said = run(&["--wd", "/dev/null", "--", "true"], "x\n");
    assert!(said.code == Some(125) && said.err.contains("/dev/null: is not a directory"), "{}", said.err);
}

#[test]
fn a_script_without_an_interpreter_runs() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::write(place.path("script"), "echo ran $1\n").unwrap();
    fs::set_permissions(place.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&["--", place.path("script").to_str().unwrap()], "x\n").out, "ran x\n");
}

/// The second directory of the path has a program that this user may execute.
#[test]
fn the_path_is_searched_for_a_program_that_this_user_may_execute() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let allow = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(&place.path(""), 0o755);
    // The owner is the user without the right to execute. Root needs another user.
    for (directory, mode) in [("first", 0o644 | 0o011), ("second", 0o755)] {
        fs::create_dir(place.path(directory)).unwrap();
        let program = place.path(directory).join("program");
        fs::write(&program, format!("#!/bin/sh\necho {directory}\n")).unwrap();
        allow(&program, mode);
    }
    let path = place.script("@/first:@/second:/usr/bin:/bin");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_procession"));
    if rustix::process::geteuid().is_root() {
        allow(&place.path("first/program"), 0o700);
        command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        if !command
            .arg(env!("CARGO_BIN_EXE_procession"))
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
        {
            eprintln!("SKIPPED: another user cannot run the program");
            return;
        }
        command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_procession")]);
    }
    let output = command.args(["map", "program", ":::", "x"]).env("PATH", path).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "second\n");
}

#[test]
fn a_missing_proc_is_named() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !support::can_unshare(&namespace) {
        return;
    }
    let script = "mount -t tmpfs none /proc && exec \"$0\" map echo ::: x";
    let mut command = std::process::Command::new("unshare");
    command.args(namespace).args(["sh", "-c", script, env!("CARGO_BIN_EXE_procession")]);
    let said: support::Said = command.output().unwrap().into();
    if said.err.contains("mount:") {
        return eprintln!("SKIPPED: {}", said.err);
    }
    assert!(said.code == Some(125) && said.err.contains("/proc must be mounted"), "{said:?}");
}

#[test]
fn dry_run_and_verbose_show_commands_as_a_shell_takes_them() {
    let said = run(&["--dry-run", "-j", "4", "--", "rm", "-f", "{}"], "a b\nit's\n");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("rm -f 'a b'\nrm -f 'it'\\''s'\n", ""));
    let said = run(&["-v", "-q", "--", "echo", "{}"], "a b\n");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("a b\n", "echo 'a b'\n"));
    assert_eq!(run(&["-t", "-q", "--", "true"], "x\n").err, "true x\n");
}

#[test]
fn no_more_processes_are_started_than_there_is_work_for() {
    let script = "grep -l \"^PPid:.$PPID\\$\" /proc/[0-9]*/status 2>/dev/null | wc -l";
    let script = script.replace("PPid:.", "PPid:[[:space:]]");
    let said = run_script(&["-j", "1000"], &script, "x\n");
    assert_eq!(said.out.trim(), "1");
}

#[test]
fn jobs_are_a_number_or_a_part_of_the_machine() {
    for jobs in ["0", "1", "1000", "50%", "+1", "-1"] {
        assert_eq!(run(&["-j", jobs, "-k", "--", "echo"], "a\nb\n").out, "a\nb\n", "-j {jobs}");
    }
    let script = "echo $PROCESSION_SLOT; sleep 0.3";
    let said = run_script(&["-j", "0"], script, &"x\n".repeat(40));
    let most = said.out.lines().map(number).max();
    assert_eq!(most, Some(40), "all at a time");
}

/// A run may need more descriptors than the usual limit of 1024 allows. Its commands keep their own limit.
#[test]
fn many_commands_run_at_a_time() {
    let place = Place::new();
    let script = place.script("ulimit -Sn >> @/limits; read go < @/go");
    assert!(std::process::Command::new("mkfifo").arg(place.path("go")).status().unwrap().success());
    let flags = ["-j", "300", "--", "sh", "-c", &script];
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_procession");
    command.args(["-c", "ulimit -Sn 256; exec \"$0\" \"$@\"", program, "map"]).args(flags);
    let child = start(command, "x\n".repeat(300).as_bytes());
    let limits = place.await_lines("limits", 300);
    assert!(limits.iter().all(|limit| limit == "256"), "{limits:?}");
    // The FIFO is open for reading, too, so that a command that opens it later still finds its line.
    let mut go = fs::File::options().read(true).write(true).open(place.path("go")).unwrap();
    go.write_all("\n".repeat(300).as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn nonsense_is_refused() {
    for flags in [
        &[][..],
        &["-j", "1001", "--", "echo"],
        &["--timeout", "-1", "--", "echo"],
        &["--resume", "--", "echo"],
        &["--halt", "later", "--", "echo"],
        &["--log-format", "json", "--", "echo"],
        &["--delimiter", "ab", "--", "echo"],
        &["--pipe", "wc", ":::", "x"],
        &["-u", "--tag", "--", "echo"],
        &[":::", "a"],
    ] {
        let said = run(flags, "x\n");
        assert_eq!((said.code, said.out.as_str()), (Some(125), ""), "{flags:?}: {}", said.err);
    }
    let said = run(&["--job-log", "file", "--", "echo"], "x\n");
    assert!(said.err.contains("unexpected argument '--job-log'"), "{}", said.err);
}

#[test]
fn help_fits_two_screens_of_40_lines_and_80_columns() {
    let said = run(&["--help"], "");
    assert!(said.out.lines().count() <= 80, "{}", said.out.lines().count());
    for heading in ["Input:", "Running:", "Time limits and failures:", "Output:", "Log:"] {
        assert!(said.out.contains(heading), "{heading}");
    }
    let wide: Vec<&str> = said.out.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn background_processes_of_a_command_are_not_waited_for() {
    let place = Place::new();
    let script =
        place.script("P=$$ sh -c 'while kill -0 $P 2>/dev/null; do :; done; echo late; exec sleep 1000' & echo $! >> @/pid; echo early");
    let said = run_script(&["--timeout", "60"], &script, "x\n");
    let pid = number(&place.await_lines("pid", 1)[0]);
    assert!(lives(pid), "it was not killed");
    support::kill(pid);
    assert_eq!((said.out.as_str(), said.code), ("early\nlate\n", Some(0)), "what comes soon is printed, too");
}

#[test]
fn background_processes_of_commands_leave_no_zombies() {
    let place = Place::new();
    // The second command runs until the process that the first one left behind has ended and has been reaped.
    let script = place.script(
        "if test $1 = 1; then sleep 0.05 > /dev/null 2>&1 & echo $! > @/pid; else
         while kill -0 $(cat @/pid) 2>/dev/null; do sleep 0.01; done; fi",
    );
    assert_eq!(run_script(&["-j", "1"], &script, "1\n2\n").code, Some(0));
}

#[test]
fn detached_processes_live_on_unless_kill_all_is_given() {
    let place = Place::new();
    let script = place.script("setsid sleep 1000 > /dev/null 2>&1 & echo $! >> @/pid; nohup sleep 1000 > /dev/null 2>&1 & echo $! >> @/pid");
    assert_eq!(run_script(&[], &script, "x\n").code, Some(0));
    let pids: Vec<i32> = place.lines("pid").iter().map(|line| number(line)).collect();
    assert!(pids.iter().all(|&pid| lives(pid)));
    pids.iter().for_each(|&pid| support::kill(pid));
    fs::remove_file(place.path("pid")).unwrap();
    assert_eq!(run_script(&["--kill-all"], &script, "x\n").code, Some(0));
    place.lines("pid").iter().for_each(|line| wait_until(|| !lives(number(line))));
}

#[test]
fn completions_and_man_page_know_the_options() {
    let said = |words: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_procession")).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let text = said(&["completions", shell]);
        assert!(text.contains("keep-order") && text.contains("kill-all"), "{shell}");
    }
    let page = said(&["man", "map"]);
    assert!(page.contains(".TH") && page.contains("keep\\-order") && page.contains("Exit status"), "{page}");
    assert!(said(&["man"]).contains("pipeline"));
}
