//! The logs of `procession map`, and how a later run resumes from them.

mod support;

use std::fs;

use serde_json::Value;
use support::{Place, Said, map, run, run_script, start, with_script};

#[test]
fn the_log_has_a_line_for_each_command() {
    let place = Place::new();
    let log = place.path("log");
    let flags = ["-j", "1", "--retries", "1", "--log", log.to_str().unwrap()];
    let said = run_script(&flags, "case $1 in 3) exit 3;; k) kill -9 $$;; esac", "a\tb\n3\nk\n");
    assert_eq!(said.code, Some(123));
    let lines = place.lines("log");
    assert_eq!(lines[0], "job\tstart\tseconds\tattempt\texit\tsignal\tinput\tcommand");
    let columns: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split('\t').collect()).collect();
    let rest: Vec<Vec<&str>> = columns.iter().map(|c| [&c[..1], &c[3..7]].concat()).collect();
    assert_eq!(rest, [["1", "1", "0", "-", "a\\tb"], ["2", "2", "3", "-", "3"], ["3", "2", "-", "9", "k"]]);
    let start: f64 = columns[0][1].parse().unwrap();
    assert!(start > 1.7e9 && columns[1][7].starts_with("sh -c 'case $1 in"), "{lines:?}");
}

#[test]
fn a_command_that_cannot_run_is_in_the_log_and_the_summary() {
    let place = Place::new();
    for (program, code) in [("/no/such", "127"), ("/dev/null", "126")] {
        let said = run(&["--log", place.path("log").to_str().unwrap(), "--", program], "x\n");
        assert_eq!(said.code.unwrap().to_string(), code);
        assert!(
            said.err.contains(&format!("(exit code {code})")) && said.err.contains("1 failed"),
            "{}",
            said.err
        );
        assert_eq!(place.lines("log")[1].split('\t').nth(4), Some(code));
    }
}

#[test]
fn the_log_may_be_json() {
    let place = Place::new();
    let flags = ["-j", "1", "--log-format", "json", "--log"];
    let log = place.path("log");
    run_script(&[&flags[..], &[log.to_str().unwrap()]].concat(), "exit $1", "0\n3\n");
    let lines: Vec<Value> =
        place.lines("log").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, exit) in lines.iter().zip([0, 3]) {
        assert_eq!(
            (&line["exit"], &line["signal"], &line["attempt"]),
            (&exit.into(), &Value::Null, &1.into())
        );
        assert_eq!(line["input"], exit.to_string());
        assert_eq!(line["command"][2], "exit $1");
        assert!(line["start"].as_f64().unwrap() > 1.7e9 && line["seconds"].is_number());
    }
}

/// The columns of GNU parallel's own log, which scripts of its users read.
#[test]
fn the_log_may_be_a_joblog() {
    let place = Place::new();
    let log = place.path("log");
    let flags = ["-j", "1", "-k", "--joblog", log.to_str().unwrap()];
    run_script(&flags, "printf abc; exit $1", "0\n3\n");
    let lines = place.lines("log");
    assert_eq!(lines[0], "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand");
    let columns: Vec<&str> = lines[2].split('\t').collect();
    assert_eq!((columns[0], columns[1], &columns[4..8]), ("2", ":", &["0", "3", "3", "0"][..]));
    assert_eq!(columns[8], "sh -c 'printf abc; exit $1' sh 3");
    assert_eq!(run_script(&[&flags[..], &["--resume"]].concat(), "printf abc; exit $1", "0\n3\n").out, "abc");
}

