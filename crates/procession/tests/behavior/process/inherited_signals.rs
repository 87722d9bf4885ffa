//! Signals: children inherit masks and dispositions, and the library's children cause no signals for main.
#![allow(unsafe_code, reason = "signals, masks, limits")]

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::family::*;
use procession::Process;
use procession_testkit::{isolated, proc};

/// Returns the blocked, ignored and caught signals as the kernel reports them, one bit each.
fn signals() -> [u64; 3] {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    })
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

extern "C" fn handle(_: i32) {}

#[test]
fn a_child_has_main_s_signal_settings_at_the_first_spawn() {
    isolated!({
        let ignored = [libc::SIGUSR1, libc::SIGHUP, libc::SIGWINCH, libc::SIGRTMIN() + 3];
        let blocked = [libc::SIGUSR2, libc::SIGTERM, libc::SIGRTMIN() + 4];
        // SAFETY: ignoring and handling are valid dispositions; the set is ours to write.
        unsafe {
            ignored.iter().for_each(|&signal| assert_ne!(libc::signal(signal, libc::SIG_IGN), libc::SIG_ERR));
            libc::signal(libc::SIGALRM, handle as extern "C" fn(i32) as libc::sighandler_t);
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            blocked.iter().for_each(|&signal| assert_eq!(libc::sigaddset(&raw mut set, signal), 0));
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        let [_, main_ignores, _] = signals();
        let [blocks, ignores, catches] = Process::spawn(signals, ()).unwrap().join().unwrap();
        assert_eq!(blocks, blocked.iter().map(|&signal| bit(signal)).sum::<u64>());
        assert_eq!(ignores, main_ignores, "{ignores:x} {main_ignores:x}");
        assert!(ignores & bit(libc::SIGPIPE) != 0 && ignores & bit(libc::SIGUSR1) != 0);
        let own = bit(libc::SIGSEGV) | bit(libc::SIGBUS) | bit(libc::SIGABRT); // the library's own, to report how a process ended
        assert_eq!(catches & !own, 0, "children do not inherit handlers");
        let grandchild = || Process::spawn(signals, ()).unwrap().join().unwrap();
        assert_eq!(Process::spawn(grandchild, ()).unwrap().join(), Ok([blocks, ignores, catches]));
    });
}

#[test]
fn a_child_has_default_signal_settings_if_main_changed_none() {
    isolated!({
        let [blocks, ignores, _] = Process::spawn(signals, ()).unwrap().join().unwrap();
        // The signals that the supervisor itself ignores, and the signal that wakes the supervisor.
        let its = [1, 2, 3, 10, 12, 13, 14, 15, 17, 20, 21, 22].map(bit).iter().sum::<u64>();
        assert_eq!((blocks, ignores & its), (0, bit(libc::SIGPIPE)));
    });
}

#[test]
fn main_receives_no_signal_from_its_family() {
    isolated!({
        static SEEN: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: i32) {
            SEEN.fetch_add(1, Ordering::SeqCst);
        }
        let _dog = watched();
        // SAFETY: the handler counts.
        unsafe { libc::signal(libc::SIGCHLD, count as extern "C" fn(i32) as libc::sighandler_t) };
        let no_child = || {
            let mut status = 0;
            // SAFETY: `status` is ours to write.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            (pid, std::io::Error::last_os_error().raw_os_error())
        };
        let nobody = (-1, Some(libc::ECHILD));
        let sleepers: Vec<_> = (0..4).map(|_| sleeper()).collect();
        assert_eq!(no_child(), nobody);
        sleepers.iter().for_each(|p| p.kill().unwrap());
        sleepers.iter().for_each(|p| drop(p.join().unwrap_err()));
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        let old = supervisor();
        send(old, libc::SIGKILL);
        until("the supervisor is gone", || proc::gone(old));
        assert_eq!(no_child(), nobody);
        assert_eq!(SEEN.load(Ordering::SeqCst), 0);
        // Children that the program starts without the library work as usual.
        let mut own = Command::new("true").spawn().unwrap();
        until("the user's own child is seen", || SEEN.load(Ordering::SeqCst) == 1);
        assert!(own.wait().unwrap().success());
    });
}

#[test]
fn a_main_that_ignores_sigchld_or_reaps_any_child_can_still_join() {
    isolated!({
        // SAFETY: ignoring is a valid disposition.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        thread::spawn(|| {
            loop {
                // SAFETY: no status is asked for.
                unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) };
            }
        });
        for n in 0..20 {
            assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n));
            let p = sleeper();
            p.terminate().unwrap();
            assert!(p.join().unwrap_err().to_string().contains("signal 15"));
        }
    });
}
