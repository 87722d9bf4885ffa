//! Programs in unusual surroundings: as the first process of a container, as a subreaper, without a writable directory,
//! or without `/proc`.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr::null_mut;

use procession_testkit::{isolated, proc};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Lock, Process};

/// Runs a small family that uses several kinds of objects. Prints a line if all went well.
fn does_a_bit_of_everything() {
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let waits = |lock: Lock| lock.lock().map(drop);
    let p = Process::spawn(waits, (lock.clone(),)).unwrap();
    until("it waits", || format!("{lock:?}").contains("waiters: 1"));
    drop(held);
    assert_eq!(p.join(), Ok(Ok(())));
    let p = sleeper();
    p.kill().unwrap();
    assert!(p.join().unwrap_err().to_string().contains("signal 9"));
    let nested = || Process::spawn(|| 7, ()).unwrap().join().unwrap();
    assert_eq!(Process::spawn(nested, ()).unwrap().join(), Ok(7));
    let _daemon = sleeper();
    println!("all went well");
}

/// Runs this test in a role, in new namespaces, after `script` has run there. Returns `None` if new
/// namespaces are not permitted.
fn unshared(options: &[&str], script: &str) -> Option<String> {
    let board = Board::new();
    let program = program("unshared", &board);
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-c", &format!("{script} && echo unshared && exec \"$0\" \"$@\"")]);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().ok()?;
    let text = text_of(&output);
    if !text.contains("unshared\n") {
        eprintln!("SKIPPED: no namespaces here: {text}");
        return None;
    }
    until_nothing_is_left(&board);
    assert!(output.status.success(), "{}: {text}", output.status);
    Some(text)
}

#[test]
fn a_family_works_as_the_first_process_of_a_container() {
    let _dog = watched();
    if role().is_some() {
        assert_eq!(std::process::id(), 1);
        return does_a_bit_of_everything();
    }
    if let Some(text) = unshared(&["--pid", "--fork", "--mount-proc"], "true") {
        assert!(text.contains("all went well"), "{text}");
    }
}

#[test]
fn a_family_works_without_a_writable_directory() {
    let _dog = watched();
    if role().is_some() {
        assert!(std::fs::write("/tmp/x", "x").is_err() && std::fs::write("/dev/shm/x", "x").is_err());
        return does_a_bit_of_everything();
    }
    let script = "mount -t tmpfs -o ro none /dev/shm && mount --bind / / && mount -o remount,ro,bind / && \
                  mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp";
    if let Some(text) = unshared(&["--mount"], script) {
        assert!(text.contains("all went well"), "{text}");
    }
}

#[test]
fn a_spawn_without_proc_is_an_error() {
    let _dog = watched();
    if role().is_some() {
        assert!(Lock::new().unwrap().lock().is_ok(), "operations without another process work");
        let refused = Process::spawn(|| 1, ()).expect_err("the program cannot be found");
        println!("told: {refused}");
        return;
    }
    // A container may have several mounts at this place.
    let script = "while umount -l /proc 2> /dev/null; do :; done; ! test -e /proc/self";
    if let Some(text) = unshared(&["--mount"], script) {
        assert!(
            text.contains("told: ") && text.contains("executable") && text.contains("/proc must be mounted"),
            "{text}"
        );
    }
}

/// Runs [`does_a_bit_of_everything`] while a file with this name is mapped. Then it spawns a process that
/// executes the program again.
fn does_a_bit_beside(name: &OsStr) {
    let path = Path::new(&my_board()).join(name);
    fs::write(&path, [1; 4096]).unwrap();
    let file = fs::File::open(&path).unwrap();
    // SAFETY: a new mapping at an address that the kernel chooses.
    let at = unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    assert_ne!(at, libc::MAP_FAILED);
    does_a_bit_of_everything();
    let limited = Process::builder().start_method(StartMethod::Spawn).memory_limit(1 << 30);
    let limited = limited.env("NAME", name).current_dir(path.parent().unwrap());
    let sees = || std::env::var_os("NAME").unwrap().as_bytes().to_vec();
    assert_eq!(limited.spawn(sees, ()).unwrap().join().unwrap(), name.as_bytes());
}

/// Possible names of programs and files.
const NAMES: [&[u8]; 5] = [b"caf\xe9", b"a b", b"two\nlines", b"gone (deleted)", b"back\\slash \xff"];

