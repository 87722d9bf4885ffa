//! Families whose memory is locked or limited.
#![allow(unsafe_code, reason = "locks memory, and sets limits")]

use super::inner_dog;
use crate::family::*;
use crate::life::{self, live};
use crate::places::*;
use procession::{Dict, Error, Lock, Process};

/// Returns the number of KiB in this line of `/proc/self/status`.
fn status_kib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process's status");
    let line = status.lines().find_map(|l| l.strip_prefix(line)).expect("the line is there");
    line.trim_start_matches(':')
        .split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

#[test]
fn a_family_lives_with_all_memory_locked() {
    if role().is_some() {
        let _dog = inner_dog();
        // SAFETY: a system call.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            eprintln!("SKIPPED: so much memory may not be locked here");
            return println!("{}", life::LAST_WORD);
        }
        let before = status_kib("VmRSS");
        drop(Lock::new().unwrap());
        let more = status_kib("VmRSS") - before;
        assert!(more < 32 << 10, "the first handle took {more} KiB of memory");
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    lives(&mut after("ulimit -v 1200000", &program("locked", &board)), &board);
}

#[test]
fn a_family_lives_with_a_small_limit_on_locked_memory() {
    if role().is_some() {
        let _dog = inner_dog();
        // SAFETY: a system call. From now on, every mapping counts against the limit.
        assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0);
        let lock = Lock::new().unwrap();
        drop(lock.lock().unwrap());
        let (_, bytes, _) = procession::internals::mapping();
        assert!(bytes > 64 << 20, "the limit on locked memory made the shared memory small: {bytes} bytes");
        // A family also needs threads, and their stacks may exceed the limit.
        match Process::spawn(|| 7, ()) {
            Ok(p) => assert_eq!(p.join(), Ok(7)),
            Err(e) => assert!(matches!(e, Error::Os { .. }), "{e:?}"),
        }
        return println!("{}", life::LAST_WORD);
    }
    let (_dog, board) = (watched(), Board::new());
    let little = program_at(copy_of_program(&board, "program"), "little", &board);
    // The limit does not bind root.
    let nobody = by(&["setpriv", "--reuid", "65534", "--clear-groups"], &little);
    let mut limited = after("ulimit -l 8000", if is_root("another user") { &nobody } else { &little });
    lives(&mut limited, &board);
}

const GROUP_BYTES: u64 = 250 << 20;

#[test]
fn a_family_lives_in_a_small_memory_group() {
    if role().is_some() {
        let _dog = inner_dog();
        fill_up();
        return live();
    }
    let (_dog, board) = (watched(), Board::new());
    let bytes = GROUP_BYTES.to_string();
    let first = || Group::of_version_1("memory").filter(|group| group.set("memory.limit_in_bytes", &bytes));
    let second = || Group::of_version_2().filter(|group| group.set("memory.max", &bytes));
    match first().or_else(second) {
        Some(group) => drop(lives(&mut group.enter(&program("small", &board)), &board)),
        None => eprintln!("SKIPPED: no memory group can be made here"),
    }
}

/// Fills the arena. This must fail with an error before the kernel kills this process.
fn fill_up() {
    let dict = Dict::<u64, Vec<u8>>::new().unwrap();
    let full = (0..).find_map(|n| dict.insert(&n, vec![1; 1 << 20]).err());
    assert!(matches!(full, Some(Error::Full(_))), "{full:?}");
}
