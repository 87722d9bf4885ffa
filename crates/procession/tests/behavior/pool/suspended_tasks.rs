//! The time limit of a task counts only time in which its worker can run. A worker, a process group or a
//! whole family is suspended for longer than the limit, and the task still succeeds. A task that overruns its
//! limit is still killed.

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

/// The limit of tasks that usually take a moment, or a second on a busy machine.
const LIMIT: Duration = Duration::from_secs(3);
const SUSPENDED: Duration = Duration::from_secs(4);

/// Waits until this much time has passed. There is no event to wait for, because these tests measure time.
fn let_pass(time: Duration) {
    let late = Instant::now() + time;
    proc::wait_until("time has passed", LONG, || late < Instant::now());
}

/// Runs until the test posts `go`. Meanwhile, the test suspends the worker.
fn waits(board: String, name: String) -> u32 {
    post(&board, &name, std::process::id());
    wait_for(&board, "go");
    7
}

#[test]
fn a_stopped_worker_loses_no_time_of_its_limit() {
    let _dog = watched();
    let (pool, board) = (Pool::new(2).unwrap().with_task_timeout(LIMIT).unwrap(), Board::new());
    let task = pool.submit(waits, (board.path(), "begun".into())).unwrap();
    let worker = board.number("begun");
    send(worker, libc::SIGSTOP);
    let_pass(SUSPENDED);
    assert!(!task.is_done());
    assert_eq!(pool.apply(|| 1, ()), Ok(1), "the other worker still works");
    send(worker, libc::SIGCONT);
    post(&board.path(), "go", "");
    assert_eq!(task.get(), Ok(7));
}

/// The control: without the rule, suspended time counts.
#[test]
fn without_the_rule_a_stopped_worker_times_out() {
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
fn a_worker_that_was_stopped_is_still_killed_at_its_limit() {
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

/// Runs one task in a pool, and posts the outcome of the task.
fn program_with_a_task() {
    let pool = Pool::builder().workers(1).task_timeout(LIMIT).build().unwrap();
    let result = pool.apply(waits, (my_board(), "begun".into()));
    post(&my_board(), "result", format!("{result:?}"));
}

/// Runs [`program_with_a_task`], suspends and resumes it by the given functions, and returns the outcome of
/// its task.
fn suspended(suspend: impl Fn(&Board, i32), resume: impl Fn(i32)) -> String {
    let board = Board::new();
    // The program runs in the process group of a child of this process, so the kernel does not treat the
    // group as orphaned.
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
fn a_stopped_group_loses_no_time_of_its_limit() {
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

/// Ctrl-Z stops the worker, but the supervisor ignores it.
#[test]
fn a_family_stopped_by_the_keyboard_loses_no_time() {
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
    /// Creates a group. Returns `None` if this user lacks the permission.
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

/// Like `docker pause`, this freeze is not announced by a signal.
#[test]
fn a_frozen_family_loses_no_time() {
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

/// Main is stopped, and with it the pool's keeper. The worker still runs, so the task uses up its time.
#[test]
fn a_task_that_overruns_while_main_is_stopped_is_killed() {
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

/// A consumer is woken for an item and stopped before it runs. Another consumer gets the item.
#[test]
fn a_consumer_stopped_after_its_wake_up_keeps_no_item_from_others() {
    let _dog = watched();
    let queue = Queue::<u64>::unbounded().unwrap();
    let gets = |queue: Queue<u64>| queue.get().unwrap();
    let first = asleep(gets, (queue.clone(),));
    let frozen = freeze(first.pid().unwrap().cast_signed());
    let second = asleep(gets, (queue.clone(),));
    queue.put(1).unwrap();
    frozen.wait_until_woken();
    assert!(proc::is_parked(second.pid().unwrap()), "the first consumer was woken");
    frozen.stop();
    assert_eq!(second.join().unwrap(), 1);
    queue.put(2).unwrap();
    send(first.pid().unwrap(), libc::SIGCONT);
    assert_eq!(first.join().unwrap(), 2);
}
