//! A task that overruns its time limit is killed. No other task is killed.

use std::time::Duration;

use crate::family::*;
use procession::Pool;
use procession::pool::TaskError;

const LIMIT: Duration = Duration::from_millis(50);

#[test]
fn only_the_task_that_overruns_its_limit_is_killed() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let board = Board::new();
    let patient = pool.submit(
        |board: String| {
            wait_for(&board, "go");
            7
        },
        (board.path(),),
    );
    let hasty = pool.with_task_timeout(LIMIT).unwrap();
    for attempts in [1, 3] {
        match hasty.with_retries(attempts - 1).apply(|| -> u32 { park() }, ()) {
            Err(TaskError::TimedOut { limit, attempt, pid }) => {
                assert_eq!((limit, attempt), (LIMIT, attempts));
                until_dead(&[pid]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pool.apply(|| 3, ()), Ok(3));
    post(&board.path(), "go", "");
    assert_eq!(patient.unwrap().get(), Ok(7));
    assert_eq!(pool.stats().timeouts, 4);
}

/// The keeper may examine a task at any moment while the task starts.
#[test]
fn each_of_many_overrunning_tasks_is_killed() {
    let _dog = watched();
    let hasty = Pool::new(1).unwrap().with_task_timeout(Duration::from_micros(500)).unwrap();
    for _ in 0..300 {
        let ended = hasty.apply(|| -> () { park() }, ());
        assert!(matches!(ended, Err(TaskError::TimedOut { .. })), "{ended:?}");
    }
}

#[test]
fn the_limit_of_a_map_applies_to_each_item() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_task_timeout(Duration::from_secs(1)).unwrap();
    let slow = |n: u32| {
        if n == 5 {
            park();
        }
        // The items of a chunk together take longer than the limit of one item.
        std::thread::sleep(Duration::from_millis(50));
        n
    };
    let results = pool.with_chunk_size(25).unwrap().try_map(slow, 0..25u32);
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(*value, n as u32),
            Err(e) => assert!(n == 5 && matches!(e.error, TaskError::TimedOut { .. }), "{n}: {e}"),
        }
    }
}
