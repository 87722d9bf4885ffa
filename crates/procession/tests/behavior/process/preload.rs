//! A preload function builds data once. Every process has the data, but it takes up memory only once. If the
//! function fails, `preload` returns an error.
#![allow(unsafe_code, reason = "ends processes by every means that C has")]

use std::fs;
use std::io::Write;
use std::sync::OnceLock;

use crate::family::*;
use procession::process::{StartMethod, preload};
use procession::{Error, Failure, Lock, Process};
use procession_testkit::{Audit, isolated, proc};

static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

fn build(len: u64) {
    TABLE.get_or_init(|| (0..len).map(|n| n * n).collect());
}

fn look(at: usize) -> Option<u64> {
    TABLE.get().map(|table| table[at])
}

#[track_caller]
fn at_12() -> Option<u64> {
    Process::spawn(look, (12,)).unwrap().join().unwrap()
}

#[test]
fn preloaded_data_is_in_every_process_except_main() {
    isolated!({
        preload(build, (1000,)).unwrap();
        let audit = Audit::start(None);
        for _ in 0..30 {
            assert_eq!(at_12(), Some(144));
        }
        let nested = || Process::spawn(look, (12,)).unwrap().join().unwrap();
        assert_eq!(Process::spawn(nested, ()).unwrap().join(), Ok(Some(144)));
        assert_eq!(look(12), None);
        let fresh = Process::builder().start_method(StartMethod::Spawn).spawn(look, (12,));
        assert_eq!(fresh.unwrap().join(), Ok(None));
        let lock = Lock::new().unwrap();
        assert_eq!(Process::spawn(|lock: Lock| lock.lock().is_ok(), (lock,)).unwrap().join(), Ok(true));
        // The processes of the next supervisor have the table, too.
        let old = supervisor();
        send(old, libc::SIGKILL);
        spawn_again(old);
        assert_eq!(at_12(), Some(144));
        // No template or watcher process is left.
        let names: Vec<_> =
            proc::descendants(std::process::id() as i32).into_iter().filter_map(proc::comm).collect();
        assert!(names.iter().all(|name| name != "procession-pre"), "{names:?}");
        send(supervisor(), libc::SIGKILL);
        until("every process has ended", || proc::descendants(std::process::id() as i32).is_empty());
        audit.assert_back();
    });
}

/// Returns the private memory of a process plus its share of the memory that it shares with others, in KiB.
fn share_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

const LEN: u64 = (200 << 20) / 8;
const TABLE_KIB: u64 = 200 << 10;

fn build_large(len: u64) {
    TABLE.get_or_init(|| vec![1; len as usize]);
}

/// Builds the table unless it already exists in this process, and reads every page of it.
fn look_at_all(board: String) -> u64 {
    build_large(LEN);
    let sum: u64 = TABLE.get().unwrap().iter().step_by(512).sum();
    post(&board, &format!("looked {}", std::process::id()), sum);
    wait_for(&board, "go");
    sum
}

/// Returns the total memory of this many processes, in KiB.
fn all_shares(count: usize) -> u64 {
    let board = Board::new();
    let all: Vec<_> = (0..count).map(|_| Process::spawn(look_at_all, (board.path(),)).unwrap()).collect();
    until("all processes have read the table", || board.names().len() == count);
    let shares = all.iter().map(|p| share_kib(p.pid().unwrap())).sum();
    post(&board.path(), "go", "");
    let sums: Vec<_> = all.iter().map(|p| p.join().unwrap()).collect();
    assert!(sums.windows(2).all(|two| two[0] == two[1]));
    shares
}

#[test]
fn two_processes_that_build_a_table_take_its_memory_twice() {
    isolated!({
        let together = all_shares(2);
        assert!(together > 2 * TABLE_KIB, "2 processes have {together} KiB");
    });
}

#[test]
fn twenty_processes_share_a_preloaded_table_of_200_mib() {
    isolated!({
        preload(build_large, (LEN,)).unwrap();
        let together = all_shares(20);
        println!("20 processes have {together} KiB");
        assert!(together < TABLE_KIB + TABLE_KIB / 2, "20 processes have {together} KiB");
    });
}

