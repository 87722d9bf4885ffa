//! Options of a process. They are applied before its function runs. If an option cannot be applied, `spawn`
//! returns an error.
#![allow(unsafe_code, reason = "asks the kernel, a constructor")]

use std::fs;
use std::io::{Read, Write};

use crate::family::*;
use procession::process::{Builder, Stdio};
use procession::{Error, Lock, Process};
use procession_testkit::isolated;

fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

#[test]
fn the_environment_changes_for_one_process_only() {
    let _dog = watched();
    let before = environment();
    let of = |builder: &Builder| builder.spawn(environment, ()).unwrap().join().unwrap();
    let plain = of(&Process::builder());
    let more = of(&Process::builder().env("GIVEN", "ü=;\n").env("PATH", "/nowhere"));
    assert!(
        more.contains(&("GIVEN".into(), "ü=;\n".into()))
            && more.contains(&("PATH".into(), "/nowhere".into()))
    );
    assert_eq!(more.len(), plain.len() + 1);
    let less = of(&Process::builder().env("GIVEN", "1").env_remove("PATH").env_remove("GIVEN"));
    assert!(less.iter().all(|(name, _)| name != "PATH" && name != "GIVEN") && less.len() + 1 == plain.len());
    let few = Process::builder().env("BEFORE", "0").env_clear().env("AFTER", "1").env("AFTER", "2");
    assert_eq!(of(&few), [("AFTER".to_string(), "2".to_string())]);
    // A shell that the process runs sees the changed environment, too.
    let shell = || {
        let output = std::process::Command::new("/bin/sh").args(["-c", "echo $AFTER"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(few.spawn(shell, ()).unwrap().join().as_deref(), Ok("2\n"));
    assert_eq!(of(&Process::builder()), plain, "the next process gets the usual environment");
    assert_eq!(environment(), before);
}

#[test]
fn a_process_starts_in_the_requested_directory() {
    isolated!({
        let here = || std::env::current_dir().unwrap().display().to_string();
        let board = Board::new();
        fs::create_dir(format!("{}/below", board.path())).unwrap();
        let p = Process::builder().current_dir(board.path()).spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(board.path()));
        std::env::set_current_dir(board.path()).unwrap();
        let p = Process::builder().current_dir("below").spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(format!("{}/below", board.path())), "relative to the spawner's directory");
        let p = Process::builder().nice(1).spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(board.path()), "the default is the spawner's directory");
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn standard_streams_can_be_redirected() {
    isolated!({
        let board = Board::new();
        let echo = || {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            print!("out {line}");
            eprint!("err {line}");
        };
        // Pipes. Each end can be taken once, even with clones of the handle. A handle that was sent to
        // another process has no ends.
        let all = Process::builder().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let p = all.spawn(echo, ()).unwrap();
        assert!(p.clone().take_stdin().is_some() && p.take_stdin().is_none(), "each end can be taken once");
        assert_eq!(p.join(), Ok(()));
        let said = |reader: Option<std::io::PipeReader>| std::io::read_to_string(reader.unwrap()).unwrap();
        assert_eq!((said(p.take_stdout()), said(p.take_stderr())), ("out ".into(), "err ".into()));
        for n in 0..3 {
            let p = all.spawn(echo, ()).unwrap();
            write!(p.take_stdin().unwrap(), "{n}\nmore").unwrap();
            assert_eq!(said(p.take_stdout()), format!("out {n}\n"));
            assert_eq!(said(p.take_stderr()), format!("err {n}\n"));
            p.join().unwrap();
        }
        // Files. Output starts at the current position of each file.
        let path = format!("{}/file", board.path());
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        let both = file.try_clone().unwrap();
        let p = Process::builder().stdin(Stdio::null()).stdout(file).stderr(both).spawn(echo, ()).unwrap();
        p.join().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nerr out ", "printed text is appended");
        // The output can also go to the pipe of another program, or to a socket.
        let mut cat = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let to = cat.stdin.take().unwrap();
        Process::builder()
            .stdin(Stdio::null())
            .stdout(to)
            .spawn(|| println!("through cat"), ())
            .unwrap()
            .join()
            .unwrap();
        let mut text = String::new();
        cat.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), cat.wait().unwrap().success()), ("through cat\n", true));
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        Process::builder().stdout(theirs).spawn(|| print!("by socket"), ()).unwrap().join().unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "by socket");
    });
}

#[test]
fn a_process_passes_on_its_own_streams() {
    let _dog = watched();
    let inner = || println!("from below");
    let outer = move || {
        // The first process writes to main's stdout. The second one writes to a pipe of this process.
        Process::builder().stdout(Stdio::inherit()).spawn(inner, ()).unwrap().join().unwrap();
        let p = Process::builder().stdout(Stdio::piped()).spawn(inner, ()).unwrap();
        p.join().unwrap();
        print!("{}", std::io::read_to_string(p.take_stdout().unwrap()).unwrap().to_uppercase());
        std::io::stdout().flush().unwrap();
    };
    let p = Process::builder().stdout(Stdio::piped()).spawn(outer, ()).unwrap();
    p.join().unwrap();
    assert_eq!(std::io::read_to_string(p.take_stdout().unwrap()).unwrap(), "from below\nFROM BELOW\n");
}

