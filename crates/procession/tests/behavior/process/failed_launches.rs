//! The program cannot be executed a second time, or the second execution ends before it becomes a supervisor.
//! Then the first spawn still works, or it returns an error. The error names the failed call, quotes the
//! output of the loader or constructor, and says what to do.
#![allow(unsafe_code, reason = "limits, a seccomp filter")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::family::*;
use procession::Process;

/// The id of an ordinary user.
const NOBODY: u32 = 65534;

/// Compiles a C source into a shared library. Returns `None` if there is no C compiler.
fn library(board: &Board, source: &str) -> Option<String> {
    let path = format!("{}/library.so", board.path());
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-x", "c", "-", "-o", &path]).stdin(Stdio::piped());
    let Ok(mut compiler) = command.spawn() else {
        eprintln!("SKIPPED: there is no C compiler `cc`");
        return None;
    };
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success(), "the library is compiled");
    Some(path)
}

/// Spawns a process, and prints the outcome.
fn spawn_and_tell() {
    let spawned = Process::spawn(
        || {
            eprintln!("a child writes");
            std::env::var_os("LD_BIND_NOW").is_some()
        },
        (),
    );
    match spawned {
        Ok(p) => println!("joined: {:?}", p.join()),
        Err(error) => println!("refused: {error}\n{error:?}"),
    }
}

/// Runs the program in this role. Returns its output, and asserts that no process is left.
fn told(role: &str, change: impl FnOnce(&mut Command)) -> String {
    let board = Board::new();
    let mut command = program(role, &board);
    change(&mut command);
    let text = succeeds(&mut command);
    until_nothing_is_left(&board);
    text
}

/// Returns the source of a constructor that acts in the supervisor only.
fn constructor(deed: &str) -> String {
    format!(
        r#"
        #include <stdlib.h>
        #include <string.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <signal.h>
        #include <sys/auxv.h>
        __attribute__((constructor)) static void begin(void) {{
            if (!strstr((char *)getauxval(AT_EXECFN), "/./")) return;
            {deed}
        }}"#
    )
}

#[test]
fn a_preloaded_library_with_unresolved_symbols_does_not_prevent_the_launch() {
    let _dog = watched();
    if role().is_some() {
        spawn_and_tell();
        spawn_again(lose_it());
        return spawn_and_tell();
    }
    let board = Board::new();
    let source = "extern int only_elsewhere(void); int wrapper(int x) { return x ? only_elsewhere() : 0; }";
    let Some(library) = library(&board, source) else { return };
    let text = told("preloaded", |command| {
        command.env("LD_PRELOAD", &library);
    });
    assert_eq!(text.matches("joined: Ok(false)").count(), 2, "{text}");
    assert_eq!(text.matches("a child writes").count(), 2, "{text}");
    assert!(!text.contains("only_elsewhere"), "an attempt that was repeated is not mentioned: {text}");
}

