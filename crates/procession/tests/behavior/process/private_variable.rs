//! The variable by which a program knows that it is to be a supervisor, set by others: the program runs as
//! usual. And a program with more rights than its user has.
#![allow(unsafe_code, reason = "makes sockets, changes an owner")]

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::family::*;
use procession::{Lock, Process};

const VARIABLE: &str = "PROCESSION_SUPERVISOR";

/// What the variable must say for this binary, as its own supervisor was told.
fn right_value() -> String {
    let environment = fs::read(format!("/proc/{}/environ", supervisor())).unwrap();
    let variables = String::from_utf8_lossy(&environment).into_owned();
    let prefix = format!("{VARIABLE}=");
    let value = variables.split('\0').find_map(|variable| variable.strip_prefix(&prefix));
    value.expect("the supervisor was told by a variable").to_owned()
}

/// The program's whole life: it posts how it went.
fn is_usual() {
    let board = my_board();
    post(&board, &format!("run {}", std::process::id()), "");
    let runs = fs::read_dir(&board)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("run"));
    if runs.count() > 3 {
        post(&board, "again and again", "");
        std::process::abort(); // or this goes on for ever
    }
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    match Process::spawn(|lock: Lock| lock.try_lock().is_err(), (lock.clone(),)) {
        Ok(p) => post(&board, "spawned", format!("{:?}", p.join())),
        Err(error) => post(&board, "refused", error),
    }
    drop(held);
    post(&board, "usual", "");
}

fn sequenced() -> (OwnedFd, OwnedFd) {
    use std::os::fd::FromRawFd;
    let mut fds = [0; 2];
    // SAFETY: the array has room for the two descriptors, which are ours then.
    unsafe {
        assert_eq!(
            libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()),
            0
        );
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

/// The program runs to its end, with the variable and standard input as given.
fn runs_as_usual(what: &str, value: &str, stdin: impl Into<Stdio>) {
    let board = Board::new();
    let mut command = program("usual", &board);
    command.env(VARIABLE, value).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    let mut main = Running::start(&mut command);
    drop(command);
    assert_eq!(main.end().code(), Some(0), "{what}");
    assert!(posted(&board.path(), "usual"), "{what}: main has not run");
    assert_eq!(board.wait("spawned"), "Ok(true)", "{what}");
}

#[test]
fn the_variable_alone_changes_nothing() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    let right = right_value();
    for value in [right.as_str(), "", "0", "ffffffffffffffffff", "not a number", "\u{fffd}", &right[1..]] {
        runs_as_usual(&format!("{value:?} with nothing as standard input"), value, Stdio::null());
    }
    runs_as_usual("a pipe", &right, std::io::pipe().unwrap().0);
    runs_as_usual("a file", &right, fs::File::open("/proc/self/status").unwrap());
}

#[test]
fn the_variable_and_a_socket_change_nothing() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    let right = right_value();
    let hello = [b"prchello".as_slice(), &[0; 8]].concat();
    for bytes in [hello.as_slice(), &hello[..15], &[b'x'; 300], b"GET / HTTP/1.0\r\n\r\n"] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        runs_as_usual("a stream with something in it", &right, OwnedFd::from(theirs));
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.send(bytes).unwrap();
        runs_as_usual("a datagram", &right, OwnedFd::from(theirs));
        // The whole hello in a packet is how a supervisor is told, and nothing else.
        if bytes != hello {
            let (ours, theirs) = sequenced();
            fs::File::from(ours.try_clone().unwrap()).write_all(bytes).unwrap();
            runs_as_usual("a packet", &right, theirs);
        }
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    runs_as_usual("a stream at its end", &right, OwnedFd::from(theirs));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    runs_as_usual("a connection", &right, OwnedFd::from(listener.accept().unwrap().0));
}

#[test]
fn the_variable_and_a_silent_socket_change_nothing() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    let (_ours, theirs) = UnixStream::pair().unwrap();
    runs_as_usual("a stream on which nobody speaks", &right_value(), OwnedFd::from(theirs));
    let (_ours, theirs) = sequenced();
    runs_as_usual("a socket on which nobody speaks", &right_value(), theirs);
}

#[test]
fn what_the_socket_says_is_left_for_the_program() {
    let _dog = watched();
    if let Some(role) = role() {
        let mut line = String::new();
        if role == "reads" {
            std::io::stdin().read_line(&mut line).unwrap();
        }
        return post(&my_board(), "line", line);
    }
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"for the program\n").unwrap();
    let board = Board::new();
    let mut command = program("reads", &board);
    command.env(VARIABLE, right_value()).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let _main = Running::start(&mut command);
    assert_eq!(board.wait("line"), "for the program\n");
}

#[test]
fn a_program_with_more_rights_than_its_user_is_no_supervisor() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    // SAFETY: a system call without pointers.
    if unsafe { libc::geteuid() } != 0 {
        return eprintln!("SKIPPED: only root can give a program away");
    }
    let board = Board::new();
    let copy = format!("{}/copy", board.path());
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::os::unix::fs::chown(&copy, Some(65534), None).unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    for path in [&board.path(), &copy] {
        let mode = if path == &copy { 0o4755 } else { 0o777 };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut command = program_at(&copy, "privileged", &board);
    let (ours, theirs) = sequenced();
    fs::File::from(ours.try_clone().unwrap()).write_all(&[b"prchello".as_slice(), &[0; 8]].concat()).unwrap();
    command.env(VARIABLE, right_value()).stdin(theirs).stdout(Stdio::null()).uid(12345);
    let mut main = Running::start(&mut command);
    drop(command);
    let code = main.end();
    assert!(posted(&board.path(), "usual"), "main ran: {code}");
    assert!(!posted(&board.path(), "again and again"), "the program ran itself again as main");
    let runs = board.names().iter().filter(|name| name.starts_with("run")).count();
    assert_eq!(runs, 1, "the program ran itself again as main");
    // Without a supervisor it may refuse, but then it says why.
    if posted(&board.path(), "refused") {
        let why = board.wait("refused");
        assert!(why.contains("set-user-id") || why.contains("setuid") || why.contains("privilege"), "{why}");
    } else {
        assert_eq!(board.wait("spawned"), "Ok(true)");
    }
}

#[test]
fn the_variable_does_not_reach_programs_that_are_started() {
    let _dog = watched();
    let has = || {
        let mut sh = Command::new("sh");
        let output = sh.args(["-c", "env; tr '\\0' '\\n' </proc/$PPID/comm"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(VARIABLE)
    };
    assert_eq!(Process::spawn(has, ()).unwrap().join(), Ok(false));
    assert!(!has() && std::env::var(VARIABLE).is_err());
}
