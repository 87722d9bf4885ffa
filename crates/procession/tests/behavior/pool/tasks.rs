//! Single tasks: their results, errors and cancellation, and tasks that submit tasks.

use std::time::Duration;

use crate::family::*;
use procession::pool::{MapError, TaskError, TaskState};
use procession::{Error, Lock, Pool, Process, Queue, Task, select};

fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

#[test]
fn apply_equals_a_local_call() {
    let _dog = watched();
    let pool = pool();
    assert_eq!(pool.apply(|a: u32, b: String| format!("{a}{b}"), (1, "x".into())).unwrap(), "1x");
    assert_eq!(pool.apply(|| (), ()), Ok(()));
    assert_eq!(pool.apply(|n: u64| n, (u64::MAX,)), Ok(u64::MAX));
    let big = vec![7u8; 3 << 20];
    assert_eq!(pool.apply(|v: Vec<u8>| v, (big.clone(),)).unwrap(), big);
}

#[test]
fn an_error_that_the_function_returns_is_a_result() {
    let _dog = watched();
    let pool = pool();
    let odd = |n: u32| if n % 2 == 1 { Ok(n) } else { Err(format!("{n} is even")) };
    assert_eq!(pool.map(odd, [1, 2]).unwrap(), [Ok(1), Err("2 is even".into())]);
    assert_eq!(pool.with_retries(3).apply(odd, (2,)).unwrap(), Err("2 is even".into()));
}

#[test]
fn a_panic_is_reported_and_the_worker_survives() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let pid = pool.apply(std::process::id, ()).unwrap();
    let failed = pool.apply(|n: u32| -> u32 { panic!("no {n}") }, (3,));
    if cfg!(panic = "unwind") {
        match failed.unwrap_err() {
            TaskError::Panicked { message, location, pid: who, attempt, .. } => {
                assert_eq!((message.as_str(), who, attempt), ("no 3", pid, 1));
                assert!(location.starts_with(file!()), "{location}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), pid);
    } else {
        assert!(matches!(failed.unwrap_err(), TaskError::WorkerDied { signal: Some(libc::SIGABRT), .. }));
    }
}

#[test]
fn a_value_that_fails_to_encode_or_decode_is_an_error() {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    struct Odd(u32);
    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            if self.0 == 1 { Err(serde::ser::Error::custom("not this one")) } else { self.0.serialize(s) }
        }
    }
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Odd, D::Error> {
            u32::deserialize(d).map(Odd)
        }
    }
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let refused = pool.submit(|odd: Odd| odd.0, (Odd(1),)).unwrap_err();
    assert!(matches!(&refused, TaskError::Undecodable(why) if why.contains("Odd")), "{refused}");
    for _ in 0..20 {
        let lost = pool.apply(|n: u32| Odd(n), (1,)).map(|odd| odd.0).unwrap_err();
        assert!(matches!(&lost, TaskError::Undecodable(why) if why.contains("Odd")), "{lost}");
    }
    assert_eq!(pool.apply(|odd: Odd| odd.0, (Odd(4),)), Ok(4));
    let results = pool.try_map(|odd: Odd| odd.0, [Odd(0), Odd(1), Odd(2)]);
    assert_eq!((&results[0], &results[2]), (&Ok(0), &Ok(2)));
    assert!(matches!(results[1], Err(MapError { index: 1, error: TaskError::Undecodable(_) })));
    let results = pool.try_map(|n: u32| Odd(n), 0..3u32);
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(matches!(results[1], Err(MapError { index: 1, error: TaskError::Undecodable(_) })));
    assert_eq!(pool.stats().deaths, 0);
}

#[test]
fn a_wait_that_times_out_does_not_end_the_task() {
    let _dog = watched();
    let (pool, board) = (pool(), Board::new());
    let task = pool.submit(
        |board: String| {
            wait_for(&board, "go");
            1
        },
        (board.path(),),
    );
    let task = task.unwrap();
    assert_eq!(task.try_get(), Err(TaskError::NotDone));
    assert_eq!(task.get_timeout(Duration::from_millis(5)), Err(TaskError::NotDone));
    assert!(!task.is_done());
    post(&board.path(), "go", "");
    assert_eq!(select(&[&task]), Ok(0));
    assert_eq!((task.get(), task.clone().get(), task.state()), (Ok(1), Ok(1), TaskState::Returned));
}