#[test]
fn a_constructor_that_ends_the_supervisor_is_reported() {
    let _dog = watched();
    if role().is_some() {
        return spawn_and_tell();
    }
    let cases = [
        (r#"fputs("no license\n", stderr); _exit(3);"#, "no license", "exited with code 3"),
        (r#"fputs("no key\n", stderr); abort();"#, "no key", "was killed by signal 6"),
        ("_exit(127);", "wrote nothing", "exited with code 127"),
        ("raise(SIGKILL);", "memory ran out", "was killed by signal 9"),
        (r#"for (int i = 0; i < 99999; i++) fputs("long ", stderr); _exit(4);"#, "...", "exited with code 4"),
        ("close(2); _exit(5);", "wrote nothing", "exited with code 5"),
    ];
    for (deed, words, how) in cases {
        let board = Board::new();
        let Some(library) = library(&board, &constructor(deed)) else { return };
        let text = told("preloaded", |command| {
            command.env("LD_PRELOAD", &library);
        });
        let error = text.lines().find(|line| line.contains("refused: ")).unwrap_or_else(|| panic!("{text}"));
        assert!(error.contains(words) || error.contains("does not show how"), "{deed}: {text}");
        assert!(error.contains(how) || error.contains("does not show how"), "{deed}: {text}");
        assert!(error.len() < 2000, "{deed}: {} bytes", error.len());
    }
}

#[test]
fn output_of_constructors_arrives_when_the_launch_succeeds() {
    let _dog = watched();
    if role().is_some() {
        return spawn_and_tell();
    }
    let board = Board::new();
    let Some(library) = library(&board, &constructor(r#"fputs("beware\n", stderr);"#)) else { return };
    let text = told("preloaded", |command| {
        command.env("LD_PRELOAD", &library);
    });
    assert_eq!(text.matches("beware").count(), 1, "{text}");
    assert!(text.contains("a child writes") && text.contains("joined: Ok(false)"), "{text}");
    let text = told("preloaded", |command| {
        command.env("LD_PRELOAD", "/there/is/no.so");
    });
    assert!(text.matches("/there/is/no.so").count() >= 2, "main's loader and the supervisor's: {text}");
    assert!(text.contains("a child writes") && text.contains("joined: Ok(false)"), "{text}");
}

#[test]
fn a_program_without_standard_streams_can_launch() {
    let _dog = watched();
    if role().is_some() {
        // SAFETY: no code in this process uses these descriptors.
        unsafe { (libc::close(0), libc::close(2)) };
        let p = Process::spawn(|| fs::read_link("/proc/self/fd/2").ok(), ()).unwrap();
        return assert_eq!(p.join(), Ok(Some("/dev/null".into())));
    }
    told("closes", |_| {});
}

#[test]
fn too_many_processes_of_a_user_are_reported() {
    let _dog = watched();
    if role().is_some() {
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a valid limit.
        unsafe {
            let mut now = limit;
            assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &mut now), 0);
            let limit = libc::rlimit { rlim_max: now.rlim_max, ..limit };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &limit), 0);
        }
        return spawn_and_tell();
    }
    let board = Board::new();
    let copy = format!("{}/copy", board.path());
    copy_program(&copy);
    for path in [&board.path(), &copy] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let mut command = program_at(&copy, "limited", &board);
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(NOBODY).gid(NOBODY); // root has no such limit
    }
    let text = succeeds(command.current_dir("/"));
    assert!(text.contains("refused: ") && text.contains("clone") && text.contains("os error 11"), "{text}");
    assert!(text.contains("too many processes (RLIMIT_NPROC"), "{text}");
    until_nothing_is_left(&board);
}

#[test]
fn a_program_that_is_no_longer_executable_is_reported() {
    let _dog = watched();
    if role().is_some() {
        fs::set_permissions("/proc/self/exe", PermissionsExt::from_mode(0o600)).unwrap();
        return spawn_and_tell();
    }
    let board = Board::new();
    let copy = format!("{}/copy", board.path());
    copy_program(&copy);
    let text = succeeds(&mut program_at(&copy, "forbidden", &board));
    assert!(text.contains("execve of /proc/self/exe: Permission denied (os error 13)"), "{text}");
    assert!(text.contains("must be executable"), "{text}");
    until_nothing_is_left(&board);
}

/// Makes the kernel answer a system call with an error from now on.
fn forbid(call: libc::c_long, errno: i32) {
    let filter = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let list = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a list of valid instructions, which the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const list), 0);
    }
}

#[test]
fn a_system_call_that_a_filter_forbids_is_reported() {
    let _dog = watched();
    let calls = [
        ("memfd_create", libc::SYS_memfd_create),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("socketpair", libc::SYS_socketpair),
        ("execve", libc::SYS_execve),
        ("signalfd", libc::SYS_signalfd4),
        ("waitid", libc::SYS_waitid),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ];
    let errors = [("EPERM", libc::EPERM), ("ENOSYS", libc::ENOSYS)];
    if let Some(role) = role() {
        let (call, errno) = role.split_once(' ').unwrap();
        let call = calls.iter().find(|(name, _)| *name == call).unwrap();
        let errno = errors.iter().find(|(name, _)| *name == errno).unwrap();
        forbid(call.1, errno.1);
        return spawn_and_tell();
    }
    for (call, _) in calls {
        for (name, errno) in errors {
            // The supervisor sends signals that main is not permitted to send.
            if (call, name) == ("pidfd_send_signal", "EPERM") {
                continue;
            }
            let text = told(&format!("{call} {name}"), |_| {});
            let error =
                text.lines().find(|line| line.contains("refused: ")).unwrap_or_else(|| panic!("{text}"));
            assert!(error.contains(call) && error.contains(&format!("os error {errno}")), "{text}");
            assert!(error.contains("seccomp"), "{text}");
        }
    }
}
