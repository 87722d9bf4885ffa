//! The cost of a worker's death: one task, one item of a map, or one attempt.

use std::time::Duration;

use crate::family::*;
use procession::pool::{MapError, TaskError};
use procession::{Pool, Queue, Value};

fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

#[test]
fn only_the_task_that_kills_its_worker_fails() {
    let _dog = watched();
    let pool = pool();
    let board = Board::new();
    let bystander = pool.submit(
        |board: String| {
            wait_for(&board, "go");
            7
        },
        (board.path(),),
    );
    let killed = pool.submit(|| -> u32 { die(libc::SIGKILL) }, ()).unwrap();
    match killed.get().unwrap_err() {
        TaskError::WorkerDied {
            signal: Some(libc::SIGKILL),
            exit_code: None,
            out_of_memory: false,
            attempt: 1,
            started: true,
            pid,
        } => {
            assert!(pid > 0);
        }
        other => panic!("{other:?}"),
    }
    let left = pool.submit(|| -> u32 { std::process::exit(3) }, ()).unwrap();
    assert!(matches!(
        left.get().unwrap_err(),
        TaskError::WorkerDied { signal: None, exit_code: Some(3), .. }
    ));
    let crashed = pool.apply(|| -> u32 { die(libc::SIGSEGV) }, ()).unwrap_err();
    assert!(matches!(crashed, TaskError::WorkerDied { signal: Some(libc::SIGSEGV), .. }));
    assert_eq!(pool.apply(|| 1, ()), Ok(1), "the pool still works");
    post(&board.path(), "go", "");
    assert_eq!(bystander.unwrap().get(), Ok(7));
    assert_eq!(pool.stats().deaths, 3);
}

#[test]
fn a_death_in_a_map_costs_one_item() {
    let _dog = watched();
    let pool = pool();
    let fatal = |n: u32| {
        if n == 313 {
            die(libc::SIGKILL);
        }
        n + 1
    };
    for chunk in [1, 100, 1000] {
        let results = pool.with_chunk_size(chunk).unwrap().try_map(fatal, 0..1000u32);
        assert_eq!(results.len(), 1000);
        for (i, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!((*value, i != 313), (i as u32 + 1, true)),
                Err(MapError { index, error: TaskError::WorkerDied { .. } }) => {
                    assert_eq!((i, *index), (313, 313))
                }
                Err(other) => panic!("{i}: {other:?}"),
            }
        }
        let words = pool.with_chunk_size(chunk).unwrap().try_map(
            |n: u32| {
                if n == 13 {
                    die(libc::SIGKILL);
                }
                n.to_string()
            },
            0..50u32,
        );
        let failed: Vec<usize> = (0..50).filter(|&i| words[i] != Ok(i.to_string())).collect();
        assert_eq!(failed, [13]);
    }
}

/// A retry skips the items of a chunk that were finished before the worker died.
#[test]
fn finished_items_are_not_retried() {
    let _dog = watched();
    let pool = pool();
    let board = Board::new();
    let done = Queue::unbounded().unwrap();
    drop(board);
    let items: Vec<(u32, Queue<u32>)> = (0..40).map(|i| (i, done.clone())).collect();
    let results = pool.with_chunk_size(40).unwrap().try_map(
        |(i, done): (u32, Queue<u32>)| {
            done.put(i).unwrap();
            if i % 10 == 5 {
                die(libc::SIGKILL);
            }
            (i, done)
        },
        items,
    );
    assert_eq!(results.iter().filter(|r| r.is_err()).count(), 4);
    assert!(
        results.iter().enumerate().all(|(i, r)| r.as_ref().is_ok_and(|v| v.0 == i as u32) || i % 10 == 5)
    );
    done.close().unwrap();
    let done: Vec<u32> = done.iter().map(Result::unwrap).collect();
    assert_eq!(done, (0..40).collect::<Vec<u32>>());
}

