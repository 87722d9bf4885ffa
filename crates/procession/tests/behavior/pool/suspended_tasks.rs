//! A limit of a task is time in which its worker could run: a worker, a group or a whole family is suspended for longer
//! than the limit, and the task is none the worse. A task that overruns its limit is killed all the same.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::family::*;
use procession::internals::{self, Rule};
use procession::pool::TaskError;
use procession::{Pool, Queue};
use procession_testkit::{freeze, isolated, proc};

/// What a task of this limit does takes a moment, on a busy machine a second.
const LIMIT: Duration = Duration::from_secs(3);
const SUSPENDED: Duration = Duration::from_secs(4);

/// Returns when so much time has passed.
fn let_pass(time: Duration) {
    let late = Instant::now() + time;
    proc::wait_until("time has passed", LONG, || late < Instant::now());
}

/// Waits to be told to end; the test suspends it meanwhile.
fn waits(board: String, name: String) -> u32 {
    post(&board, &name, std::process::id());
    wait_for(&board, "go");
    7
}

#[test]
fn a_worker_that_is_stopped_alone_has_its_time() {
    let _dog = watched();
    let (pool, board) = (Pool::new(2).unwrap().with_task_timeout(LIMIT).unwrap(), Board::new());
    let task = pool.submit(waits, (board.path(), "begun".into())).unwrap();
    let worker = board.number("begun");
    send(worker, libc::SIGSTOP);
    let_pass(SUSPENDED);
    assert!(!task.is_done());
    assert_eq!(pool.apply(|| 1, ()), Ok(1), "the other worker goes on");
    send(worker, libc::SIGCONT);
    post(&board.path(), "go", "");
    assert_eq!(task.get(), Ok(7));
}

/// The control.
#[test]
fn the_time_of_a_stopped_worker_is_up_when_suspended_time_counts() {
    isolated!({
        internals::break_rule(Rule::SuspensionExcluded);
        let limit = Duration::from_millis(200);
        let (pool, board) = (Pool::new(1).unwrap().with_task_timeout(limit).unwrap(), Board::new());
        let task = pool.submit(
            |board: String| {
                post(&board, "begun", std::process::id());
                send(std::process::id() as i32, libc::SIGSTOP);
            },
            (board.path(),),
        );
        assert!(matches!(task.unwrap().get(), Err(TaskError::TimedOut { .. })));
    });
}

#[test]
fn a_worker_that_was_stopped_is_killed_when_it_takes_too_long() {
    let _dog = watched();
    let limit = Duration::from_millis(500);
    let (pool, board) = (Pool::new(1).unwrap().with_task_timeout(limit).unwrap(), Board::new());
    let endless = |board: String| {
        post(&board, "begun", std::process::id());
        forever();
    };
    let task = pool.submit(endless, (board.path(),)).unwrap();
    let worker = board.number("begun");
    for _ in 0..5 {
        send(worker, libc::SIGSTOP);
        let_pass(Duration::from_millis(200));
        send(worker, libc::SIGCONT);
    }
    assert!(matches!(task.get(), Err(TaskError::TimedOut { .. })));
    assert_eq!(pool.apply(|| 1, ()), Ok(1));
}

/// A program with one task; what came of it is posted.
fn program_with_a_task() {
    let pool = Pool::builder().workers(1).task_timeout(LIMIT).build().unwrap();
    let result = pool.apply(waits, (my_board(), "begun".into()));
    post(&my_board(), "result", format!("{result:?}"));
}

