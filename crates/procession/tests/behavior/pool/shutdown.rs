//! The end of a pool: it is closed, terminated or dropped, or its creator ends.

use crate::family::*;
use procession::pool::{MapError, TaskError};
use procession::queue::JoinError;
use procession::{Error, Pool, Process, Queue};

fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

#[test]
fn a_closed_pool_finishes_its_tasks() {
    let _dog = watched();
    let pool = pool();
    let tasks: Vec<_> = (0..200u32).map(|n| pool.submit(|n: u32| n, (n,)).unwrap()).collect();
    assert!(matches!(pool.join(), Err(JoinError::Unusable(_))));
    pool.close().unwrap();
    assert_eq!(pool.submit(|| (), ()).unwrap_err(), TaskError::Closed);
    assert!(matches!(pool.map(|n: u32| n, [1]), Err(MapError { index: 0, error: TaskError::Closed })));
    pool.join().unwrap();
    pool.join().unwrap();
    assert!(tasks.iter().enumerate().all(|(n, task)| task.try_get() == Ok(n as u32)));
    assert!(pool.stats().pids.is_empty());
}

#[test]
fn a_closed_pool_survives_the_death_of_a_worker() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let fatal = pool.submit(|| -> () { die(libc::SIGKILL) }, ()).unwrap();
    let next = pool.submit(|| 2, ()).unwrap();
    pool.close().unwrap();
    pool.join().unwrap();
    assert!(matches!(fatal.get(), Err(TaskError::WorkerDied { .. })));
    assert_eq!(next.get(), Ok(2));
}

#[test]
fn terminating_ends_all_tasks_immediately() {
    let _dog = watched();
    let pool = pool();
    let forever = || -> () {
        loop {
            std::thread::park()
        }
    };
    let tasks: Vec<_> = (0..10_000).map(|_| pool.submit(forever, ()).unwrap()).collect();
    pool.terminate().unwrap();
    pool.join().unwrap();
    assert!(tasks.iter().all(|task| task.get() == Err(TaskError::Terminated)));
    assert_eq!(pool.submit(forever, ()).unwrap_err(), TaskError::Terminated);
}

#[test]
fn dropping_the_last_handle_terminates() {
    let _dog = watched();
    let pool = pool();
    let task = pool
        .submit(
            || -> () {
                loop {
                    std::thread::park()
                }
            },
            (),
        )
        .unwrap();
    drop(pool);
    assert_eq!(task.get(), Err(TaskError::Terminated));
}

/// The workers are killed before they start, or before they take the pool out of their arguments.
#[test]
fn a_pool_can_be_terminated_before_its_workers_start() {
    let _dog = watched();
    for workers in (1..6).cycle().take(50) {
        let pool = Pool::new(workers).unwrap();
        pool.terminate().unwrap();
        pool.join().unwrap();
    }
}

#[test]
fn a_pool_ends_with_the_process_that_created_it() {
    let _dog = watched();
    let board = Board::new();
    let made = Queue::unbounded().unwrap();
    let maker = Process::spawn(
        |board: String, made: Queue<(procession::Task<u32>, procession::Task<u32>)>| -> Result<(), Error> {
            let pool = Pool::new(1)?;
            let running = pool.submit(
                |board: String| -> u32 {
                    post(&board, "worker", std::process::id());
                    park()
                },
                (board,),
            )?;
            let waiting = pool.submit(|| 1u32, ())?;
            made.put((running.clone(), waiting.clone()))?;
            park()
        },
        (board.path(), made.clone()),
    );
    let (running, waiting) = made.get().unwrap();
    let worker = board.number("worker");
    maker.unwrap().kill().unwrap();
    assert_eq!(waiting.get(), Err(TaskError::Terminated));
    assert_eq!(running.get(), Err(TaskError::Terminated));
    until_gone(&[worker]);
}
