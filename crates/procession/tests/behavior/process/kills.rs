//! Signals that are sent to a process before, during and after its life.
#![allow(unsafe_code, reason = "installs signal handlers")]

use super::endings::killed_by;
use crate::family;

use procession_testkit::{isolated, proc};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Process, internals};

#[test]
fn kill_terminate_and_interrupt_work_at_any_time() {
    isolated!({
        type End = fn(&Process<()>) -> procession::Result<()>;
        let ends: [(i32, End); 3] = [(9, Process::kill), (15, Process::terminate), (2, Process::interrupt)];
        for round in 0..40 {
            for (signal, end) in ends {
                let p = sleeper();
                // The signal comes immediately, a little later, or when the process certainly runs.
                match round % 4 {
                    0 => {}
                    1 => std::thread::yield_now(),
                    2 => (0..round * 500).for_each(|_| std::hint::spin_loop()),
                    _ => until("it runs", || proc::comm(p.pid().unwrap()).as_deref() == Some("forever")),
                }
                end(&p).unwrap();
                let error = p.join().unwrap_err();
                assert!(killed_by(signal)(error.failure()), "round {round}, signal {signal}: {error}");
                end(&p).expect("signaling a process that has ended is no error");
            }
        }
    });
}

#[test]
fn a_signal_before_the_start_is_not_lost_among_many_spawns() {
    let _dog = watched();
    let crowd: Vec<_> = (0..60).map(|_| sleeper()).collect();
    crowd.iter().for_each(|p| p.terminate().unwrap());
    crowd.iter().for_each(|p| p.kill().unwrap());
    for p in crowd {
        let error = p.join().unwrap_err();
        assert!(killed_by(9)(error.failure()) || killed_by(15)(error.failure()), "{error}");
    }
}

#[test]
fn a_signal_to_an_ended_process_hits_no_other() {
    let _dog = watched();
    let ended: Vec<_> = (0..50).map(|_| Process::spawn(|| (), ()).unwrap()).collect();
    ended.iter().for_each(|p| p.join().unwrap());
    family::until_gone(&ended.iter().filter_map(|p| p.pid()).collect::<Vec<_>>());
    // These processes use the slots of the ended processes.
    let living: Vec<_> = (0..50).map(|_| sleeper()).collect();
    for p in &ended {
        p.kill().unwrap();
        p.terminate().unwrap();
        p.interrupt().unwrap();
    }
    assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1), "time passes");
    assert!(living.iter().all(Process::is_alive));
    assert!(ended.iter().all(|p| p.join() == Ok(())));
    living.iter().for_each(|p| p.kill().unwrap());
}

#[test]
fn a_process_killed_from_outside_ran_at_most_once() {
    let _dog = watched();
    for round in 0..60u32 {
        let board = Board::new();
        let once = |board: String| {
            post(&board, &format!("run {}", std::process::id()), "");
            7
        };
        let p = Process::spawn(once, (board.path(),)).unwrap();
        (0..round % 10 * 300).for_each(|_| std::hint::spin_loop());
        if let Some(pid) = p.pid() {
            send(pid, libc::SIGKILL);
        }
        let ended = p.join();
        match &ended {
            Ok(value) => assert_eq!(*value, 7),
            Err(error) => assert!(killed_by(9)(error.failure()), "{error}"),
        }
        let runs = board.names().len();
        assert!(if ended.is_ok() { runs == 1 } else { runs <= 1 }, "{ended:?} after {runs} runs");
    }
}

#[test]
fn spares_that_are_killed_are_replaced() {
    isolated!({
        let supervisor = family::supervisor();
        for n in 0..30 {
            for pid in proc::children(supervisor) {
                send(pid, libc::SIGKILL);
            }
            // The kernel may end a spare some time after the signal. If the spare is claimed before it ends,
            // `join` reports a killed process.
            match Process::spawn(|n: u32| n, (n,)).unwrap().join() {
                Ok(value) => assert_eq!(value, n),
                Err(error) => assert!(killed_by(9)(error.failure()), "{error}"),
            }
        }
        until("there are spares again", || Process::spawn(|| 1, ()).unwrap().join() == Ok(1));
        assert_eq!(family::supervisor(), supervisor);
    });
}

