//! Time limits, further attempts, early ends, and when commands may start.

mod support;

use std::fs;
use std::time::Instant;

use support::{Place, lives, number, run, run_script, wait_until};

#[test]
fn a_command_that_times_out_is_killed_with_its_descendants() {
    let place = Place::new();
    let script = place.script(
        "sleep 1000 & echo $! >> @/pids; setsid sleep 1000 & echo $! >> @/pids; sh -c 'sleep 1000 & echo $!' >> @/pids; wait",
    );
    let said = run_script(&["--timeout", "0.3", "--retries", "1"], &script, "x\n");
    assert_eq!((said.out.as_str(), said.code), ("", Some(123)));
    assert!(said.err.contains("job 1 (x): took more than 300ms and was killed, attempt 2\n"), "{}", said.err);
    let pids = place.lines("pids");
    assert_eq!(pids.len(), 6);
    pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
}

/// The processes have left the command's session, and do not carry the environment that marks its descendants.
#[test]
fn a_command_that_times_out_is_killed_with_descendants_that_have_cut_all_ties() {
    let place = Place::new();
    let script = place.script(
        "env -i \"$(command -v setsid)\" sleep 1000 & echo $! >> @/pids
         env -u PROCESSION_RUN setsid sh -c 'sleep 1000 & echo $! >> @/pids; wait' & echo $! >> @/pids; wait",
    );
    let said = run_script(&["--timeout", "0.5"], &script, "x\n");
    assert_eq!(said.code, Some(123), "{}", said.err);
    let pids = place.lines("pids");
    assert_eq!(pids.len(), 3);
    pids.iter().for_each(|pid| wait_until(|| !lives(number(pid))));
}