#[test]
fn a_failed_preload_is_an_error_and_can_be_retried() {
    isolated!({
        let failure = |error: Error| match error {
            Error::Process(error) => error.failure().clone(),
            other => panic!("{other}"),
        };
        let line = line!() + 1;
        let error = preload(|n: u64| -> () { panic!("no {n}") }, (3,)).unwrap_err();
        let Failure::Panicked { message, location, .. } = failure(error) else { panic!("it panicked") };
        assert!(message == "no 3" && location.starts_with(&format!("{}:{line}:", file!())), "{location}");
        assert_eq!(
            failure(preload(|| -> () { std::process::exit(4) }, ()).unwrap_err()),
            Failure::Exited { code: 4 }
        );
        assert_eq!(
            failure(preload(|| -> () { std::process::exit(0) }, ()).unwrap_err()),
            Failure::Exited { code: 0 }
        );
        let aborts = failure(preload(|| -> () { std::process::abort() }, ()).unwrap_err());
        assert!(matches!(aborts, Failure::Killed { signal: libc::SIGABRT, .. }), "{aborts}");
        let error = preload(|| Err::<(), _>("no".to_string()), ()).unwrap_err();
        assert!(matches!(&error, Error::Other(e) if e.message().ends_with("Err(\"no\")")), "{error}");
        let error = preload(|lock: Lock| drop(lock), (Lock::new().unwrap(),)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        let inside = || -> Result<(), String> {
            let refused = Lock::new().is_err() && Process::spawn(|| (), ()).is_err();
            if refused { Ok(()) } else { Err("it was not refused".into()) }
        };
        preload(inside, ()).unwrap();
        assert_eq!(Process::spawn(|| 2, ()).unwrap().join(), Ok(2));
        let twice = preload(build, (1,)).unwrap_err();
        assert!(matches!(&twice, Error::Unsupported(text) if text.contains("once")), "{twice}");
        assert_eq!(at_12(), None);
    });
}

#[test]
fn a_preload_after_the_first_spawn_is_an_error() {
    isolated!({
        let child = || preload(build, (1,)).unwrap_err();
        let error = Process::spawn(child, ()).unwrap().join().unwrap();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        let error = preload(build, (1,)).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert_eq!(at_12(), None);
    });
}

/// The preload function leaves behind threads, output that it did not flush, and an exit handler.
#[test]
fn threads_and_output_of_the_preload_function_are_not_inherited() {
    extern "C" fn at_exit() {
        // SAFETY: a system call with a static buffer.
        unsafe { libc::write(1, c"[exit]".as_ptr().cast(), 6) };
    }
    let _dog = watched();
    if role().is_some() {
        let leaves = || {
            std::thread::spawn(forever);
            std::thread::spawn(|| {
                loop {
                    drop(std::hint::black_box(vec![1; 1000]));
                }
            });
            print!("[printed]");
            // SAFETY: registers a function of this program.
            unsafe { libc::atexit(at_exit) };
            std::mem::forget(fs::File::open("/dev/zero").unwrap());
        };
        preload(leaves, ()).unwrap();
        for _ in 0..3 {
            let threads = || fs::read_dir("/proc/self/task").unwrap().count();
            assert_eq!(Process::spawn(threads, ()).unwrap().join(), Ok(1));
        }
        let threads = fs::read_dir(format!("/proc/{}/task", supervisor())).unwrap().count();
        assert_eq!(threads, 1, "the supervisor has no other thread");
        return std::io::stdout().flush().unwrap();
    }
    let board = Board::new();
    let text = succeeds(&mut program("main", &board));
    assert_eq!((text.matches("[printed]").count(), text.matches("[exit]").count()), (1, 4), "{text}");
    until_nothing_is_left(&board);
}

/// One process is killed while the template runs. No process is left, and main gets an error.
#[test]
fn a_death_during_the_preload_is_reported() {
    let _dog = watched();
    if let Some(role) = role() {
        let board = my_board();
        let slow = |board: String| {
            post(&board, "template", std::process::id());
            post(&board, "watcher", std::os::unix::process::parent_id());
            wait_for(&board, "never");
        };
        let victim = std::thread::spawn({
            let board = board.clone();
            move || {
                let pid: i32 = wait_for(&board, if role == "template" { "template" } else { "watcher" })
                    .parse()
                    .unwrap();
                if role == "main" {
                    send(std::process::id() as i32, libc::SIGKILL);
                }
                send(pid, libc::SIGKILL);
            }
        });
        let error = preload(slow, (board,)).unwrap_err();
        victim.join().unwrap();
        println!("told: {error}");
        assert_eq!(Process::spawn(|| 3, ()).unwrap().join(), Ok(3));
        return;
    }
    for (role, told) in [("template", "killed by signal 9"), ("watcher", "supervisor was killed")] {
        let board = Board::new();
        let text = succeeds(&mut program(role, &board));
        assert!(text.contains("told: ") && text.contains(told), "{text}");
        until_nothing_is_left(&board);
    }
    let board = Board::new();
    let mut main = Running::start(&mut program("main", &board));
    main.end();
    until_nothing_is_left(&board);
}