/// GNU parallel quotes words differently, and writes what it has given to a shell.
#[test]
fn a_joblog_of_gnu_parallel_is_resumed() {
    let place = Place::new();
    let head = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";
    let line = |number: u32, command: &str| {
        format!("{number}\t:\t1796074097.851\t     0.000\t0\t13\t0\t0\t{command}\n")
    };
    let log = place.path("log");
    let resume = ["-k", "-j", "1", "--joblog", log.to_str().unwrap(), "--resume"];
    let commands = ["echo 'http://x/a,b'", r#"echo 'it'"'"'s'"#, "echo 'ü'", "echo http\\://x", "echo '\0'"];
    let lines: String = (1..).zip(commands).map(|(number, command)| line(number, command)).collect();
    fs::write(&log, format!("{head}{lines}")).unwrap();
    let inputs = ["http://x/a,b", "it's", "ü", "http://x", "\n", "new"];
    let said = run(&[&resume[..], &["echo", ":::"], &inputs].concat(), "");
    assert_eq!((said.out.as_str(), said.code), ("new\n", Some(0)), "{}", said.err);
    fs::write(&log, format!("{head}{}", line(1, "echo x 'a' | cat"))).unwrap();
    let said = run(&[&resume[..], &["sh", "-c", "echo x {} | cat", ":::", "a", "b"]].concat(), "");
    assert_eq!((said.out.as_str(), said.code), ("x b\n", Some(0)), "{}", said.err);
    fs::write(&log, format!("{head}{}", line(1, "echo 'a b'"))).unwrap();
    let said = run(&[&resume[..], &["echo", "a", ":::", "b"]].concat(), "");
    assert!(said.code == Some(125) && said.err.contains("another command"), "{}", said.err);
}

#[test]
fn a_joblog_has_signals_as_gnu_parallel_writes_them() {
    let place = Place::new();
    let log = place.path("log");
    let flags = ["-j", "1", "--timeout", "1", "--joblog", log.to_str().unwrap()];
    run_script(&flags, "test $1 = kill && kill -9 $$; exec sleep 1000", "kill\nslow\n");
    let ends: Vec<String> = place.lines("log")[1..]
        .iter()
        .map(|line| line.split('\t').skip(6).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(ends, ["0 9", "-1 15"]);
}

fn failing_at_b(place: &Place, flags: &[&str], input: &str) -> Said {
    let log = place.path("log");
    let script = place.script("echo $1 >> @/ran; test $1 != b");
    run_script(&[&["-j", "1", "--log", log.to_str().unwrap()], flags].concat(), &script, input)
}

#[test]
fn a_run_resumes_where_its_log_ends() {
    for format in ["tsv", "json"] {
        let place = Place::new();
        let flags = ["--log-format", format, "--resume"];
        assert_eq!(failing_at_b(&place, &flags[..2], "a\nb\nc\n").code, Some(123));
        let said = failing_at_b(&place, &flags, "a\nb\nc\nd\n");
        assert!(
            said.code == Some(123) && said.err.contains("1 command succeeded, 1 failed, 2 done before"),
            "{}",
            said.err
        );
        assert_eq!(place.lines("ran"), ["a", "b", "c", "b", "d"]);
        let said = failing_at_b(&place, &flags, "another\nb\nc\n");
        assert!(
            said.code == Some(125) && said.err.contains("log: is the log of another input"),
            "{}",
            said.err
        );
        let said = failing_at_b(&place, &flags, "a\n");
        assert!(
            said.code == Some(125) && said.err.contains("log: is the log of another input"),
            "{}",
            said.err
        );
        assert_eq!(place.lines("ran").len(), 5);
    }
}

#[test]
fn another_command_is_noticed() {
    let place = Place::new();
    let log = place.path("log");
    for flag in [&["--log"][..], &["--log-format", "json", "--log"], &["--joblog"]] {
        let flags = [flag, &[log.to_str().unwrap()]].concat();
        assert_eq!(run(&[&flags[..], &["--", "echo"]].concat(), "a\n").code, Some(0));
        let said = run(&[&flags[..], &["--resume", "--", "printf"]].concat(), "a\n");
        assert!(
            said.code == Some(125) && said.err.contains("log: is the log of another command"),
            "{}",
            said.err
        );
        let said = run(&[&flags[..], &["--resume", "--", "echo"]].concat(), "a\n");
        assert!(said.code == Some(0) && said.out.is_empty(), "{}", said.err);
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn the_job_of_a_torn_line_runs_again() {
    let place = Place::new();
    failing_at_b(&place, &[], "a\nc\n");
    let text = place.text("log");
    fs::write(place.path("log"), &text[..text.len() - 3]).unwrap();
    assert_eq!(failing_at_b(&place, &["--resume"], "a\nc\n").code, Some(0));
    assert_eq!(place.lines("ran"), ["a", "c", "c"]);
}

#[test]
fn a_file_that_is_not_a_log_is_left_unchanged() {
    let place = Place::new();
    let path = place.path("precious");
    let name = path.to_str().unwrap();
    for text in ["precious\n", "x", "{}\n"] {
        fs::write(&path, text).unwrap();
        for flags in [&["--log", name][..], &["--log", name, "--resume"], &["--joblog", name]] {
            let said = run(&[flags, &["--", "echo"]].concat(), "x\n");
            assert_eq!((said.code, said.out.as_str()), (Some(125), ""));
            assert!(said.err.contains("precious: is no log of this program"), "{}", said.err);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
    run(&["--log", place.path("log").to_str().unwrap(), "--", "true"], "x\n");
    let said = run(&["--joblog", place.path("log").to_str().unwrap(), "--", "true"], "x\n");
    assert!(said.code == Some(125) && said.err.contains("is a log in another format"), "{}", said.err);
}

#[test]
fn errors_name_the_log() {
    let said = run(&["--log", "/no/such/log", "--", "echo"], "x\n");
    assert!(said.code == Some(125) && said.err.contains("/no/such/log: No such file"), "{}", said.err);
    let said = run(&["--log", "/dev/full", "--", "echo"], "x\n");
    assert!(said.code == Some(125) && said.err.contains("/dev/full: No space left"), "{}", said.err);
    let said = run(&["-q", "--log", "/dev/stdout", "--", "true"], "x\n");
    assert!(said.code == Some(0) && said.out.lines().count() == 2, "a log may be shown: {}", said.out);
}

#[test]
fn two_runs_on_one_log_exclude_each_other() {
    let place = Place::new();
    let log = place.path("log");
    let flags = ["--log", log.to_str().unwrap()];
    let script = place.script("touch @/begun; while ! test -e @/go; do sleep 0.01; done");
    let child = start(map(&with_script(&flags, &script)), b"x\n");
    support::wait_until(|| place.path("begun").exists());
    for resume in [&[][..], &["--resume"]] {
        let said = run(&[&flags[..], resume, &["--", "echo"]].concat(), "y\n");
        assert!(
            said.code == Some(125) && said.err.contains("log: another run is writing to it"),
            "{}",
            said.err
        );
    }
    fs::write(place.path("go"), "").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(place.lines("log").len(), 2);
}

#[test]
fn a_dry_run_writes_no_log() {
    let place = Place::new();
    failing_at_b(&place, &[], "a\nb\n");
    let text = place.text("log");
    let said = failing_at_b(&place, &["--dry-run", "--resume"], "a\nb\n");
    assert!(said.out.ends_with(" b\n") && said.out.lines().count() == 1, "{}", said.out);
    assert_eq!(place.text("log"), text);
}
