//! A helper of a family recognizes its role by the path that was executed. If that path is executed and the
//! process is no helper, the program refuses to run. Under any other path, the program runs as usual. The
//! last tests run a program that has more rights than its user.
#![allow(unsafe_code, reason = "makes sockets, changes an owner")]

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::family::*;
use procession::process::StartMethod;
use procession::{Lock, Process};

/// The paths by which a supervisor and a child execute their program.
const PATHS: [&str; 2] = ["/proc/self/./exe", "/proc/self/././exe"];

/// Runs the program, and posts whether it behaved as usual.
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
    // SAFETY: the array has room for the two descriptors. This process owns them afterwards.
    unsafe {
        assert_eq!(
            libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()),
            0
        );
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

/// Asserts that the program runs to its end as usual with this standard input.
fn runs_as_usual(what: &str, stdin: impl Into<Stdio>) {
    let board = Board::new();
    let mut command = program("usual", &board);
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    let mut main = Running::start(&mut command);
    drop(command);
    assert_eq!(main.end().code(), Some(0), "{what}");
    assert!(posted(&board.path(), "usual"), "{what}: main has not run");
    assert_eq!(board.wait("spawned"), "Ok(true)", "{what}");
}

/// Executes the program by the path of a helper, although the process is no helper. The program must not run.
/// Otherwise its own helpers would run it again, without end.
fn refuses(what: &str, path: &str, stdin: impl Into<Stdio>) {
    let board = Board::new();
    let mut command = program("usual", &board);
    let program = std::ffi::CString::new(path).unwrap();
    let mut arguments = vec![std::ffi::CString::new("program").unwrap()];
    arguments.extend(command.get_args().map(|arg| std::ffi::CString::new(arg.as_encoded_bytes()).unwrap()));
    let pointers: Vec<usize> = arguments.iter().map(|arg| arg.as_ptr() as usize).chain([0]).collect();
    // SAFETY: the closure runs between fork and exec. It makes one system call, and the strings live in the
    // forked process.
    unsafe {
        command.pre_exec(move || {
            unsafe extern "C" {
                static environ: *const *const libc::c_char;
            }
            libc::execve(program.as_ptr(), pointers.as_ptr().cast(), environ);
            Err(std::io::Error::last_os_error())
        });
    }
    let output = command.stdin(stdin).output().unwrap();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{what}: {text}");
    assert!(text.contains("a helper process found nothing"), "{what}: {text}");
    assert!(board.names().is_empty(), "{what}: main has run");
}

/// Returns the start of the message that a supervisor expects.
fn hello() -> Vec<u8> {
    [b"prchello".as_slice(), &[0; 48]].concat()
}

#[test]
fn a_program_ignores_a_supervisor_s_message_on_its_stdin() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    for bytes in [&hello()[..], &[b'x'; 300]] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        runs_as_usual("a stream", OwnedFd::from(theirs));
        let (ours, theirs) = sequenced();
        fs::File::from(ours.try_clone().unwrap()).write_all(bytes).unwrap();
        runs_as_usual("a packet", theirs);
        drop(ours);
    }
    let (_ours, theirs) = sequenced();
    runs_as_usual("a silent socket", theirs);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    runs_as_usual("a connection", OwnedFd::from(listener.accept().unwrap().0));
}

#[test]
fn a_program_executed_by_a_helper_s_path_does_not_run() {
    let _dog = watched();
    if role().is_some() {
        return is_usual();
    }
    for path in PATHS {
        refuses("nothing", path, Stdio::null());
        refuses("a pipe", path, std::io::pipe().unwrap().0);
        refuses("a file", path, fs::File::open("/proc/self/status").unwrap());
        let (_ours, theirs) = sequenced();
        refuses("a silent socket", path, theirs);
        for bytes in [&hello()[..15], &hello()[..50], &[b'x'; 56]] {
            let (ours, theirs) = sequenced();
            fs::File::from(ours).write_all(bytes).unwrap();
            refuses("a packet", path, theirs);
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&hello()).unwrap();
        refuses("a stream", path, OwnedFd::from(theirs));
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.send(&hello()).unwrap();
        refuses("a datagram", path, OwnedFd::from(theirs));
    }
}

#[test]
fn a_setuid_program_does_not_run_itself_as_main() {
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
    copy_program(&copy);
    std::os::unix::fs::chown(&copy, Some(65534), None).unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    for path in [&board.path(), &copy] {
        let mode = if path == &copy { 0o4755 } else { 0o777 };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut command = program_at(&copy, "privileged", &board);
    let (ours, theirs) = sequenced();
    fs::File::from(ours.try_clone().unwrap()).write_all(&hello()).unwrap();
    command.stdin(theirs).stdout(Stdio::null()).uid(12345);
    let mut main = Running::start(&mut command);
    drop(command);
    let code = main.end();
    assert!(posted(&board.path(), "usual"), "main ran: {code}");
    assert!(!posted(&board.path(), "again and again"), "the program ran itself again as main");
    let runs = board.names().iter().filter(|name| name.starts_with("run")).count();
    assert_eq!(runs, 1, "the program ran itself again as main");
    // The spawn may fail because there is no supervisor, but its error must say why.
    if posted(&board.path(), "refused") {
        let why = board.wait("refused");
        assert!(why.contains("set-user-id") || why.contains("setuid") || why.contains("privilege"), "{why}");
    } else {
        assert_eq!(board.wait("spawned"), "Ok(true)");
    }
}

/// The library adds nothing to the environment of processes.
#[test]
fn processes_have_the_environment_of_main() {
    let _dog = watched();
    let variables = || std::env::vars().collect::<Vec<_>>();
    for builder in [Process::builder(), Process::builder().start_method(StartMethod::Spawn)] {
        let mut theirs = builder.spawn(variables, ()).unwrap().join().unwrap();
        let mut ours = variables();
        theirs.sort();
        ours.sort();
        assert_eq!(theirs, ours);
    }
}