#[test]
fn a_time_limit_of_0_is_none() {
    let said = run(&["--timeout", "0", "--delay", "0", "--retry-delay", "0", "--", "sleep"], "0.1\n");
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_command_that_times_out_may_clean_up_and_keeps_its_output() {
    let script = "trap 'echo cleaned; exit 7' TERM; echo begun; sleep 1000 & wait";
    let said = run_script(&["--timeout", "0.3", "--kill-after", "60"], script, "x\n");
    assert_eq!((said.out.as_str(), said.code), ("begun\ncleaned\n", Some(123)), "{}", said.err);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed() {
    let script = "trap '' TERM; echo begun; while :; do sleep 0.1; done";
    let said = run_script(&["--timeout", "0.3", "--kill-after", "0.2"], script, "x\n");
    assert_eq!((said.out.as_str(), said.code), ("begun\n", Some(123)), "{}", said.err);
    let said = run_script(&["--timeout", "0.3"], "kill -STOP $$", "x\n");
    assert_eq!(said.code, Some(123), "one that is stopped, too: {}", said.err);
}

#[test]
fn a_time_limit_may_be_a_percentage_of_the_median() {
    let said =
        run_script(&["-j", "1", "--timeout", "1000%"], "test $1 != 4 || sleep 1000", "1\n2\n3\n4\n5\n");
    assert_eq!(said.code, Some(123));
    assert!(
        said.err.contains("job 4 (4): took more than") && said.err.contains("4 commands succeeded"),
        "{}",
        said.err
    );
}

#[test]
fn a_failed_command_is_retried() {
    let place = Place::new();
    let script = place.script("echo $1; test -e @/flag || { touch @/flag; exit 1; }");
    let said = run_script(&["--retries", "1"], &script, "x\n");
    assert_eq!(
        (said.out.as_str(), said.code),
        ("x\n", Some(0)),
        "what a failed attempt printed is dropped: {}",
        said.err
    );
    let said = run(&["--retries", "2", "--", "false"], "x\n");
    assert!(
        said.code == Some(123) && said.err.contains("job 1 (x): exit code 1, attempt 3\n"),
        "{}",
        said.err
    );
}

#[test]
fn retries_are_delayed_further_each_time_and_others_run_meanwhile() {
    let place = Place::new();
    let script = place.script("echo $1 >> @/order; test $1 != a || test $(grep -c a @/order) = 3");
    let begun = Instant::now();
    let said = run_script(&["-j", "1", "--retries", "5", "--retry-delay", "0.2"], &script, "a\nb\n");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(begun.elapsed().as_millis() >= 600, "0.2 s and 0.4 s");
    assert_eq!(place.lines("order"), ["a", "b", "a", "a"]);
}

#[test]
fn a_run_ends_early_when_enough_have_failed() {
    let said = run_script(&["-j", "1", "--halt", "soon,fail=2"], "exit $1", "1\n0\n1\n0\n");
    assert_eq!(said.code, Some(123));
    assert!(said.err.contains("1 command succeeded, 2 failed, halted with 1 to do"), "{}", said.err);
}

/// As in GNU parallel, a percentage is of all jobs.
#[test]
fn a_run_ends_early_at_a_percentage_of_all_jobs() {
    for (halt, input, expected) in [
        ("soon,fail=50%", "1111111111", "0 commands succeeded, 5 failed, halted with 5 to do"),
        ("soon,fail=30%", "010110", "2 commands succeeded, 2 failed, halted with 2 to do"),
        ("now,success=50%", "010110", "3 commands succeeded, 3 failed, halted"),
        ("soon,done=50%", "0000", "2 commands succeeded, 0 failed, halted with 2 to do"),
    ] {
        let input: String = input.chars().map(|exit| format!("{exit}\n")).collect();
        let said = run_script(&["-j", "1", "--halt", halt], "exit $1", &input);
        assert!(said.err.contains(expected), "{halt}: {}", said.err);
    }
}

#[test]
fn a_run_ends_early_when_enough_have_succeeded() {
    let said = run_script(&["-j", "1", "--halt", "now,success=1"], "exit $1", "3\n0\n0\n");
    assert_eq!(said.code, Some(0), "what was wanted has happened: {}", said.err);
    assert!(said.err.contains("1 command succeeded, 1 failed, halted with 1 to do"), "{}", said.err);
    let said = run_script(&["-j", "1", "--halt", "soon,done=2"], "true", "1\n2\n3\n");
    assert!(said.code == Some(0) && said.err.contains("2 commands succeeded"), "{}", said.err);
}

#[test]
fn halting_now_ends_running_commands() {
    let place = Place::new();
    let script = place.script(
        "if test $1 = a; then echo $$ > @/pid; exec sleep 1000; fi; while ! test -s @/pid; do sleep 0.01; done; exit 1",
    );
    let said = run_script(&["-j", "2", "--halt", "now,fail=1"], &script, "a\nb\n");
    assert!(
        said.code == Some(123) && said.err.contains("0 commands succeeded, 1 failed, halted with 1 to do"),
        "{}",
        said.err
    );
    assert!(!lives(number(&place.text("pid"))));
}

#[test]
fn halting_soon_waits_for_running_commands() {
    let place = Place::new();
    let script = place.script(
        "if test $1 = a; then touch @/begun; while ! test -e @/failed; do sleep 0.01; done; sleep 0.1; echo done; exit 0; fi
         while ! test -e @/begun; do sleep 0.01; done; touch @/failed; exit 1",
    );
    let said = run_script(&["-j", "2", "--halt", "soon,fail=1"], &script, "a\nb\nc\n");
    assert_eq!(said.out, "done\n");
    assert!(said.err.contains("1 command succeeded, 1 failed, halted with 1 to do"), "{}", said.err);
}

#[test]
fn commands_start_with_a_delay() {
    let begun = Instant::now();
    let said = run(&["-j", "8", "--delay", "0.1", "--", "true"], "1\n2\n3\n4\n");
    assert_eq!(said.code, Some(0));
    assert!(begun.elapsed().as_millis() >= 300);
}

#[test]
fn commands_wait_for_load_and_memory() {
    let place = Place::new();
    for flags in [["--load", "0.000001"], ["--memfree", "8000T"]] {
        let script = place.script("touch @/ran");
        let mut command = support::map(&support::with_script(&flags, &script));
        command.stderr(std::process::Stdio::null());
        let child = support::start(command, b"x\n");
        // When another run that was started later has ended, the command must still not have begun.
        assert_eq!(run(&["--load", "1000000", "--memfree", "1", "--", "sleep"], "0.3\n").code, Some(0));
        let quiet = fs::read_to_string("/proc/loadavg").unwrap().starts_with("0.00");
        assert!(quiet || !place.path("ran").exists(), "{flags:?}");
        support::signal(&child, rustix::process::Signal::TERM);
        assert_eq!(support::code(child.wait_with_output().unwrap().status), Some(143));
        let _ = fs::remove_file(place.path("ran"));
    }
}
