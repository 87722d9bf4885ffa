//! Families in hostile surroundings. In each of them, a family runs a complete life and leaves nothing
//! behind.
//!
//! Each test runs this binary again as a separate program (`family::program`). The program runs as a certain
//! user, in a namespace or group, or under a limit. An ordinary user cannot set up all of these surroundings.
//! The tests report which ones they skip.
#![allow(unsafe_code, reason = "changes the user, and maps files")]

#[path = "../family/mod.rs"]
mod family;
mod freezing;
mod life;
mod memory;
mod places;
mod signals;

use std::os::unix::process::CommandExt;
use std::time::Duration;

use family::*;
use life::live;
use places::*;
use procession::pool::TaskError;
use procession::{Dict, Error, Lock, Pool, Process, Queue};
use procession_testkit::{Watchdog, watchdog};

/// Returns a watchdog that times out before the watchdog of the test that started this program.
fn inner_dog() -> Watchdog {
    watchdog(Duration::from_secs(70))
}

/// The control: the life succeeds in ordinary surroundings. So if another test fails, its surroundings are
/// the cause.
#[test]
fn a_family_lives_in_ordinary_surroundings() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut program("here", &board), &board);
}

#[test]
fn a_family_lives_as_an_unprivileged_user() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !is_root("another user (every other test here runs as this one)") {
        return;
    }
    let program = program_at(copy_of_program(&board, "program"), "unprivileged", &board);
    let bare = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    lives(&mut by(&bare, &program), &board);
    let barer = [&bare[..], &["--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"]].concat();
    lives(&mut by(&barer, &program), &board);
}

fn user() -> (u32, u32) {
    // SAFETY: system calls without arguments.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

#[test]
fn a_family_lives_after_dropping_privileges() {
    if let Some(role) = role() {
        let _dog = inner_dog();
        if role == "late" {
            assert_eq!(Process::spawn(user, ()).unwrap().join(), Ok((0, 0)));
        }
        // SAFETY: system calls; the list of groups is empty.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
        }
        assert_eq!(Process::spawn(user, ()).unwrap().join(), Ok((NOBODY, NOBODY)));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !is_root("dropping privileges") {
        return;
    }
    let program = copy_of_program(&board, "program");
    for role in ["early", "late"] {
        lives(&mut program_at(&program, role, &board), &board);
    }
}

#[test]
fn a_family_lives_as_the_first_process_of_a_namespace() {
    if role().is_some() {
        let _dog = inner_dog();
        assert_eq!(std::process::id(), 1);
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let options = ["--pid", "--fork", "--mount-proc"];
    if can_unshare(&options) {
        lives(&mut by(&[&["unshare"], &options[..]].concat(), &program("first", &board)), &board);
    }
}

#[test]
fn a_family_lives_with_a_read_only_root_and_without_tmp() {
    if role().is_some() {
        let _dog = inner_dog();
        assert!(std::fs::write("/x", "x").is_err() && std::fs::write("/dev/shm/x", "x").is_err());
        assert!(std::fs::read_dir("/tmp").is_ok_and(|mut entries| entries.next().is_none()));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    if !can_unshare(&["--mount"]) {
        return;
    }
    let script = "mount -t tmpfs -o ro none /dev/shm && mount --bind / / && mount -o remount,ro,bind / && \
                  mount -t tmpfs -o ro none /tmp";
    lives(&mut by(&["unshare", "--mount"], &after(script, &program("read-only", &board))), &board);
}

#[test]
fn a_family_lives_with_few_descriptors() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -n 64", &program("few", &board)), &board);
}

#[test]
fn a_family_reports_that_it_has_no_descriptor() {
    if role().is_some() {
        let _dog = inner_dog();
        return live_without_descriptors();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -n 256", &program("none", &board)), &board);
}

fn live_without_descriptors() {
    life::round();
    let (lock, queue, dict) = (Lock::new().unwrap(), Queue::unbounded().unwrap(), Dict::new().unwrap());
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.apply(|| 6 * 7, ()), Ok(42));
    let endless = pool.submit(forever, ()).unwrap();
    until("it runs", || endless.state() == procession::pool::TaskState::Running);
    let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty());
    assert!(lock.lock().is_ok());
    queue.put(1).unwrap();
    assert_eq!(queue.get(), Ok(1));
    dict.insert(&1, 2).unwrap();
    assert_eq!(dict.get(&1), Ok(Some(2)));
    // An operation that needs a descriptor succeeds, or its error names the reason. No operation waits for
    // ever.
    match Process::spawn(|| 7, ()) {
        Ok(p) => assert_eq!(p.join(), Ok(7)),
        Err(e) => assert!(matches!(e, Error::Os { .. }), "{e:?}"),
    }
    endless.cancel();
    drop(taken);
    assert!(matches!(endless.get(), Err(TaskError::Cancelled)));
    assert_eq!(pool.apply(|| 6 * 7, ()), Ok(42));
    drop((lock, queue, dict, pool, endless));
    live();
}

#[test]
fn a_family_lives_with_odd_paths() {
    if role().is_some() {
        let _dog = inner_dog();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    for (kind, path) in odd_paths() {
        eprintln!("a path with {kind}");
        let copy = copy_of_program(&board, path);
        let mut command = program_at(&copy, "odd", &board);
        command.arg0("program"); // libtest wants text there
        lives(command.current_dir(copy.parent().expect("the copy is in a directory")), &board);
        std::fs::remove_file(copy).expect("the copy can be removed");
    }
}

#[test]
fn a_family_lives_after_its_files_were_removed() {
    if role().is_some() {
        let _dog = inner_dog();
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        std::fs::remove_dir(std::env::current_dir().unwrap()).unwrap();
        assert!(std::env::current_dir().is_err());
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let copy = copy_of_program(&board, "bin/program");
    let directory = copy.with_file_name("directory");
    std::fs::create_dir(&directory).expect("a directory can be made");
    lives(program_at(&copy, "removed", &board).current_dir(directory), &board);
}

#[test]
fn a_family_lives_with_odd_mapped_files() {
    if role().is_some() {
        let _dog = inner_dog();
        map_files(&std::env::var_os("ODD_FILES").expect("a directory"));
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let directory = std::path::PathBuf::from(board.path()).join("mapped");
    for (_, path) in odd_paths() {
        let file = directory.join(path);
        std::fs::create_dir_all(file.parent().expect("the file is in a directory"))
            .expect("directories can be made");
        std::fs::write(file, [0; 8192]).expect("a file can be written");
    }
    lives(program("mapped", &board).env("ODD_FILES", directory), &board);
}

/// Maps each file with an odd path as executable memory, and removes half of the files.
fn map_files(directory: &std::ffi::OsStr) {
    use std::os::fd::AsRawFd;
    for (n, (_, path)) in odd_paths().into_iter().enumerate() {
        let path = std::path::Path::new(directory).join(path);
        let file = std::fs::File::open(&path).expect("the file is there");
        let (prot, private) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 8192, prot, private, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        if n % 2 == 0 {
            std::fs::remove_file(path).expect("the file can be removed");
        }
    }
}