#[test]
fn names_of_programs_need_not_be_text() {
    let _dog = watched();
    if let Some(role) = role() {
        let name = OsStr::from_bytes(NAMES[role.parse::<usize>().unwrap()]);
        // A file in such a directory need not exist any longer.
        std::env::set_current_dir(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        return does_a_bit_beside(name);
    }
    for (number, name) in NAMES.iter().enumerate() {
        let board = Board::new();
        let directory = Path::new(&board.path()).join("programs").join(OsStr::from_bytes(name));
        fs::create_dir_all(&directory).unwrap();
        let copy = directory.join(OsStr::from_bytes(name));
        copy_program(&copy);
        // The test harness reads its arguments as text.
        let text = succeeds(program_at(&copy, &number.to_string(), &board).arg0("program"));
        assert!(text.contains("all went well"), "{text}");
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_program_works_after_its_file_was_removed() {
    let _dog = watched();
    if let Some(role) = role() {
        let path = std::env::current_exe().unwrap();
        fs::remove_file(&path).unwrap();
        if role == "replaced" {
            fs::write(&path, "another program").unwrap();
        }
        return does_a_bit_beside(OsStr::new("data"));
    }
    for role in ["deleted", "replaced"] {
        let board = Board::new();
        let copy = Path::new(&board.path()).join("program");
        copy_program(&copy);
        let text = succeeds(&mut program_at(&copy, role, &board));
        assert!(text.contains("all went well"), "{text}");
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_program_works_after_its_directory_was_removed() {
    isolated!({
        let identity = || fs::metadata(".").map(|here| (here.dev(), here.ino())).map_err(|e| e.to_string());
        let enter_and_delete = |name: &str| {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            std::env::set_current_dir(&path).unwrap();
            fs::remove_dir(&path).unwrap();
        };
        // The supervisor starts in the first directory, and never enters the second one.
        for name in ["first", "second"] {
            enter_and_delete(name);
            let here = identity();
            assert!(here.is_ok());
            for _ in 0..6 {
                assert_eq!(Process::spawn(identity, ()).unwrap().join(), Ok(here.clone()));
            }
        }
        std::env::set_current_dir("/").unwrap();
    });
}

/// Runs a family whose child leaves a process behind. The family is in a new pid namespace, but sees the
/// `/proc` of the outer namespace. Prints a line if all went well.
fn leaves_an_orphan_behind() {
    does_a_bit_of_everything();
    let starts = || Command::new("sleep").arg("1000").spawn().unwrap().id() as i32;
    let orphan = Process::spawn(starts, ()).unwrap().join().unwrap();
    // SAFETY: a system call without pointers, which sends no signal.
    until("the process that a dead child left is killed", || unsafe { libc::kill(orphan, 0) } == -1);
    println!("the orphan is dead");
}

#[test]
fn a_proc_of_an_outer_namespace_gets_no_foreign_process_killed() {
    let _dog = watched();
    if role().is_some() {
        return leaves_an_orphan_behind();
    }
    let Some(program) = in_a_namespace_with_strangers("outer", "\"$@\"") else { return };
    assert!(program.contains("the orphan is dead"), "{program}");
    assert!(program.contains("ended with 0"), "{program}");
}

#[test]
fn a_main_whose_children_are_in_another_pid_namespace_is_refused() {
    let _dog = watched();
    if let Some(role) = role() {
        let (begin, begins) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            begins.recv().unwrap();
            Process::spawn(|| 1, ()).unwrap().join()
        });
        // SAFETY: a system call without pointers; it concerns the children of this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        let first = (role == "entered").then(|| Running::start(Command::new("sleep").arg("1000")));
        let refused =
            Process::spawn(|| 1, ()).expect_err("its process id would be that of a foreign process");
        println!("told: {refused}");
        drop(first);
        begin.send(()).unwrap();
        assert_eq!(other.join().unwrap(), Ok(1), "children of another thread are in that thread's namespace");
        return;
    }
    for role in ["unshared", "entered"] {
        let Some(text) = in_a_namespace_with_strangers(role, "\"$@\"") else { return };
        assert!(text.contains("told: ") && text.contains("pid namespace"), "{text}");
        assert!(text.contains("ended with 0"), "{text}");
    }
}

/// Runs this test by `command` in a new pid namespace, beside foreign processes, with the `/proc` of the
/// outer namespace. Fails if a foreign process does not survive. Returns `None` if new namespaces are not
/// permitted.
fn in_a_namespace_with_strangers(role: &str, command: &str) -> Option<String> {
    let board = Board::new();
    let program = program(role, &board);
    // The foreign processes have the process ids 2 to 9. A mistaken process id probably names one of them.
    let script = format!(
        "echo unshared; strangers=; for n in 1 2 3 4 5 6 7 8; do sleep 1000 & strangers=\"$strangers $!\"; done; \
         {command}; echo \"ended with $?\"; \
         for stranger in $strangers; do kill -KILL $stranger && echo killed now; done; true"
    );
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--pid", "--fork", "sh", "-c", &script, "sh"])
        .arg(program.get_program())
        .args(program.get_args());
    unshare.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = unshare.output().ok()?;
    let text = text_of(&output);
    if !text.contains("unshared\n") {
        eprintln!("SKIPPED: no namespaces here (this test needs root): {text}");
        return None;
    }
    until_nothing_is_left(&board);
    assert_eq!(text.matches("killed now").count(), 8, "every foreign process survived: {text}");
    Some(text)
}

#[test]
fn a_subreaper_main_adopts_no_orphan_of_the_family() {
    isolated!({
        // SAFETY: a system call without pointers.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        for _ in 0..3 {
            let children: Vec<_> = (0..4).map(|_| sleeper()).collect();
            let old = supervisor();
            send(old, libc::SIGKILL);
            children.iter().for_each(|p| drop(p.join().unwrap_err()));
            until("a new family serves", || Process::spawn(|| 1, ()).is_ok_and(|p| p.join() == Ok(1)));
            let me = std::process::id() as i32;
            let zombies = || {
                let children = proc::children(me).into_iter().filter(|&pid| proc::state(pid) == Some('Z'));
                children
                    .map(|pid| format!("{pid} {}", proc::comm(pid).unwrap_or_default()))
                    .collect::<Vec<_>>()
            };
            until(&format!("{:?} is left", zombies()), || zombies().is_empty());
        }
    });
}
