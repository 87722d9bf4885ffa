//! Processes that a child of the family starts without the library. The child can wait for the processes that
//! it started. Orphans that are left behind are reaped, and are killed once the child has died.
#![allow(unsafe_code, reason = "waits for any child, limits")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Pool, Process};
use procession_testkit::{isolated, proc};

fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// Counts the children of a process that have ended but are not reaped.
fn zombies(pid: i32) -> usize {
    proc::children(pid).into_iter().filter(|&child| proc::state(child) == Some('Z')).count()
}

#[test]
fn orphans_leave_no_zombies() {
    isolated!({
        let pool = Pool::new(1).unwrap();
        let (worker, supervisor) = (pool.apply(std::process::id, ()).unwrap() as i32, supervisor());
        for _ in 0..100 {
            let leaves = || shell("(sleep 0.001 &)").status().unwrap().success();
            assert!(pool.apply(leaves, ()).unwrap());
        }
        until("every zombie is reaped", || {
            zombies(worker) + zombies(supervisor) == 0 && proc::children(worker).is_empty()
        });
        assert_eq!(pool.apply(std::process::id, ()).unwrap() as i32, worker);
    });
}

/// Runs commands that each leave an orphan behind. Returns the number of commands whose status is the
/// expected one.
fn right_statuses() -> usize {
    let right = |code: &i32| {
        let mut command = shell(&format!("(sleep 0.001 &) ; exit {code}")).spawn().unwrap();
        command.wait().unwrap().code() == Some(*code)
    };
    (1..=60).filter(right).count()
}

/// Starts three commands, each of which leaves an orphan, and waits for any child until none is left. Returns
/// for each wait whether it found one of the commands.
fn found_by_waiting_for_any() -> Vec<bool> {
    let own: Vec<i32> = (0..3).map(|_| shell("(sleep 0.01 &)").spawn().unwrap().id() as i32).collect();
    let mut found = Vec::new();
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } {
            -1 => return found,
            pid => found.push(own.contains(&pid)),
        }
    }
}

#[test]
fn a_child_gets_the_status_of_its_own_commands() {
    isolated!({
        for builder in [Process::builder(), Process::builder().start_method(StartMethod::Spawn)] {
            assert_eq!(builder.spawn(right_statuses, ()).unwrap().join(), Ok(60));
            assert_eq!(builder.spawn(found_by_waiting_for_any, ()).unwrap().join(), Ok(vec![true; 3]));
        }
    });
}

/// Ways to start a background process. Each prints the process id.
const BACKGROUND: [&str; 4] = [
    "sleep 1000 & echo $!",
    "setsid sleep 1000 & echo $!",
    "(setsid sh -c 'sleep 1000 & echo $!')",
    "exec env -i sh -c 'exec 3>&- 4>&-; cd /; setsid sleep 1000 & echo $!'",
];

/// Starts a background process of every kind. The commands that start them end.
fn in_background(board: String) {
    let pids = BACKGROUND.map(|script| {
        #[expect(clippy::zombie_processes, reason = "the waitpid below reaps it")]
        let output = shell(&format!("{script} 2>/dev/null")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output.stdout.unwrap()), &mut line).unwrap();
        line.trim().to_owned()
    });
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
    post(&board, "pids", pids.join(" "));
    wait_for(&board, "end");
}

fn pids(board: &Board) -> Vec<i32> {
    board.wait("pids").split(' ').map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn background_processes_end_with_the_process_that_started_them() {
    isolated!({
        for builder in [Process::builder(), Process::builder().start_method(StartMethod::Spawn)] {
            let (killed, returns) = (Board::new(), Board::new());
            let start =
                |board: &Board| builder.clone().daemon(true).spawn(in_background, (board.path(),)).unwrap();
            let both = (start(&killed), start(&returns));
            let (of_killed, of_returns) = (pids(&killed), pids(&returns));
            let all_live = |pids: &[i32]| pids.iter().all(|&pid| !proc::gone(pid));
            // Meanwhile, other processes start and end.
            (0..20).for_each(|n| assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n)));
            until("the supervisor has adopted the processes", || {
                of_killed.iter().all(|&pid| proc::children(supervisor()).contains(&pid))
            });
            assert!(all_live(&of_killed) && all_live(&of_returns));
            kill(&both.0);
            until_gone(&of_killed);
            assert!(all_live(&of_returns));
            post(&returns.path(), "end", "");
            both.1.join().unwrap();
            until_gone(&of_returns);
        }
    });
}

/// Starts a background process that no longer has the mark of its ancestor.
fn without_mark(board: String) {
    let mut command = shell("sleep 1000 & echo $!");
    // SAFETY: a system call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let none = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_LOCKS, &none);
            Ok(())
        });
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    child.wait().unwrap();
    post(&board, "pids", line.trim());
    wait_for(&board, "end");
}

#[test]
fn an_unmarked_orphan_ends_when_all_possible_ancestors_have_died() {
    isolated!({
        let (board, older) = (Board::new(), sleeper());
        let p = Process::builder().daemon(true).spawn(without_mark, (board.path(),)).unwrap();
        let orphan = pids(&board);
        // The supervisor sees the orphan before it recovers this sleeper.
        kill(&sleeper());
        let younger: Vec<_> = (0..10).map(|_| sleeper()).collect();
        kill(&p);
        kill(&sleeper());
        assert!(orphan.iter().all(|&pid| !proc::gone(pid)), "the orphan may descend from the older process");
        kill(&older);
        // The supervisor cannot rule out that the spares of that time were ancestors of the orphan, too.
        younger.iter().for_each(kill);
        until("the orphan is killed", || {
            kill(&sleeper());
            orphan.iter().all(|&pid| proc::state(pid).is_none())
        });
    });
}
