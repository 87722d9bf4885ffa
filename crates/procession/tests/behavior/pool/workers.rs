//! The workers of a pool: how many there are, how they start, and when they leave.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use crate::family::*;
use procession::pool::TaskError;
use procession::{Error, Pool, Queue, Value};

static PREPARED: OnceLock<String> = OnceLock::new();

#[test]
fn each_worker_is_initialized_once() {
    let _dog = watched();
    let begun = Queue::<u32>::unbounded().unwrap();
    let pool = Pool::builder()
        .workers(2)
        .initializer(
            |begun: Queue<u32>, text: String| -> Result<(), String> {
                begun.put(std::process::id()).map_err(|e| e.to_string())?;
                PREPARED.set(text)
            },
            (begun.clone(), "state".to_string()),
        )
        .build()
        .unwrap();
    let found = pool.with_chunk_size(1).unwrap().map(|_: u32| PREPARED.get().cloned(), 0..50u32).unwrap();
    assert!(found.iter().all(|text| text.as_deref() == Some("state")));
    let killed = pool.apply(|| -> () { die(libc::SIGKILL) }, ());
    assert!(matches!(killed, Err(TaskError::WorkerDied { .. })));
    assert_eq!(pool.apply(|| PREPARED.get().cloned(), ()).unwrap().as_deref(), Some("state"));
    until("the dead worker is replaced", || begun.len() == 3);
    pool.close().unwrap();
    pool.join().unwrap();
    begun.close().unwrap();
    let pids: Vec<u32> = begun.iter().map(Result::unwrap).collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn an_initializer_that_fails_breaks_the_pool() {
    let _dog = watched();
    let failing = Pool::builder().workers(2).initializer(|| Err::<(), _>("no licence"), ()).build().unwrap();
    match failing.submit(|| 1, ()).and_then(|task| task.get()) {
        Err(TaskError::Broken(why)) => assert!(why.contains("no licence"), "{why}"),
        other => panic!("{other:?}"),
    }
    failing.join().unwrap();
    assert!(failing.stats().started < 10, "{:?}", failing.stats());
    let dying = Pool::builder().workers(1).initializer(|| -> () { die(libc::SIGKILL) }, ()).build().unwrap();
    assert!(matches!(dying.submit(|| 1, ()).and_then(|task| task.get()), Err(TaskError::Broken(_))));
}

#[test]
fn started_workers_are_stopped_when_another_cannot_start() {
    let _dog = watched();
    let (started, seats) = (Queue::<i32>::unbounded().unwrap(), Value::new(3u32).unwrap());
    let sit_down = |started: Queue<i32>, seats: Value<u32>| {
        let sits = seats.update(|left| left.checked_sub(1).map(|less| *left = less).is_some()).unwrap();
        started.put(std::process::id() as i32).unwrap();
        if sits { Ok(()) } else { Err("no seat is left") }
    };
    let pool = Pool::builder().workers(5).initializer(sit_down, (started.clone(), seats)).build().unwrap();
    let why = || match pool.apply(|| (), ()) {
        Err(TaskError::Broken(why)) => Some(why),
        _ => None,
    };
    let mut told = None;
    until("the pool is broken", || {
        told = why();
        told.is_some()
    });
    assert!(told.unwrap().contains("no seat is left"));
    pool.join().unwrap();
    let pids: Vec<i32> =
        started.try_get_many(usize::MAX).unwrap().into_iter().map(|pid| pid.unwrap()).collect();
    assert!(pids.len() > 3, "{pids:?}");
    until_gone(&pids);
}

#[test]
fn workers_that_die_too_often_break_the_pool() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).max_restarts(2, Duration::from_secs(3600)).build().unwrap();
    for _ in 0..3 {
        assert!(matches!(pool.apply(|| -> () { die(libc::SIGKILL) }, ()), Err(TaskError::WorkerDied { .. })));
    }
    assert!(matches!(pool.submit(|| 1, ()).and_then(|task| task.get()), Err(TaskError::Broken(_))));
}

#[test]
fn a_worker_leaves_after_its_maximum_of_tasks() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).max_tasks_per_worker(10).build().unwrap();
    let pids: Vec<u32> = (0..30).map(|_| pool.apply(std::process::id, ()).unwrap()).collect();
    for share in pids.chunks(10) {
        assert!(share.iter().all(|pid| *pid == share[0]), "{pids:?}");
    }
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
    let two = Pool::builder().workers(2).max_tasks_per_worker(10).build().unwrap();
    assert_eq!(two.map(|n: u32| n + 1, 0..100u32).unwrap(), (1..101).collect::<Vec<u32>>());
    assert_eq!(two.stats().deaths, 0);
}

