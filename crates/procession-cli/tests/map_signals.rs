//! The effects of signals on `procession map` and on its commands.

mod support;

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Place, Said, lives, map, number, signal, start, state, wait_until, with_script};

fn end(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// Starts a run of a script. Returns when this many commands have written a line to `begun`.
fn begin(place: &Place, flags: &[&str], script: &str, input: &str, commands: usize) -> Child {
    let script = place.script(script);
    let child = start(map(&with_script(flags, &script)), input.as_bytes());
    place.await_lines("begun", commands);
    child
}

#[test]
fn a_signal_is_passed_on_and_commands_may_handle_it() {
    for (which, name, code) in
        [(Signal::INT, "INT", 130), (Signal::TERM, "TERM", 143), (Signal::HUP, "HUP", 129)]
    {
        let place = Place::new();
        let log = place.path("log");
        let script = format!(
            "trap 'echo caught; exit 3' {name}; echo $$ >> @/begun; sleep 60 > /dev/null 2>&1 & wait"
        );
        let child = begin(&place, &["-j", "2", "--log", log.to_str().unwrap()], &script, "a\nb\nc\n", 2);
        signal(&child, which);
        let said = end(child);
        assert_eq!((said.code, said.out.as_str()), (Some(code), "caught\ncaught\n"), "{}", said.err);
        assert!(
            said.err.contains("0 commands succeeded, 0 failed, interrupted with 3 to do"),
            "{}",
            said.err
        );
        assert_eq!(place.lines("log").len(), 1, "they are still to do");
    }
}

#[test]
fn a_signal_reaches_a_command_that_is_stopped() {
    for which in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        let child = begin(&place, &[], "echo $$ >> @/begun; kill -STOP $$; sleep 1000", "x\n", 1);
        let pid = number(&place.text("begun"));
        wait_until(|| state(pid) == Some('T'));
        signal(&child, which);
        end(child);
        assert!(!lives(pid));
    }
}

#[test]
fn a_second_signal_kills_everything() {
    let place = Place::new();
    let script = "trap 'echo $$ >> @/heard' INT TERM; echo $$ >> @/begun; while :; do sleep 0.05; done";
    let child = begin(&place, &["-j", "2"], script, "a\nb\n", 2);
    signal(&child, Signal::INT);
    place.await_lines("heard", 2);
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(143));
    assert!(place.lines("begun").iter().all(|pid| !lives(number(pid))));
}

#[test]
fn a_second_signal_kills_also_what_has_left_the_group() {
    let place = Place::new();
    let script = "trap 'echo >> @/heard' INT TERM; (setsid sleep 1000 & echo $! >> @/begun)
        echo $$ >> @/begun; while :; do sleep 0.05; done";
    let child = begin(&place, &[], script, "a\n", 2);
    signal(&child, Signal::INT);
    place.await_lines("heard", 1);
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(143));
    place.lines("begun").iter().for_each(|pid| wait_until(|| !lives(number(pid))));
}

#[test]
fn a_time_limit_holds_also_after_a_signal() {
    let place = Place::new();
    let script = "trap '' INT TERM; echo $$ >> @/begun; exec sleep 1000";
    let child = begin(&place, &["--timeout", "1", "--kill-after", "0.2"], script, "a\n", 1);
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(143));
    assert!(!lives(number(&place.text("begun"))));
}

/// A shell ends its loop only if the program dies of Ctrl-C.
#[test]
fn an_interrupted_run_dies_of_the_signal() {
    for (which, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
        let place = Place::new();
        let mut child = begin(&place, &["-q"], "echo >> @/begun; exec sleep 1000", "a\n", 1);
        signal(&child, which);
        assert_eq!(child.wait().unwrap().signal(), Some(number));
    }
}

