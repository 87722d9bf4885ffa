//! The state in which a started program finds itself.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;

use procession_launch::{Failure, Launcher, Order, Step};
use rustix::process::{Pid, WaitOptions, waitpid};

fn words(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

/// Runs `sh -c script`; returns what it printed.
fn shell(script: &str, change: impl FnOnce(&mut Order<'_>)) -> Result<String, Failure> {
    run(c"/bin/sh", &["sh", "-c", script], change)
}

fn run(program: &CStr, arguments: &[&str], change: impl FnOnce(&mut Order<'_>)) -> Result<String, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (mut output, writer) = std::io::pipe().unwrap();
    let arguments = words(arguments);
    let mut order = Order {
        program,
        arguments: &arguments,
        environment: &[c"PATH=/usr/bin:/bin", c"NAME=value"],
        directory: None,
        streams: [null.as_fd(), writer.as_fd(), writer.as_fd()],
        terminal: None,
        nice: 0,
        open_files: None,
    };
    change(&mut order);
    let pid = Launcher::new().start(&order)?;
    drop(writer);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
    Ok(text)
}

#[test]
fn a_program_has_its_arguments_environment_directory_and_streams() {
    let set = |order: &mut Order<'_>| order.directory = Some(c"/proc");
    assert_eq!(shell("echo $NAME $(pwd); read x; echo $?", set).unwrap(), "value /proc\n1\n");
}

#[test]
fn it_leads_a_process_group_and_can_be_nicer() {
    let text = shell("cut -d' ' -f5,19 /proc/$$/stat; echo $$", |order| order.nice = 3).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words[0], words[1]), (words[2], "3"), "{text}");
}

/// A started program has the signal state of this test program, with two exceptions. Rust's runtime ignores
/// SIGPIPE, and the C library handles its own two signals once there are threads.
#[test]
fn signals_are_as_they_were() {
    let of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let (text, own) =
        (shell("cat /proc/self/status", |_| ()).unwrap(), fs::read_to_string("/proc/self/status").unwrap());
    let changed = 1 << (libc::SIGPIPE - 1) | 1 << 31 | 1 << 32;
    assert_eq!(of(&text, "SigIgn:") & !changed, of(&own, "SigIgn:") & !changed, "ignored");
    assert_eq!(of(&text, "SigBlk:"), of(&own, "SigBlk:"), "blocked");
}

#[test]
fn the_limit_of_open_files_is_given() {
    assert_eq!(shell("ulimit -Sn", |order| order.open_files = Some(77)).unwrap(), "77\n");
}

#[test]
fn a_failed_step_is_named_and_leaves_no_process() {
    let failure = |change: fn(&mut Order<'_>)| {
        let Failure { step, error } = shell("true", change).unwrap_err();
        (step, error.kind())
    };
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    assert_eq!(failure(|order| order.program = c"/no/such"), (Step::Execute, NotFound));
    assert_eq!(failure(|order| order.program = c"/dev/null"), (Step::Execute, PermissionDenied));
    assert_eq!(failure(|order| order.directory = Some(c"/no/such")), (Step::Directory, NotFound));
}

#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("procession-script-{}", std::process::id()));
    fs::write(&path, "echo ran $1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = CString::new(path.to_str().unwrap()).unwrap();
    let text = run(&program, &["script", "with"], |_| ());
    assert_eq!(text.unwrap(), "ran with\n");
    fs::write(&path, "echo $# $1\n").unwrap();
    let words: Vec<&str> = std::iter::once("script").chain(std::iter::repeat_n("word", 3000)).collect();
    let text = run(&program, &words, |_| ());
    fs::remove_file(&path).unwrap();
    assert_eq!(text.unwrap(), "3000 word\n");
}