#[test]
fn a_task_is_retried_up_to_its_limit() {
    let _dog = watched();
    let pool = pool().with_retries(2);
    let tried = Queue::<u32>::unbounded().unwrap();
    let third_time = |tried: Queue<u32>, sign: u32| {
        tried.put(1).unwrap();
        if tried.len() < 3 {
            if sign == 0 { die(libc::SIGKILL) } else { panic!("not yet") }
        }
        tried.len()
    };
    assert_eq!(pool.apply(third_time, (tried.clone(), 0)), Ok(3));
    assert!(matches!(
        pool.with_retries(1).apply(|| -> () { die(libc::SIGKILL) }, ()),
        Err(TaskError::WorkerDied { attempt: 2, .. })
    ));
    if cfg!(panic = "unwind") {
        let tried = Queue::<u32>::unbounded().unwrap();
        assert_eq!(pool.apply(third_time, (tried, 1)), Ok(3));
        let panicked = pool.apply(|| -> () { panic!("always") }, ());
        assert!(matches!(panicked, Err(TaskError::Panicked { attempt: 3, .. })), "{panicked:?}");
    }
    // A retry also works in the middle of a chunk.
    let tried = Queue::<u32>::unbounded().unwrap();
    let items: Vec<(u32, Queue<u32>)> = (0..20).map(|i| (i, tried.clone())).collect();
    let results = pool.with_chunk_size(20).unwrap().map(
        |(i, tried): (u32, Queue<u32>)| {
            if i == 7 {
                tried.put(i).unwrap();
                if tried.len() < 3 {
                    die(libc::SIGKILL);
                }
            }
            i
        },
        items,
    );
    assert_eq!(results.unwrap(), (0..20).collect::<Vec<u32>>());
}

#[test]
fn a_killed_idle_worker_costs_no_task() {
    let _dog = watched();
    let pool = pool();
    for _ in 0..5 {
        assert_eq!(pool.map(|n: u32| n, 0..10u32).unwrap().len(), 10);
        for pid in pool.stats().pids {
            send(pid, libc::SIGKILL);
        }
        assert_eq!(pool.apply(|| 5, ()), Ok(5));
    }
}

/// Nests more tasks than a worker records one by one. The first attempt dies in the innermost task, and the
/// second overruns the time limit there.
#[test]
fn a_death_in_deeply_nested_tasks_costs_no_task() {
    fn descend(pool: Pool, left: u32, lives: Value<u32>) -> u32 {
        if left > 0 {
            return 1 + pool.submit(descend, (pool.clone(), left - 1, lives)).unwrap().get().unwrap();
        }
        lives.update(|n| *n += 1).unwrap();
        match lives.get().unwrap() {
            1 => die(libc::SIGKILL),
            2 => park(),
            _ => 0,
        }
    }
    let _dog = watched();
    let lives = Value::new(0).unwrap();
    let limit = Duration::from_millis(300);
    let pool = Pool::builder().workers(1).retries(100).task_timeout(limit).build().unwrap();
    assert_eq!(pool.apply(descend, (pool.clone(), 12, lives.clone())), Ok(12));
    assert!(lives.get().unwrap() >= 3, "two workers died");
}

/// An item gets all its attempts, wherever in a long chunk it is.
#[test]
fn an_item_late_in_a_chunk_has_all_its_attempts() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap().with_retries(1).with_chunk_size(300).unwrap();
    let tried = Queue::<u32>::unbounded().unwrap();
    let items: Vec<(u32, Queue<u32>)> = (0..300).map(|n| (n, tried.clone())).collect();
    let dies_once = |(n, tried): (u32, Queue<u32>)| {
        if n % 256 == 0 {
            let before = tried.len();
            tried.put(n).unwrap();
            if before % 2 == 0 {
                die(libc::SIGKILL);
            }
        }
        n
    };
    let done = pool.try_map(dies_once, items);
    assert!(done.iter().enumerate().all(|(n, result)| *result == Ok(n as u32)), "{done:?}");
    assert_eq!(tried.len(), 4);
}