/// Scripts start background jobs with SIGINT ignored, and `nohup` starts programs with SIGHUP ignored.
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let place = Place::new();
    let script =
        place.script("grep SigIgn: /proc/self/status >> @/begun; while ! test -e @/go; do sleep 0.01; done");
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_procession");
    command.args([
        "-c",
        "trap '' INT HUP PIPE; exec \"$0\" \"$@\"",
        program,
        "map",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    let child = start(command, b"x\n");
    let ignored = place.await_lines("begun", 1)[0].split_whitespace().nth(1).unwrap().to_owned();
    let ignored = u64::from_str_radix(&ignored, 16).unwrap();
    for number in [1, 2, 13] {
        assert!(ignored >> (number - 1) & 1 == 1, "signal {number}: {ignored:x}");
    }
    signal(&child, Signal::INT);
    signal(&child, Signal::HUP);
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(end(child).code, Some(0));
}

/// A shell cannot start a program with this signal ignored. Only a program can.
#[test]
fn commands_are_waited_for_also_if_their_signal_was_ignored() {
    let flags = [
        "--ignore-signal=CHLD",
        env!("CARGO_BIN_EXE_procession"),
        "map",
        "grep",
        "SigIgn:",
        ":::",
        "/proc/self/status",
    ];
    let said: Said = Command::new("env").args(flags).output().unwrap().into();
    let ignored = u64::from_str_radix(said.out.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert!(ignored >> 16 & 1 == 1 && said.code == Some(0), "{said:?}");
}

/// A command ignores and blocks the same signals as this test, except for changes that Rust's runtime makes
/// in the test.
#[test]
fn commands_find_all_signals_as_they_were() {
    let script = "grep Sig[BI] /proc/self/status";
    let direct = Command::new("bash").args(["-c", "exec env -i sh -c \"$0\"", script]).output().unwrap();
    let direct = String::from_utf8(direct.stdout).unwrap();
    let program = env!("CARGO_BIN_EXE_procession");
    let shell = format!("exec {program} map sh -c '{script}' ::: x");
    let ours: Said = Command::new("bash").args(["-c", &shell]).output().unwrap().into();
    let masks = |text: &str| {
        let pair = |line: &str| line.split_once(":\t").map(|(name, mask)| (name.to_owned(), mask.to_owned()));
        text.lines().filter_map(pair).collect::<Vec<_>>()
    };
    let clean = masks(&direct).into_iter().map(|(name, mask)| {
        // The standard library starts programs with signals 32 and 33 ignored if the C library does.
        let mask = u64::from_str_radix(&mask, 16).unwrap() & !(3 << 31);
        (name, format!("{mask:016x}"))
    });
    assert_eq!(masks(&ours.out).len(), 2);
    let ours = masks(&ours.out).into_iter().map(|(name, mask)| {
        let inherited = u64::from_str_radix(&mask, 16).unwrap();
        (name, format!("{:016x}", inherited & !(3 << 31)))
    });
    assert!(ours.eq(clean));
}

/// Signals 32 and 33 belong to the C library, and some C libraries leave them ignored in the programs that
/// they start.
#[test]
fn the_hidden_signals_are_not_ignored() {
    let said =
        support::run_script(&[], "grep SigIgn: /proc/self/status; grep SigIgn: /proc/$PPID/status", "x\n");
    let masks: Vec<u64> = said
        .out
        .lines()
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap())
        .collect();
    let hidden = 3 << 31;
    // The engine inherits the mask of this test, and must add nothing to it.
    assert_eq!(masks[0] & hidden, masks[1] & hidden, "{}", said.out);
}

/// Starts a run for Ctrl-Z. The front is in a group that a shell could continue, because this test is its
/// parent.
fn suspendable(flags: &[&str], script: &str, input: &str) -> Child {
    let mut command = map(&with_script(flags, script));
    command.process_group(0);
    start(command, input.as_bytes())
}

#[test]
fn a_run_is_suspended_with_its_commands_and_time_does_not_count() {
    let place = Place::new();
    let script = place.script("echo $$ > @/begun; while ! test -e @/go; do :; done; echo done");
    let child = suspendable(&["--timeout", "5"], &script, "x\n");
    let pid = number(&place.await_lines("begun", 1)[0]);
    let front = child.id().cast_signed();
    signal(&child, Signal::TSTP);
    wait_until(|| state(pid) == Some('T') && state(front) == Some('T'));
    // The suspension must outlast the time limit.
    thread::sleep(Duration::from_millis(5300));
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(state(pid), Some('T'));
    signal(&child, Signal::CONT);
    let said = end(child);
    assert_eq!((said.out.as_str(), said.code), ("done\n", Some(0)), "{}", said.err);
}

#[test]
fn a_run_can_be_suspended_again_and_interrupted_then() {
    let place = Place::new();
    let script = place.script("echo $$ > @/begun; exec sleep 1000");
    let child = suspendable(&[], &script, "x\n");
    let pid = number(&place.await_lines("begun", 1)[0]);
    let front = child.id().cast_signed();
    for _ in 0..3 {
        signal(&child, Signal::TSTP);
        wait_until(|| state(pid) == Some('T') && state(front) == Some('T'));
        signal(&child, Signal::CONT);
        wait_until(|| state(pid) != Some('T') && state(front) != Some('T'));
    }
    signal(&child, Signal::TSTP);
    wait_until(|| state(front) == Some('T'));
    signal(&child, Signal::TERM);
    signal(&child, Signal::CONT);
    assert_eq!(end(child).code, Some(143));
    assert!(!lives(pid));
}

/// Containers and sandboxes start programs in sessions that began outside their PID namespace. Such a session has
/// the number 0.
#[test]
fn a_run_is_suspended_in_a_session_from_outside_the_pid_namespace() {
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !support::can_unshare(&namespace) {
        return;
    }
    support::map(&[]); // starts the watchdog
    let tests = ["a_run_can_be_suspended_again_and_interrupted_then", "nothing_is_left_when_it_is_killed"];
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", "\"$0\" \"$@\"; exit $?"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact"]).args(tests);
    let said = end(start(command, b""));
    assert!(said.code == Some(0) && said.out.contains("2 passed"), "{said:?}");
}

/// A script whose descendants write their pids: a child, a grandchild, and a process in a session of its own.
const DESCENDANTS: &str = "sleep 1000 & echo $! >> @/begun; sh -c 'sleep 1000 & echo $! >> @/begun; wait' &
    setsid sh -c 'echo $$ >> @/begun; exec sleep 1000' & echo $$ >> @/begun; wait";

/// Returns the parent of a process.
fn parent(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    number(text.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap())
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    for suspended in [false, true] {
        let place = Place::new();
        let child = suspendable(&["-j", "2"], &place.script(DESCENDANTS), "a\nb\nc\n");
        let pids = place.await_lines("begun", 8);
        if suspended {
            signal(&child, Signal::TSTP);
            wait_until(|| state(child.id().cast_signed()) == Some('T'));
        }
        signal(&child, Signal::KILL);
        end(child);
        pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
    }
}

/// Kills happen at moments spread over the suspension of a run. An engine that stopped itself would miss a
/// death of the front just before the stop.
#[test]
fn nothing_is_left_when_it_is_killed_while_it_is_suspended() {
    for round in 0..150 {
        let place = Place::new();
        let script = place.script("echo $$ >> @/begun; exec sleep 1000");
        let child = suspendable(&["-j", "2"], &script, "a\nb\n");
        let pids = place.await_lines("begun", 2);
        signal(&child, Signal::TSTP);
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(4 * round) {}
        signal(&child, Signal::KILL);
        end(child);
        pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
    }
}

/// The engine notices the end of the front through SIGCONT.
#[test]
fn nothing_is_left_when_it_is_killed_also_if_sigcont_was_ignored() {
    for suspended in [false, true] {
        let place = Place::new();
        let program = env!("CARGO_BIN_EXE_procession");
        let script = place.script("echo $$ >> @/begun; exec sleep 1000");
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CONT", program, "map", "sh", "-c", &script]).process_group(0);
        let child = start(command, b"x\n");
        let pid = number(&place.await_lines("begun", 1)[0]);
        if suspended {
            signal(&child, Signal::TSTP);
            wait_until(|| state(child.id().cast_signed()) == Some('T'));
        }
        signal(&child, Signal::KILL);
        end(child);
        wait_until(|| !lives(pid));
    }
}

#[test]
fn nothing_is_left_when_its_group_is_killed() {
    let place = Place::new();
    let child = suspendable(&["-j", "2"], &place.script(DESCENDANTS), "a\nb\nc\n");
    let pids = place.await_lines("begun", 8);
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    end(child);
    pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
}

#[test]
fn nothing_is_left_when_its_engine_is_killed() {
    let place = Place::new();
    let child = suspendable(&["-j", "1"], &place.script(DESCENDANTS), "a\nb\n");
    let pids = place.await_lines("begun", 4);
    let front = child.id().cast_signed();
    // The shell of the command is the one whose grandparent is the front.
    let engines: Vec<i32> = pids
        .iter()
        .map(|pid| parent(number(pid)))
        .filter(|&pid| pid != front && parent(pid) == front)
        .collect();
    support::kill(engines[0]);
    let said = end(child);
    assert!(said.code == Some(125) && said.err.contains("was killed by signal 9"), "{said:?}");
    pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
}

#[test]
fn a_command_ends_with_the_run_also_if_both_processes_are_killed() {
    let place = Place::new();
    let child = begin(&place, &[], "echo $$ >> @/begun; exec sleep 1000", "x\n", 1);
    let pid = number(&place.text("begun"));
    let engine = parent(pid);
    signal(&child, Signal::STOP);
    support::kill(engine);
    wait_until(|| !lives(pid));
    signal(&child, Signal::KILL);
    end(child);
}

/// Kills happen at moments spread over the start of a run, when its processes do not know of each other yet.
#[test]
fn nothing_is_left_when_it_is_killed_while_it_starts() {
    for round in 0..120 {
        // A duration for which no other process sleeps.
        let nap = format!("1000.{}{round}", std::process::id());
        let mut command = map(&["-j", "2", "sleep", ":::", &nap, &nap]);
        let child = start_in_group(&mut command);
        // The test varies the moment of the kill.
        thread::sleep(Duration::from_micros(50 * round));
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, Signal::KILL).unwrap();
        end(child);
        wait_until(|| !is_mentioned(&nap));
    }
}

fn start_in_group(command: &mut Command) -> Child {
    use std::process::Stdio;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns whether any process has this word in its command line.
fn is_mentioned(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|text| text.split(|&byte| byte == 0).any(|part| part == word.as_bytes()))
    })
}