/// The supervisor does not know yet that its spares are dead, and no other process knows their process ids.
#[test]
fn a_spare_that_was_dead_when_it_was_claimed_is_replaced() {
    isolated!({
        let supervisor = family::supervisor();
        for builder in [Process::builder(), everything(), Process::builder().start_method(StartMethod::Spawn)]
        {
            let spares = || proc::children(supervisor).into_iter().filter(|&pid| !proc::gone(pid));
            until("there are spares, asleep", || spares().count() >= 4 && spares().all(proc::is_parked));
            send(supervisor, libc::SIGSTOP);
            until("the supervisor is stopped", || proc::state(supervisor) == Some('T'));
            let killed: Vec<i32> = spares().collect();
            killed.iter().for_each(|&pid| send(pid, libc::SIGKILL));
            until_dead(&killed);
            let spawned = std::thread::spawn(move || builder.spawn(std::process::id, ()));
            until("a spare is claimed", || (1..64).any(|slot| internals::slot_phase(slot) == 4));
            send(supervisor, libc::SIGCONT);
            let p = spawned.join().unwrap().unwrap();
            let pid = p.join().unwrap();
            assert!(!killed.contains(&pid.cast_signed()) && p.pid() == Some(pid));
        }
    });
}

/// A returned process id never changes, and even a very early kill takes effect.
#[test]
fn a_process_killed_right_after_the_spawn_is_dead() {
    isolated!({
        for _ in 0..100 {
            let p = Process::spawn(forever, ()).unwrap();
            let pid = p.pid().expect("the process has a pid");
            send(pid, libc::SIGKILL);
            let error = p.join().unwrap_err();
            assert!(killed_by(9)(error.failure()) && error.pid() == Some(pid), "{error}");
            assert_eq!(p.pid(), Some(pid));
        }
        // No replacement process runs the function under another process id.
        let supervisor = family::supervisor();
        let ghosts =
            proc::children(supervisor).into_iter().filter_map(proc::comm).filter(|name| name == "forever");
        assert_eq!(ghosts.count(), 0);
    });
}

#[test]
fn a_stopped_process_can_be_killed() {
    let _dog = watched();
    let p = sleeper();
    send(p.pid().unwrap(), libc::SIGSTOP);
    until("it is stopped", || proc::state(p.pid().unwrap()) == Some('T'));
    assert!(p.is_alive() && p.try_join() == Ok(None));
    p.kill().unwrap();
    assert!(killed_by(9)(p.join().unwrap_err().failure()));
}

#[test]
fn a_handled_signal_does_not_end_the_process() {
    extern "C" fn note(_: i32) {
        // SAFETY: a system call with a static buffer.
        unsafe { libc::write(HANDLED.load(std::sync::atomic::Ordering::SeqCst), c"x".as_ptr().cast(), 1) };
    }
    static HANDLED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    let _dog = watched();
    let board = Board::new();
    let p = Process::spawn(
        |board: String| {
            let (mut read, write) = std::io::pipe().unwrap();
            HANDLED.store(std::os::fd::AsRawFd::as_raw_fd(&write), std::sync::atomic::Ordering::SeqCst);
            // SAFETY: the handler makes one system call.
            unsafe { libc::signal(libc::SIGTERM, note as extern "C" fn(i32) as libc::sighandler_t) };
            post(&board, "ready", "");
            std::io::Read::read_exact(&mut read, &mut [0]).unwrap();
            "went on".to_string()
        },
        (board.path(),),
    );
    let p = p.unwrap();
    board.wait("ready");
    p.terminate().unwrap();
    assert_eq!(p.join().as_deref(), Ok("went on"));
}
