//! A process dies while options are applied to a new process. Nothing is leaked, and the other processes
//! continue to work.
#![allow(unsafe_code, reason = "kill")]

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Error, Failure, Process};
use procession_testkit::{Audit, Mapping, isolated, proc};

#[test]
fn nothing_leaks() {
    isolated!({
        let (addr, len, fd) = procession::internals::mapping();
        let round = || {
            let p = everything().spawn(|a: Vec<u8>| a.len(), (vec![1; 5000],)).unwrap();
            assert_eq!(p.join(), Ok(5000));
            refused(&everything().current_dir("/no/such"), "/no/such");
            refused(&everything().nice(20), "nice");
        };
        (0..20).for_each(|_| round());
        let audit = Audit::start(Some(Mapping { addr, len, fd })).allow_bytes(256 << 10);
        let census = procession::internals::census();
        (0..100).for_each(|_| round());
        audit.assert_back();
        until("every block is freed", || procession::internals::census().blocks.len() <= census.blocks.len());
        assert!(procession::internals::census().objects <= census.objects);
    });
}

/// Children are killed while their options are applied. The error of `spawn` or `join` says how the child
/// ended.
#[test]
fn the_death_of_a_child_before_its_function_is_reported() {
    isolated!({
        let supervisor = supervisor();
        static DONE: AtomicBool = AtomicBool::new(false);
        let killer = std::thread::spawn(move || {
            let mut killed = 0u32;
            while !DONE.load(Ordering::SeqCst) {
                for pid in proc::children(supervisor) {
                    send(pid, libc::SIGKILL);
                    killed += 1;
                }
                // Some children must survive their preparation, so there are pauses between the kills.
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            killed
        });
        let (mut ran, mut failed) = (0, 0);
        while ran < 40 || failed < 5 {
            match everything().spawn(|| 7, ()) {
                Ok(p) => match p.join() {
                    Ok(value) => {
                        assert_eq!(value, 7);
                        ran += 1;
                    }
                    Err(e) => {
                        assert!(matches!(e.failure(), Failure::Killed { signal: 9, .. }), "{e}");
                        failed += 1;
                    }
                },
                Err(e) => {
                    assert!(e.to_string().contains("killed by signal 9"), "{e}");
                    failed += 1;
                }
            }
        }
        DONE.store(true, Ordering::SeqCst);
        assert!(killer.join().unwrap() > 5);
        let audit = Audit::start(None);
        everything().spawn(|| (), ()).unwrap().join().unwrap();
        audit.assert_back();
    });
}

/// Spawners are killed while they spawn processes with options. The processes that a spawner began to spawn
/// end, too.
#[test]
fn spawners_that_die_leave_no_process() {
    isolated!({
        let spawner = || -> () {
            loop {
                let p = everything().spawn(|| (), ()).unwrap();
                assert_eq!(p.join(), Ok(()));
            }
        };
        let audit_after = |rounds: u32| {
            for round in 0..rounds {
                let p = Process::builder().name("spawner").daemon(true).spawn(spawner, ()).unwrap();
                until("it spawns", || {
                    p.pid().is_some_and(|pid| proc::comm(pid).as_deref() == Some("spawner"))
                });
                (0..round * 20_000).for_each(|_| std::hint::spin_loop());
                kill(&p);
            }
        };
        audit_after(5);
        let supervisor = supervisor();
        let fds = || fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count();
        let before = (procession::internals::census().objects, fds());
        audit_after(40);
        until("nothing is left", || {
            let living = proc::children(supervisor)
                .into_iter()
                .filter(|&pid| proc::comm(pid).as_deref() != Some("procession-sup"));
            living.count() == 0 && procession::internals::census().objects <= before.0
        });
        assert_eq!(fds(), before.1);
        assert_eq!(everything().spawn(|| 1, ()).unwrap().join(), Ok(1));
    });
}

#[test]
fn the_supervisor_may_die_while_options_are_applied() {
    isolated!({
        for round in 0..8u32 {
            let old = supervisor();
            let killer = std::thread::spawn(move || {
                (0..round * 30_000).for_each(|_| std::hint::spin_loop());
                send(old, libc::SIGKILL);
            });
            let lost = loop {
                match everything().spawn(|| 7, ()).map(|p| p.join()) {
                    Ok(Ok(7)) => {}
                    Ok(Err(e)) if e.failure() == &Failure::FamilyLost => break true,
                    Err(Error::FamilyLost) => break true,
                    other => panic!("{other:?}"),
                }
                if killer.is_finished() {
                    break false;
                }
            };
            killer.join().unwrap();
            println!("round {round}: lost {lost}");
            spawn_again(old);
        }
        let fds = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(fds < 12, "{fds} descriptors are open");
    });
}

#[test]
fn main_may_die_while_options_are_applied() {
    let _dog = watched();
    if role().is_some() {
        loop {
            everything().spawn(|| (), ()).unwrap().join().unwrap();
            let _ = std::io::stdout().as_raw_fd();
        }
    }
    for round in 0..6u32 {
        let board = Board::new();
        let mut main = Running::start(&mut program("main", &board));
        until("it spawns", || members(&board).len() > 3);
        (0..round * 100_000).for_each(|_| std::hint::spin_loop());
        send(main.pid(), libc::SIGKILL);
        main.end();
        until_nothing_is_left(&board);
    }
}

/// A program that a process started ends with that process, however it was started and whatever process group
/// it is in.
#[test]
#[expect(clippy::zombie_processes, reason = "the test is about children that no process waits for")]
fn programs_that_a_dead_process_started_end_too() {
    isolated!({
        let starts = |board: String| -> () {
            let sleep = |word: &str| {
                let script = format!("setsid sleep 1000 & echo $!; exec {word}");
                let mut shell = std::process::Command::new("sh");
                let mut shell =
                    shell.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
                let mut line = String::new();
                std::io::BufRead::read_line(
                    &mut std::io::BufReader::new(shell.stdout.take().unwrap()),
                    &mut line,
                )
                .unwrap();
                (shell.id(), line.trim().to_owned())
            };
            let ((one, other), (_, orphan)) = (sleep("sleep 1000"), sleep("true"));
            post(&board, "pids", format!("{one} {other} {orphan}"));
            forever()
        };
        for builder in [
            Process::builder(),
            Process::builder().process_group(0),
            Process::builder().start_method(StartMethod::Spawn),
        ] {
            let board = Board::new();
            let p = builder.daemon(true).spawn(starts, (board.path(),)).unwrap();
            let pids: Vec<i32> = board.wait("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
            assert_eq!(pids.len(), 3);
            kill(&p);
            until_gone(&pids);
        }
    });
}