/// Suspends that program in one way and resumes it in another. What came of its task?
fn suspended(suspend: impl Fn(&Board, i32), resume: impl Fn(i32)) -> String {
    let board = Board::new();
    // In the group of a child of ours, so that the kernel does not treat it as an orphaned one.
    let companion = Running::start(Command::new("sleep").arg("1000").process_group(0));
    let mut program = program("main", &board);
    program.process_group(companion.pid()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut main = Running::start(&mut program);
    board.wait("begun");
    suspend(&board, companion.pid());
    let_pass(SUSPENDED);
    resume(companion.pid());
    post(&board.path(), "go", "");
    let result = board.wait("result");
    main.end();
    until_nothing_is_left(&board);
    result
}

#[test]
fn a_family_whose_group_is_stopped_has_its_time() {
    let _dog = watched();
    if role().is_some() {
        return program_with_a_task();
    }
    let stop = |board: &Board, group: i32| {
        let worker = board.number("begun");
        let supervisor = proc::ppid(worker).expect("it has a parent");
        send(-group, libc::SIGSTOP);
        until("both are stopped", || [worker, supervisor].iter().all(|&pid| proc::state(pid) == Some('T')));
    };
    assert_eq!(suspended(stop, |group| send(-group, libc::SIGCONT)), "Ok(7)");
}

/// The supervisor ignores Ctrl-Z.
#[test]
fn a_family_that_is_stopped_by_the_keyboard_has_its_time() {
    let _dog = watched();
    if role().is_some() {
        return program_with_a_task();
    }
    let stop = |board: &Board, group: i32| {
        send(-group, libc::SIGTSTP);
        let worker = board.number("begun");
        until("the worker is stopped", || proc::state(worker) == Some('T'));
    };
    assert_eq!(suspended(stop, |group| send(-group, libc::SIGCONT)), "Ok(7)");
}

/// A control group that can be frozen.
struct Freezer {
    directory: PathBuf,
    file: &'static str,
    states: [&'static str; 2],
}

impl Freezer {
    /// Makes one, if this user may.
    fn new() -> Option<Freezer> {
        let name = format!("procession-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
            ("/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
            ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
        ];
        kinds.into_iter().find_map(|(root, file, states)| {
            let directory = Path::new(root).join(&name);
            let root_has_groups = Path::new(root).join("cgroup.procs").exists();
            if !root_has_groups || fs::create_dir(&directory).is_err() {
                return None;
            }
            let freezer = Freezer { directory, file, states };
            freezer.set(1).is_ok().then_some(freezer)
        })
    }

    fn set(&self, state: usize) -> std::io::Result<()> {
        fs::write(self.directory.join(self.file), self.states[state])
    }

    fn freeze(&self, pids: &[i32]) {
        for pid in pids {
            fs::write(self.directory.join("cgroup.procs"), pid.to_string()).expect("a group takes a process");
        }
        self.set(0).expect("a group can be frozen");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = self.set(1);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// No signal says that it happens, as with `docker pause`.
#[test]
fn a_family_that_is_frozen_has_its_time() {
    let _dog = watched();
    if role().is_some() {
        return program_with_a_task();
    }
    let Some(freezer) = Freezer::new() else {
        return eprintln!("skipped: this user may not make a control group that can be frozen");
    };
    let freeze = |board: &Board, _| freezer.freeze(&members(board));
    assert_eq!(suspended(freeze, |_| freezer.set(1).unwrap()), "Ok(7)");
}

/// The worker goes on while main, and so the pool's keeper, is stopped: its task had its time.
#[test]
fn a_task_that_takes_too_long_while_main_is_stopped_is_killed() {
    let _dog = watched();
    if role().is_some() {
        let limit = Duration::from_millis(300);
        let pool = Pool::builder().workers(1).task_timeout(limit).build().unwrap();
        let begins = |board: String| {
            post(&board, "begun", "");
            forever();
        };
        let result = pool.apply(begins, (my_board(),));
        return post(&my_board(), "result", matches!(result, Err(TaskError::TimedOut { .. })));
    }
    let board = Board::new();
    let mut main = Running::start(program("main", &board).stdout(Stdio::null()).stderr(Stdio::null()));
    board.wait("begun");
    send(main.pid(), libc::SIGSTOP);
    let_pass(Duration::from_secs(1));
    send(main.pid(), libc::SIGCONT);
    assert_eq!(board.wait("result"), "true");
    main.end();
    until_nothing_is_left(&board);
}

/// A consumer is woken for an item and is stopped before it runs. Another one gets the item.
#[test]
fn a_consumer_that_is_stopped_when_just_woken_keeps_no_item_from_others() {
    let _dog = watched();
    let queue = Queue::<u64>::unbounded().unwrap();
    let gets = |queue: Queue<u64>| queue.get().unwrap();
    let first = asleep(gets, (queue.clone(),));
    let frozen = freeze(first.pid().unwrap());
    let second = asleep(gets, (queue.clone(),));
    queue.put(1).unwrap();
    frozen.wait_until_woken();
    assert!(proc::is_parked(second.pid().unwrap()), "the wake went to the first");
    frozen.stop();
    assert_eq!(second.join().unwrap(), 1);
    queue.put(2).unwrap();
    send(first.pid().unwrap(), libc::SIGCONT);
    assert_eq!(first.join().unwrap(), 2);
}
