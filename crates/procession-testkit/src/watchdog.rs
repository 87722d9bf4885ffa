//! Ends a test that hangs, and reports where it hangs.
#![allow(unsafe_code, reason = "writes to descriptor 2 past every lock")]

use std::fmt::Write;
use std::fs;
use std::process;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::proc;

/// Guards a test. The watchdog acts unless this value is dropped in time.
#[must_use = "dropped at once, it watches nothing"]
pub struct Watchdog {
    _leash: Sender<()>,
}

/// Watches until the guard is dropped. After `limit` it prints what every thread of this process and its descendants
/// does, kills the descendants, and aborts the process.
pub fn watchdog(limit: Duration) -> Watchdog {
    let (leash, end) = channel::<()>();
    let test = thread::current().name().unwrap_or("unnamed").to_owned();
    let watch = move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            abort_test(&test, limit);
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).expect("a thread for the watchdog");
    Watchdog { _leash: leash }
}

fn abort_test(test: &str, limit: Duration) -> ! {
    let me = process::id() as i32;
    let mut text = format!("\nwatchdog: {test} is not done after {limit:?}\n{HEAD}");
    describe(&mut text, me);
    for pid in proc::descendants(me) {
        describe(&mut text, pid);
    }
    print(&text);
    proc::kill_descendants(me);
    process::abort()
}

const HEAD: &str = "    pid     tid state comm             wchan                system call\n";

/// Appends a line for each thread.
fn describe(text: &mut String, pid: i32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        let (tid, comm, wchan, syscall) = (thread.file_name(), read("comm"), read("wchan"), read("syscall"));
        let _ = writeln!(
            text,
            "{pid:7} {:>7} {:5} {:16} {wchan:20} {}",
            tid.display(),
            state.unwrap_or('?'),
            comm.trim_end(),
            syscall.trim_end(),
        );
    }
}

/// Writes to stderr directly. That bypasses libtest, which captures the output of `eprintln`, and the lock of
/// stderr, which the hanging thread may hold.
fn print(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of one slice.
        let written = unsafe { libc::write(2, rest.as_ptr().cast(), rest.len()) };
        if written <= 0 {
            return;
        }
        rest = &rest[written as usize..];
    }
}