#[test]
fn a_redirected_process_has_no_descriptor_above_two() {
    isolated!({
        let fds = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links
                .filter_map(|e| Some(fs::read_link(e.path()).ok()?.display().to_string()))
                .filter(|to| !to.contains("/proc/"))
                .collect::<Vec<_>>()
        };
        let all = Process::builder().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        for _ in 0..5 {
            let fds = all.spawn(fds, ()).unwrap().join().unwrap();
            assert_eq!(fds.len(), 3, "{fds:?}");
        }
        let plain = Process::spawn(fds, ()).unwrap().join().unwrap();
        assert_eq!(plain.len(), 3, "{plain:?}");
    });
}

#[test]
fn resource_options_are_applied() {
    let _dog = watched();
    let kernel = || {
        // SAFETY: system calls without pointers, except one with a pointer to a local variable.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit);
            let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
            (limit.rlim_cur, limit.rlim_max, nice, libc::getpgid(0), libc::getpid(), procession::cpu_count())
        }
    };
    let all = Process::builder().memory_limit(100 << 20).nice(7).process_group(0).cpu_affinity(&[0]);
    let (soft, hard, nice, group, pid, processors) = all.spawn(kernel, ()).unwrap().join().unwrap();
    assert_eq!((soft, hard, nice, group, processors), (100 << 20, 100 << 20, 7, pid, 1));
    let (_, _, nice, group, pid, _) = Process::spawn(kernel, ()).unwrap().join().unwrap();
    // SAFETY: a system call without pointers.
    assert_eq!((nice, group), (0, unsafe { libc::getpgid(0) }), "{pid}");
}

#[test]
fn an_option_that_cannot_be_applied_is_an_error_of_spawn() {
    isolated!({
        let new = Process::builder;
        assert!(matches!(
            refused(&new().current_dir("/no/such"), "/no/such"),
            Error::Os { code: Some(libc::ENOENT), .. }
        ));
        assert!(matches!(
            refused(&new().current_dir("/etc/passwd"), "passwd"),
            Error::Os { code: Some(libc::ENOTDIR), .. }
        ));
        refused(&new().current_dir(""), "empty");
        for name in ["", "A=B", "A\0"] {
            assert!(matches!(refused(&new().env(name, ""), "variable"), Error::InvalidArgument(_)));
        }
        refused(&new().env("A", "\0"), "zero byte");
        refused(&new().cpu_affinity(&[]), "at least one");
        refused(&new().cpu_affinity(&[0, 4000]), "4000");
        refused(&new().cpu_affinity(&[usize::MAX]), "processors");
        refused(&new().nice(20), "-20 to 19");
        refused(&new().process_group(-1), "process group");
        refused(&new().process_group(i32::MAX), "process group 2147483647");
        assert!(matches!(refused(&new().memory_limit(1), "too low"), Error::InvalidArgument(_)));
        let lock = Lock::new().unwrap();
        assert_eq!(Process::spawn(|lock: Lock| lock.lock().is_ok(), (lock,)).unwrap().join(), Ok(true));
    });
}

#[test]
fn options_do_not_apply_to_grandchildren() {
    let _dog = watched();
    let look = || {
        // SAFETY: a system call without pointers.
        let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        (std::env::var("GIVEN").is_ok(), nice, procession::cpu_count())
    };
    let plain = Process::spawn(look, ()).unwrap().join().unwrap();
    let nested = move || (look(), Process::spawn(look, ()).unwrap().join().unwrap());
    let builder = Process::builder().env("GIVEN", "1").nice(5).cpu_affinity(&[0]);
    assert_eq!(builder.spawn(nested, ()).unwrap().join(), Ok(((true, 5, 1), plain)));
}

#[test]
fn a_stream_that_is_closed_cannot_be_inherited() {
    isolated!({
        let inner = || {
            // SAFETY: closes a standard stream of this process, which is about to end.
            unsafe { libc::close(0) };
            let error = Process::builder().stdin(Stdio::inherit()).spawn(|| (), ()).expect_err("no stdin");
            (error.to_string(), Process::spawn(|| 3, ()).unwrap().join().unwrap())
        };
        let (error, after) = Process::spawn(inner, ()).unwrap().join().unwrap();
        assert!(error.contains("descriptor"), "{error}");
        assert_eq!(after, 3);
    });
}

#[test]
fn a_spawner_in_another_network_namespace_cannot_redirect_streams() {
    isolated!({
        let alone = || {
            // SAFETY: a system call without pointers.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return None;
            }
            Some(Process::builder().stdout(Stdio::piped()).spawn(|| (), ()).expect_err("no way").to_string())
        };
        match Process::spawn(alone, ()).unwrap().join().unwrap() {
            Some(error) => assert!(error.contains("network namespace"), "{error}"),
            None => println!("not allowed to try"),
        }
    });
}