/// The share of a worker is a number of items, whatever the chunk size. No chunk is larger than that share.
#[test]
fn the_share_of_a_worker_is_counted_in_items() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).max_tasks_per_worker(4).build().unwrap();
    for chunk_size in [1, 2, 4, 100] {
        let chunked = pool.with_chunk_size(chunk_size).unwrap();
        let pids = chunked.map(|_: u32| std::process::id(), 0..12u32).unwrap();
        for share in pids.chunks(4) {
            assert!(share.iter().all(|pid| *pid == share[0]), "chunks of {chunk_size}: {pids:?}");
        }
        assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3, "chunks of {chunk_size}: {pids:?}");
    }
    // A worker that reaches its limit in the middle of a chunk finishes the chunk first.
    let pids = pool.with_chunk_size(3).unwrap().map(|_: u32| std::process::id(), 0..12u32).unwrap();
    for share in pids.chunks(6) {
        assert!(share.iter().all(|pid| *pid == share[0]), "chunks of 3: {pids:?}");
    }
    assert_eq!(pool.stats().deaths, 0);
}

#[test]
fn a_pool_can_grow_and_shrink() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let board = Board::new();
    let hold = |board: String, n: u32| {
        post(&board, &n.to_string(), "");
        wait_for(&board, "go");
        std::process::id()
    };
    pool.resize(4).unwrap();
    let tasks: Vec<_> = (0..4).map(|n| pool.submit(hold, (board.path(), n)).unwrap()).collect();
    // All four tasks run at the same time.
    (0..4).for_each(|n| _ = board.wait(&n.to_string()));
    pool.resize(1).unwrap();
    post(&board.path(), "go", "");
    let pids: HashSet<u32> = tasks.iter().map(|task| task.get().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    until("the others have left", || pool.stats().pids.len() == 1);
    assert_eq!(pool.apply(|| 1, ()), Ok(1));
}

#[test]
fn a_pool_can_have_many_workers() {
    let _dog = watched();
    let pool = Pool::new(100).unwrap();
    assert_eq!(pool.map(|n: u32| n, 0..10_000u32).unwrap().len(), 10_000);
    pool.terminate().unwrap();
    pool.join().unwrap();
}

/// Stopped workers do not keep the pool from being closed or shrunk.
#[test]
fn stopped_workers_leave_when_the_pool_closes_or_shrinks() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    until("both work", || pool.stats().pids.len() == 2);
    for pid in pool.stats().pids {
        send(pid, libc::SIGSTOP);
    }
    pool.resize(1).unwrap();
    until("one worker has left", || pool.stats().pids.len() == 1);
    send(pool.stats().pids[0], libc::SIGSTOP);
    pool.close().unwrap();
    pool.join().unwrap();
}

#[test]
fn a_worker_over_its_memory_limit_leaves_after_its_task() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).memory_limit(64 << 20).build().unwrap();
    let small = pool.apply(std::process::id, ()).unwrap();
    assert_eq!(pool.apply(std::process::id, ()), Ok(small));
    let grown = || {
        std::mem::forget(std::hint::black_box(vec![1u8; 80 << 20]));
        std::process::id()
    };
    assert_eq!(pool.apply(grown, ()), Ok(small));
    assert_ne!(pool.apply(std::process::id, ()), Ok(small));
    assert_eq!(pool.stats().deaths, 0);
    let far_beyond = pool.apply(|| std::hint::black_box(vec![1u8; 1 << 30]).len(), ());
    assert!(matches!(far_beyond, Err(TaskError::WorkerDied { .. })), "{far_beyond:?}");
    assert!(pool.apply(std::process::id, ()).is_ok());
    assert!(matches!(Pool::builder().memory_limit(0).build(), Err(Error::InvalidArgument(_))));
}

#[test]
fn idle_workers_leave_and_are_replaced_on_demand() {
    let _dog = watched();
    let idle = Duration::from_millis(1);
    let pool = Pool::builder().workers(2).idle_timeout(idle).build().unwrap();
    for n in 0..200u32 {
        assert_eq!(pool.apply(|n: u32| n, (n,)), Ok(n));
        if n % 50 == 0 {
            until("all have left", || pool.stats().pids.is_empty());
        }
    }
    assert_eq!(pool.map(|n: u32| n, 0..1000).unwrap().len(), 1000);
    let last = pool.submit(|| 1, ()).unwrap();
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!((last.get(), pool.stats().deaths), (Ok(1), 0));
}