#[test]
fn handles_can_be_sent_in_arguments_and_results() {
    let _dog = watched();
    let pool = pool();
    let lock = pool.apply(|| Lock::labeled("made there").unwrap(), ()).unwrap();
    assert!(format!("{lock:?}").contains("made there"), "{lock:?}");
    let locks = pool.map(|lock: Lock| lock, vec![lock; 5]).unwrap();
    assert!(locks.iter().all(|lock| lock.try_lock().is_ok()));
}

#[test]
fn tasks_and_pools_can_be_sent() {
    let _dog = watched();
    let pool = pool();
    let task = pool.submit(|| 5u32, ()).unwrap();
    let child = Process::spawn(
        |pool: Pool, task: Task<u32>| -> Result<(u32, Vec<u32>, Task<u32>), Error> {
            let squares = pool.map(|n: u32| n * n, 0..100u32)?;
            let mine = pool.submit(|n: u32| n + 1, (8,))?;
            Ok((task.get()?, squares, mine))
        },
        (pool.clone(), task.clone()),
    );
    let (five, squares, theirs) = child.unwrap().join().unwrap().unwrap();
    assert_eq!((five, squares[9], theirs.get()), (5, 81, Ok(9)));
}

#[test]
fn waiting_and_running_tasks_can_be_cancelled() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let running = pool.submit(|| -> u32 { park() }, ()).unwrap();
    let waiting = pool.submit(|| 1, ()).unwrap();
    until("it runs", || running.state() == TaskState::Running);
    assert!(waiting.cancel());
    assert_eq!((waiting.get(), waiting.state()), (Err(TaskError::Cancelled), TaskState::Cancelled));
    assert!(!waiting.cancel(), "the task is cancelled already");
    assert!(running.cancel());
    assert_eq!(running.get(), Err(TaskError::Cancelled));
    let done = pool.submit(|| 2, ()).unwrap();
    assert_eq!(done.get(), Ok(2));
    assert!(!done.cancel());
    assert_eq!(done.get(), Ok(2));
}

#[test]
fn tasks_that_wait_for_tasks_do_not_hang() {
    fn sum(pool: Pool, from: u32, to: u32) -> u64 {
        if to - from <= 4 {
            return (from..to).map(u64::from).sum();
        }
        let middle = (from + to) / 2;
        let left = pool.submit(sum, (pool.clone(), from, middle)).expect("submitted");
        let right = pool.submit(sum, (pool.clone(), middle, to)).expect("submitted");
        left.get().expect("left") + right.get().expect("right")
    }
    let _dog = watched();
    for workers in [1, 2] {
        let pool = Pool::new(workers).unwrap();
        assert_eq!(pool.apply(sum, (pool.clone(), 0, 200)), Ok(199 * 100));
        let mapped = pool.map(|(pool, n): (Pool, u32)| pool.map(|n: u32| n, 0..n).unwrap().len(), {
            let pool = pool.clone();
            (0..20u32).map(move |n| (pool.clone(), n)).collect::<Vec<_>>()
        });
        assert_eq!(mapped.unwrap(), (0..20).collect::<Vec<usize>>());
    }
}

#[test]
fn tasks_of_a_dead_submitter_still_run() {
    let _dog = watched();
    let (pool, done) = (Pool::new(1).unwrap(), Queue::<u32>::unbounded().unwrap());
    let submitter = Process::spawn(
        |pool: Pool, done: Queue<u32>| -> Result<(), Error> {
            for n in 0..20 {
                drop(pool.submit(|done: Queue<u32>, n: u32| done.put(n).unwrap(), (done.clone(), n))?);
            }
            die(libc::SIGKILL)
        },
        (pool.clone(), done.clone()),
    );
    assert!(submitter.unwrap().join().is_err());
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!(done.len(), 20);
}

#[test]
fn invalid_settings_are_errors() {
    let _dog = watched();
    assert!(matches!(Pool::new(0), Err(Error::InvalidArgument(_))));
    assert!(matches!(Pool::new(1_000_000), Err(Error::InvalidArgument(_))));
    let builder = || Pool::builder().workers(1);
    assert!(matches!(builder().max_tasks_per_worker(0).build(), Err(Error::InvalidArgument(_))));
    assert!(matches!(builder().task_timeout(Duration::ZERO).build(), Err(Error::InvalidArgument(_))));
    assert!(matches!(builder().name("x".repeat(100)).build(), Err(Error::InvalidArgument(_))));
    let pool = builder().build().unwrap();
    assert!(pool.with_chunk_size(0).is_err() && pool.with_prefetch(0).is_err());
    assert!(pool.with_task_timeout(Duration::ZERO).is_err() && pool.resize(0).is_err());
}
