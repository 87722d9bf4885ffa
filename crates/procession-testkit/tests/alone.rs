//! `isolated!` and the watchdog.
#![allow(unsafe_code, reason = "reads a limit")]

use std::panic;
use std::process::{Command, Stdio};
use std::time::Duration;

use procession_testkit::isolated::Isolation;
use procession_testkit::{isolated, watchdog};

/// Returns a number that differs between the outer and the inner run of a test.
fn process() -> u32 {
    std::process::id()
}

#[test]
fn the_body_runs_in_another_process() {
    isolated!(env = [("OUTER", process().to_string())], {
        let outer: u32 = std::env::var("OUTER").unwrap().parse().unwrap();
        assert_eq!(outer, std::os::unix::process::parent_id());
    });
}

#[test]
fn a_panic_of_the_body_fails_the_test() {
    let failed = panic::catch_unwind(|| isolated!({ panic!("on purpose, seen below") }));
    // The inner run catches the panic here as well, so it must panic again.
    assert!(failed.is_err());
    if std::env::var("TESTKIT_ISOLATED").is_ok() {
        panic::resume_unwind(failed.unwrap_err());
    }
}

#[test]
fn limits_hold_in_the_body() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 64)], env = [("K", "V")], {
        // SAFETY: `limit` is ours to write.
        let limit = unsafe {
            let mut limit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit
        };
        assert_eq!((limit.rlim_cur, limit.rlim_max), (64, 64));
        assert_eq!(std::env::var("K").unwrap(), "V");
    });
}

/// A script may start the tests in the background, where some signals are ignored.
#[test]
fn the_inner_run_has_default_signal_settings() {
    /// The ignored and the blocked signals, as bits.
    fn signals() -> [u64; 2] {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        ["SigIgn:", "SigBlk:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        })
    }
    const IGNORED: [i32; 5] = [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1];
    let ignored: u64 = IGNORED.iter().map(|signal| 1 << (signal - 1)).sum();
    let blocked: u64 = 1 << (libc::SIGUSR2 - 1);
    if std::env::var("DEAF").is_err() {
        let name = "the_inner_run_has_default_signal_settings";
        let mut deaf = Command::new(std::env::current_exe().unwrap());
        deaf.args([name, "--exact"]).env("DEAF", "1");
        // SAFETY: system calls between fork and exec.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut deaf, || {
                for signal in IGNORED {
                    libc::signal(signal, libc::SIG_IGN);
                }
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR2);
                libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                Ok(())
            })
        };
        let run = deaf.output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let [is_ignored, is_blocked] = signals();
    let deaf = is_ignored & ignored == ignored && is_blocked & blocked == blocked;
    assert!(deaf || std::env::var("TESTKIT_ISOLATED").is_ok());
    isolated!({
        let [is_ignored, is_blocked] = signals();
        assert_eq!((is_ignored & ignored, is_blocked), (0, 0));
    });
}

#[test]
fn a_body_that_takes_too_long_is_killed() {
    let slow = || isolated!(time = Duration::from_millis(300), { hang() });
    let error = panic::catch_unwind(slow).expect_err("the body times out");
    assert!(error.downcast_ref::<String>().unwrap().contains("not done after 300ms"));
}

fn hang() -> ! {
    Command::new("sleep").arg("1000").status().unwrap();
    unreachable!("the inner run is killed")
}

mod deeper {
    #[test]
    fn a_test_in_a_module_is_found() {
        procession_testkit::isolated!({});
    }
}

#[test]
fn an_inner_run_without_the_test_fails() {
    fn here() {}
    let other_thread = || panic::catch_unwind(|| Isolation::of(&here).run());
    let unknown = std::thread::Builder::new().name("no such test".into()).spawn(other_thread).unwrap();
    assert!(unknown.join().unwrap().is_err());
}

#[test]
fn the_watchdog_reports_hanging_threads_and_ends_all() {
    if std::env::var("BITE").is_ok() {
        let _guard = watchdog(Duration::from_millis(300));
        hang();
    }
    let name = "the_watchdog_reports_hanging_threads_and_ends_all";
    let binary = std::env::current_exe().unwrap();
    let inner = Command::new(binary).args([name, "--exact"]).env("BITE", "1").stdin(Stdio::null()).output();
    let output = inner.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("watchdog: {name} is not done after 300ms")), "{text}");
    let sleeper = text.lines().find(|line| line.contains(" sleep ")).expect("the child is shown");
    let pid: i32 = sleeper.split_ascii_whitespace().next().unwrap().parse().unwrap();
    assert!(procession_testkit::proc::gone(pid), "the child is killed");
}

#[test]
fn a_dropped_watchdog_does_not_act() {
    isolated!({
        drop(watchdog(Duration::from_millis(50)));
        let _other = watchdog(Duration::from_secs(60));
        // Sleeps beyond the limit of the dropped watchdog.
        std::thread::sleep(Duration::from_millis(100));
    });
}
