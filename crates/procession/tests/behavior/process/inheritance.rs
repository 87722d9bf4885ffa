//! What a child inherits from main and from its spawner, and what it does not inherit. Also checks that main
//! notices no side effects.
#![allow(unsafe_code, reason = "signals, masks, limits")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::family::*;
use procession::{Lock, Process};
use procession_testkit::isolated;

fn directory() -> String {
    std::env::current_dir().unwrap().display().to_string()
}

fn directory_of_a_child() -> String {
    Process::spawn(directory, ()).unwrap().join().unwrap()
}

#[test]
fn a_child_starts_in_its_spawner_s_directory() {
    isolated!({
        assert_eq!(directory_of_a_child(), directory());
        let (one, two) = (Board::new(), Board::new());
        for board in [&one, &two, &one] {
            std::env::set_current_dir(board.path()).unwrap();
            assert_eq!(directory_of_a_child(), board.path());
        }
        let p = Process::spawn(
            |two: String| {
                let before = directory_of_a_child();
                std::env::set_current_dir(two).unwrap();
                (before, directory_of_a_child())
            },
            (two.path(),),
        );
        assert_eq!(p.unwrap().join(), Ok((one.path(), two.path())));
        assert_eq!(directory(), one.path(), "a child changes only its own directory");
        let odd = std::path::Path::new(&one.path()).join(std::ffi::OsStr::from_bytes(b"odd \xff\n"));
        fs::create_dir(&odd).unwrap();
        std::env::set_current_dir(&odd).unwrap();
        let bytes = || std::env::current_dir().unwrap().as_os_str().as_bytes().to_vec();
        assert_eq!(Process::spawn(bytes, ()).unwrap().join(), Ok(bytes()));
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn a_spawn_in_a_removed_directory_is_an_error() {
    isolated!({
        assert_eq!(directory_of_a_child(), directory());
        let (board, lock) = (Board::new(), Lock::new().unwrap());
        let gone = format!("{}/gone", board.path());
        fs::create_dir(&gone).unwrap();
        std::env::set_current_dir(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        if let Err(error) = Process::spawn(|| 1, ()).and_then(|p| Ok(p.join()?)) {
            assert!(error.to_string().contains("directory"), "{error}");
        }
        std::env::set_current_dir("/").unwrap();
        assert_eq!(Process::spawn(|lock: Lock| lock.lock().is_ok(), (lock,)).unwrap().join(), Ok(true));
    });
}

/// The path is longer than the kernel accepts in one call.
#[test]
fn a_directory_with_a_long_path_is_inherited() {
    isolated!({
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let board = Board::new();
        std::env::set_current_dir(board.path()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..30 {
            fs::create_dir(&name).unwrap();
            std::env::set_current_dir(&name).unwrap();
        }
        let inode = || fs::metadata(".").unwrap().ino();
        assert_eq!(Process::spawn(inode, ()).unwrap().join().unwrap(), inode());
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn a_child_has_main_s_environment_at_the_first_spawn() {
    isolated!(env = [("FROM_OUTSIDE", "a"), ("CHANGED", "b")], {
        // SAFETY: no thread reads the environment meanwhile.
        unsafe {
            std::env::set_var("SET_BEFORE", "ü=;\n");
            std::env::set_var("CHANGED", "c");
            std::env::remove_var("HOME");
        }
        let environment =
            || std::env::vars_os().map(|(k, v)| (k.into_encoded_bytes(), v.into_encoded_bytes()));
        let all = move || environment().collect::<BTreeMap<_, _>>();
        assert_eq!(
            Process::spawn(all, ()).unwrap().join(),
            Ok(all()),
            "exactly main's environment, without private variables"
        );
        // SAFETY: no thread reads the environment meanwhile.
        unsafe { std::env::set_var("SET_AFTER", "d") };
        let has = || std::env::var("SET_AFTER").is_ok();
        assert_eq!(Process::spawn(has, ()).unwrap().join(), Ok(false));
    });
}

#[test]
fn a_child_has_no_descriptors_above_two() {
    isolated!({
        let file = fs::File::open("/dev/zero").unwrap();
        // SAFETY: creates inheritable copies, which main keeps.
        let many: Vec<i32> = (0..50).map(|n| unsafe { libc::dup2(file.as_raw_fd(), 100 + n) }).collect();
        assert!(many.iter().all(|&fd| fd >= 100));
        let fds = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links
                .filter_map(|e| {
                    Some(format!(
                        "{} -> {}",
                        e.file_name().display(),
                        fs::read_link(e.path()).ok()?.display()
                    ))
                })
                .filter(|line| !line.contains("/proc/"))
                .collect::<Vec<_>>()
        };
        let nested = move || (fds(), Process::spawn(fds, ()).unwrap().join().unwrap());
        let siblings: Vec<_> = (0..20).map(|_| sleeper()).collect();
        for _ in 0..10 {
            let (of_child, of_grandchild) = Process::spawn(nested, ()).unwrap().join().unwrap();
            assert_eq!((of_child.len(), of_grandchild.len()), (3, 3), "{of_child:#?} {of_grandchild:#?}");
        }
        siblings.iter().for_each(|p| p.kill().unwrap());
    });
}

#[test]
fn programs_inherit_no_descriptor_of_the_family() {
    isolated!({
        let list =
            || String::from_utf8(Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout).unwrap();
        let before = list();
        let sleeper = sleeper();
        assert_eq!(list(), before);
        // Descriptor 3 is the directory that `ls` reads.
        assert_eq!(Process::spawn(list, ()).unwrap().join().as_deref(), Ok("0\n1\n2\n3\n"));
        sleeper.kill().unwrap();
    });
}

#[test]
fn a_child_has_main_s_standard_streams() {
    let _dog = watched();
    if role().is_some() {
        let talks = || {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            print!("out {line}");
            eprint!("err {line}");
            Process::spawn(|| println!("and below"), ()).unwrap().join().unwrap();
        };
        return Process::spawn(talks, ()).unwrap().join().unwrap();
    }
    let board = Board::new();
    let mut command = program("main", &board);
    let mut main =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    main.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = main.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("out hello\nand below\n"),
        "{}",
        text_of(&output)
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("err hello\n"), "{}", text_of(&output));
}

#[test]
fn a_child_can_have_children() {
    let _dog = watched();
    let runs = || Command::new("sh").args(["-c", "exit 5"]).status().unwrap().code();
    assert_eq!(Process::spawn(runs, ()).unwrap().join(), Ok(Some(5)));
    let output = || String::from_utf8(Command::new("echo").arg("hi").output().unwrap().stdout).unwrap();
    assert_eq!(Process::spawn(output, ()).unwrap().join().as_deref(), Ok("hi\n"));
}

#[test]
fn a_child_has_main_s_limits_and_ids() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 321), (libc::RLIMIT_CORE, 0)], {
        let kernel = || {
            // SAFETY: system calls without pointers, except one with a pointer to a local variable.
            unsafe {
                let mut limit: libc::rlimit = std::mem::zeroed();
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                let umask = libc::umask(0o27);
                (limit.rlim_cur, limit.rlim_max, umask, libc::getpgid(0), libc::getsid(0), libc::getuid())
            }
        };
        // SAFETY: a system call without pointers.
        unsafe { libc::umask(0o27) };
        assert_eq!(Process::spawn(kernel, ()).unwrap().join(), Ok(kernel()));
    });
}

#[test]
fn a_child_has_none_of_main_s_memory_and_one_thread() {
    static CHANGED: AtomicU32 = AtomicU32::new(1);
    let _dog = watched();
    CHANGED.store(2, Ordering::SeqCst);
    let look = || {
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        (CHANGED.swap(3, Ordering::SeqCst), threads, thread::current().name().map(str::to_owned))
    };
    for _ in 0..6 {
        let (changed, threads, _name) = Process::spawn(look, ()).unwrap().join().unwrap();
        assert_eq!((changed, threads), (1, 1));
    }
    assert_eq!(CHANGED.load(Ordering::SeqCst), 2);
}

#[test]
fn a_family_holds_no_file_system_busy() {
    isolated!({
        let lock = Lock::new().unwrap();
        let child = Process::spawn(|lock: Lock| (drop(lock.lock()), forever()), (lock,));
        let child = child.unwrap();
        let temporary = std::env::temp_dir();
        for pid in [supervisor(), child.pid().unwrap().cast_signed(), std::process::id() as i32] {
            let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let open = links.filter_map(|e| fs::read_link(e.path()).ok()).map(|p| p.display().to_string());
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            let mapped =
                maps.lines().filter_map(|line| line.splitn(6, ' ').nth(5)).map(|p| p.trim().to_owned());
            for path in open.chain(mapped) {
                assert!(
                    !path.starts_with("/dev/shm") && !path.starts_with(&*temporary.to_string_lossy()),
                    "{path}"
                );
            }
        }
        assert_eq!(
            fs::read_dir(temporary).unwrap().count(),
            0,
            "the test's own temporary directory is empty"
        );
        child.kill().unwrap();
    });
}
