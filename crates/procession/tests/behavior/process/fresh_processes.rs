//! `StartMethod::Spawn`: processes that execute the program again.
#![allow(unsafe_code, reason = "asks the kernel, a constructor")]

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Failure, Lock, Process};
use procession_testkit::{Audit, isolated, proc};

/// The address of this static shows where the program is loaded in this process.
static HERE: AtomicBool = AtomicBool::new(false);

#[test]
fn a_fresh_process_executes_the_program_again() {
    isolated!(env = [("FROM_OUTSIDE", "a")], {
        HERE.store(true, Ordering::SeqCst);
        let fresh = || Process::builder().start_method(StartMethod::Spawn);
        let look = || {
            let at = &raw const HERE as usize;
            (
                HERE.load(Ordering::SeqCst),
                at,
                std::env::vars().collect::<Vec<_>>(),
                std::env::args().count(),
                fs::read_dir("/proc/self/fd").unwrap().count(),
            )
        };
        let (_, forked_at, env, args, fds) = Process::spawn(look, ()).unwrap().join().unwrap();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let p = fresh().name("fresh").spawn(look, ()).unwrap();
            let (here, at, its_env, its_args, its_fds) = p.join().unwrap();
            assert_eq!((here, its_args, its_fds), (false, args, fds));
            assert_eq!(its_env, env, "exactly main's environment, without private variables");
            places.insert(at);
        }
        assert!(
            places.len() > 1 || places.contains(&forked_at),
            "addresses are randomized again where the kernel does that: {places:?}"
        );
        // Uses operations that every process can use.
        let lock = Lock::new().unwrap();
        let nested = |lock: Lock| {
            let _held = lock.lock().unwrap();
            let me = procession::current_process().unwrap();
            let below =
                Process::builder().start_method(StartMethod::Spawn).spawn(|n: u64| n * 2, (21,)).unwrap();
            (below.join().unwrap(), me.name(), procession::parent_process().unwrap().map(|p| p.name()))
        };
        let p = fresh().name("outer").spawn(nested, (lock.clone(),)).unwrap();
        assert_eq!(p.join(), Ok((42, "outer".into(), Some("main".into()))));
        let panics = fresh().spawn(|| -> () { panic!("no") }, ()).unwrap().join().unwrap_err();
        assert!(matches!(panics.failure(), Failure::Panicked { message, .. } if message == "no"), "{panics}");
        let holder = fresh()
            .spawn(
                |lock: Lock| {
                    std::mem::forget(lock.lock());
                    forever()
                },
                (lock.clone(),),
            )
            .unwrap();
        until("the lock is held", || lock.try_lock().is_err());
        holder.kill().unwrap();
        holder.join().unwrap_err();
        assert!(lock.lock_or_recover().unwrap().recovered_from().is_some());
    });
}

#[test]
fn a_fresh_process_has_its_options_and_its_signals() {
    isolated!({
        let all = everything().start_method(StartMethod::Spawn).process_group(0);
        let look = || {
            println!("said");
            let line = std::io::read_to_string(std::io::stdin()).unwrap();
            // SAFETY: system calls without pointers.
            let (nice, group, pid) =
                unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::getpgid(0), libc::getpid()) };
            let here = std::env::current_dir().unwrap().display().to_string();
            (line, std::env::var("A").unwrap(), here, nice, group == pid, procession::cpu_count())
        };
        let p = all.spawn(look, ()).unwrap();
        p.take_stdin().unwrap().write_all(b"heard").unwrap();
        assert_eq!(p.join(), Ok(("heard".into(), "1".into(), "/".into(), 1, true, 1)));
        assert_eq!(std::io::read_to_string(p.take_stdout().unwrap()).unwrap(), "said\n");
        let fresh = Process::builder().start_method(StartMethod::Spawn).daemon(true);
        let p = fresh.spawn(forever, ()).unwrap();
        p.terminate().unwrap();
        assert!(matches!(p.join().unwrap_err().failure(), Failure::Killed { signal: 15, .. }));
        refused(&fresh.clone().current_dir("/no/such"), "/no/such");
    });
}

/// The environment variable that says how a process ends in its constructor when it executes the program.
const DIES: &str = "DIES_IN_ITS_CONSTRUCTOR";

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = die_if_asked;

extern "C" fn die_if_asked() {
    match std::env::var(DIES).as_deref() {
        Ok("killed") => send(std::process::id() as i32, libc::SIGKILL),
        // SAFETY: ends the process.
        Ok("exits") => unsafe { libc::_exit(3) },
        _ => {}
    }
}

/// Fresh processes end while they execute the program. Each end is reported, and no process is spawned as a
/// replacement.
#[test]
fn the_end_of_a_fresh_process_before_its_function_is_reported() {
    isolated!({
        let old = supervisor();
        let audit = Audit::start(None);
        let fresh = || Process::builder().start_method(StartMethod::Spawn);
        for (how, words) in [("killed", "signal 9"), ("exits", "ended with code 3 before its function")] {
            for builder in [fresh(), everything().start_method(StartMethod::Spawn)] {
                let error = builder.env(DIES, how).spawn(|| 7, ()).map(drop).unwrap_err();
                assert!(error.to_string().contains(words), "{error}");
            }
            assert_eq!(fresh().env(DIES, "not").spawn(|| 7, ()).unwrap().join(), Ok(7));
        }
        send(old, libc::SIGKILL);
        spawn_again(old);
        send(supervisor(), libc::SIGKILL);
        until("all processes are gone", || proc::descendants(std::process::id() as i32).is_empty());
        audit.assert_back();
    });
}
