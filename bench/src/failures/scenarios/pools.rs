//! F10 to F20: pools.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession::pool::{Pool, Task, TaskError};
use procession::{Message, Result as Outcome};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SECOND, doing, saw};
use crate::Result;
use crate::board::Board;
use crate::peers::fork;

fn double(n: u64) -> u64 {
    2 * n
}

fn die() {
    // SAFETY: plain calls; the signal goes to this very process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn leave() {
    std::process::exit(3)
}

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn my_pid() -> u32 {
    // Long enough for the other worker to claim the next task.
    nap(100);
    std::process::id()
}

/// Describes the result of a task.
fn fate<R: Message + std::fmt::Debug>(got: std::result::Result<R, TaskError>) -> String {
    match got {
        Ok(value) => format!("gives {value:?}"),
        Err(TaskError::NotDone) => "is not done after 1 s".into(),
        Err(error) => format!("fails: {error}").replace(&digits_of(&error), "N"),
    }
}

/// Returns the digits of the worker's process id, which differs each time.
fn digits_of(error: &TaskError) -> String {
    match error {
        TaskError::WorkerDied { pid, .. } | TaskError::TimedOut { pid, .. } => pid.to_string(),
        _ => "no number".into(),
    }
}

fn next_task(pool: &Pool) -> Result {
    doing("the next task");
    saw(format!("the next task {}", fate(pool.submit(double, (21,))?.get_timeout(SECOND))));
    Ok(())
}

fn close_and_join(pool: &Pool) -> Result {
    pool.close()?;
    doing("close() and join()");
    pool.join()?;
    saw("close() and join() return");
    Ok(())
}

pub fn f10() -> Result {
    let pool = Pool::new(2)?;
    let killed = pool.submit(die, ())?;
    doing("the task's get()");
    saw(format!("the task {}", fate(killed.get_timeout(SECOND))));
    next_task(&pool)?;
    close_and_join(&pool)
}

pub fn f11() -> Result {
    let pool = Pool::new(2)?;
    let left = pool.submit(leave, ())?;
    doing("the task's get()");
    saw(format!("the task {}", fate(left.get_timeout(SECOND))));
    next_task(&pool)?;
    close_and_join(&pool)
}

/// Kills one of two workers that have nothing to do.
fn kill_idle(which: usize) -> Result {
    let pool = Pool::new(2)?;
    let tasks = [pool.submit(my_pid, ())?, pool.submit(my_pid, ())?];
    let mut pids = tasks.iter().map(Task::get).collect::<std::result::Result<Vec<_>, _>>()?;
    pids.sort_unstable();
    pids.dedup();
    std::thread::sleep(Duration::from_millis(200));
    fork::kill(*pids.get(which).ok_or("one worker did both tasks")?);
    doing("a task's get()");
    let done = (0..4).map(|n| Ok(pool.submit(double, (n,))?.get_timeout(SECOND).is_ok()));
    let done = done.collect::<Result<Vec<bool>>>()?.into_iter().filter(|done| *done).count();
    saw(format!("{done} of the 4 next tasks return"));
    close_and_join(&pool)
}

pub fn f12() -> Result {
    kill_idle(0)
}

pub fn f13() -> Result {
    kill_idle(1)
}

/// A value that can be encoded but not decoded.
#[derive(Debug)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        "stubborn".serialize(to)
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Stubborn, D::Error> {
        Err(serde::de::Error::custom("it cannot be put together"))
    }
}

fn stubborn() -> std::result::Result<u64, Stubborn> {
    Err(Stubborn)
}

pub fn f14() -> Result {
    let pool = Pool::new(2)?;
    let task = pool.submit(stubborn, ())?;
    doing("the task's get()");
    saw(format!("the task {}", fate(task.get_timeout(SECOND))));
    next_task(&pool)?;
    close_and_join(&pool)
}

pub fn f15() -> Result {
    let pool = Pool::new(2)?;
    let task = pool.submit(double, (21,))?;
    task.on_done(|_| panic!("callback"))?;
    doing("the task's get()");
    saw(format!("the task {}", fate(task.get_timeout(SECOND))));
    next_task(&pool)?;
    close_and_join(&pool)
}

fn fail_to_begin(path: String) -> Outcome<()> {
    let board = Board::open(&path).map_err(procession::Error::other)?;
    board.arrive();
    Err(std::io::Error::other("initializer").into())
}

pub fn f16() -> Result {
    let (board, path) = Board::create()?;
    let built = Pool::builder().workers(1).initializer(fail_to_begin, (path,)).build();
    let pool = match built {
        Ok(pool) => pool,
        Err(error) => {
            saw(format!("build() fails: {error}"));
            return Ok(());
        }
    };
    doing("a task's get()");
    let submitted = pool.submit(double, (1,));
    saw(format!("a task {}", fate(submitted.and_then(|task| task.get_timeout(2 * SECOND)))));
    saw(format!("{} processes were started", board.ready.0.load(SeqCst)));
    Ok(())
}

pub fn f17() -> Result {
    let pool = Pool::new(2)?;
    saw(match pool.with_chunk_size(0) {
        Ok(pool) => format!("0: map gives {:?}", pool.map(double, [1, 2, 3])?),
        Err(error) => format!("0: fails: {error}"),
    });
    saw("(-1 is no `usize`)");
    Ok(())
}

pub fn f18() -> Result {
    let pool = Pool::new(2)?;
    let (other, killed) = (pool.submit(nap, (500,))?, pool.submit(die, ())?);
    doing("the task's get()");
    saw(format!("the task {}", fate(killed.get_timeout(SECOND))));
    saw(format!("one that ran beside it {}", fate(other.get_timeout(SECOND))));
    next_task(&pool)?;
    close_and_join(&pool)
}

pub fn f20() -> Result {
    let pool = Pool::new(2)?;
    let (task, started) = (pool.submit(nap, (1500,))?, Instant::now());
    let got = task.get_timeout(Duration::from_millis(200));
    saw(format!("get_timeout(0.2 s) gives {:?}, cancel() gives {}", got.err(), task.cancel()));
    pool.close()?;
    doing("join()");
    pool.join()?;
    saw(format!("close() and join() return after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}
