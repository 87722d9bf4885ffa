//! What a pool does with tasks and maps, and what it says when they fail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::family::*;
use procession::pool::{MapError, Pool, TaskError, TaskState};
use procession::queue::JoinError;
use procession::{Error, Lock, Process, Queue, Task, select};

/// Ends this process by a signal.
fn die(signal: i32) -> ! {
    loop {
        send(std::process::id() as i32, signal);
    }
}

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
fn map_equals_the_built_in() {
    let _dog = watched();
    let pool = pool();
    for n in [0u64, 1, 2, 10, 1000, 100_000] {
        let expected: Vec<u64> = (0..n).map(|i| i * i + 1).collect();
        assert_eq!(pool.map(|i: u64| i * i + 1, 0..n).unwrap(), expected, "{n} items");
    }
    let words = pool.map(|n: u32| format!("<{n}>"), 0..5000).unwrap();
    assert!(words.iter().enumerate().all(|(i, word)| *word == format!("<{i}>")), "also of strings");
    let nothing = pool.map(|_: String| (), (0..3000).map(|i| i.to_string())).unwrap();
    assert_eq!(nothing.len(), 3000);
    for chunk in [1, 20, 100, 1000] {
        let chunked = pool.with_chunk_size(chunk).unwrap();
        assert_eq!(chunked.map(|n: u8| n, 0..100).unwrap(), (0..100).collect::<Vec<u8>>());
    }
}

#[test]
fn starmap_spreads_tuples() {
    let _dog = watched();
    let pool = pool();
    let tuples = (0..500).map(|i| (i, i.to_string()));
    let lengths = pool.starmap(|i: u32, s: String| i as usize + s.len(), tuples).unwrap();
    assert_eq!(lengths[499], 502);
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
fn a_panic_is_told_and_the_worker_lives_on() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let pid = pool.apply(std::process::id, ()).unwrap() as i32;
    let failed = pool.apply(|n: u32| -> u32 { panic!("no {n}") }, (3,));
    if cfg!(panic = "unwind") {
        match failed.unwrap_err() {
            TaskError::Panicked { message, location, pid: who, attempt, .. } => {
                assert_eq!((message.as_str(), who, attempt), ("no 3", pid, 1));
                assert!(location.starts_with(file!()), "{location}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.apply(std::process::id, ()).unwrap() as i32, pid);
    } else {
        assert!(matches!(failed.unwrap_err(), TaskError::WorkerDied { signal: Some(libc::SIGABRT), .. }));
    }
}

#[test]
fn a_task_that_kills_its_worker_is_the_only_one_that_fails() {
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
    assert_eq!(pool.apply(|| 1, ()), Ok(1), "the pool goes on");
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
                Err(e) => assert!(i == 313 && matches!(e, TaskError::WorkerDied { .. }), "{i}: {e:?}"),
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

/// Items of a chunk that were finished before its worker died are not done again.
#[test]
fn nothing_that_is_finished_is_done_twice() {
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
fn the_first_failure_is_the_error_of_a_map() {
    let _dog = watched();
    let pool = pool();
    let failed = pool.with_chunk_size(1).unwrap().map(
        |n: u32| {
            if n == 3 || n == 5 {
                die(libc::SIGKILL);
            }
        },
        0..10u32,
    );
    assert!(matches!(failed, Err(MapError { index: 3, error: TaskError::WorkerDied { .. } })), "{failed:?}");
    assert_eq!(pool.map(|n: u32| n, [1]).unwrap(), [1]);
}

#[test]
fn a_task_is_tried_again_as_often_as_was_said() {
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
    // In the middle of a chunk, too.
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
fn idle_workers_may_be_killed() {
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

#[test]
fn what_cannot_cross_is_told() {
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
    assert!(matches!(results[1], Err(TaskError::Undecodable(_))));
    let results = pool.try_map(|n: u32| Odd(n), 0..3u32);
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(matches!(results[1], Err(TaskError::Undecodable(_))));
    assert_eq!(pool.stats().deaths, 0);
}

#[test]
fn a_wait_that_ends_does_not_end_the_task() {
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
fn handles_cross_in_arguments_and_results() {
    let _dog = watched();
    let pool = pool();
    let lock = pool.apply(|| Lock::named("made there").unwrap(), ()).unwrap();
    assert!(format!("{lock:?}").contains("made there"), "{lock:?}");
    let locks = pool.map(|lock: Lock| lock, vec![lock; 5]).unwrap();
    assert!(locks.iter().all(|lock| lock.try_lock().is_ok()));
}

#[test]
fn a_task_can_be_sent_and_the_pool_too() {
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
fn a_closed_pool_does_what_it_has() {
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
fn terminating_ends_everything_at_once() {
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

#[test]
fn an_input_that_panics_leaves_the_pool_usable() {
    if cfg!(panic = "abort") {
        return;
    }
    let _dog = watched();
    let pool = pool();
    for at in [0, 3, 500] {
        let items = (0..1000u32).map(move |n| if n == at { panic!("bad input") } else { n });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.map(|n: u32| n, items)));
        assert!(caught.is_err());
    }
    assert_eq!(pool.map(|n: u32| n, 0..3u32).unwrap(), [0, 1, 2]);
}

#[test]
fn an_input_that_panics_loses_no_other_item() {
    if cfg!(panic = "abort") {
        return;
    }
    let _dog = watched();
    let mut bad = true;
    let items =
        (0..20u32).map(move |n| if n == 6 && std::mem::take(&mut bad) { panic!("bad input") } else { n });
    let (mut got, mut panics) = (Vec::new(), 0);
    let mut results = pool().with_chunk_size(4).unwrap().imap(|n: u32| n, items);
    loop {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.next())) {
            Ok(Some(result)) => got.push(result.unwrap()),
            Ok(None) => break,
            Err(_) => panics += 1,
        }
    }
    assert_eq!((got, panics), ((0..20).filter(|n| *n != 6).collect(), 1));
}

#[test]
fn an_endless_input_is_read_as_far_as_needed() {
    let _dog = watched();
    let pool = pool();
    static READ: AtomicU32 = AtomicU32::new(0);
    let items = (0u32..).inspect(|_| _ = READ.fetch_add(1, Ordering::Relaxed));
    let slow = |n: u32| {
        std::thread::sleep(Duration::from_millis(1));
        n
    };
    let first: Vec<u32> = pool.imap(slow, items).take(20).map(Result::unwrap).collect();
    assert_eq!(first, (0..20).collect::<Vec<u32>>());
    assert!(READ.load(Ordering::Relaxed) < 200, "{READ:?}");
    READ.store(0, Ordering::Relaxed);
    let items = (0u32..).inspect(|_| _ = READ.fetch_add(1, Ordering::Relaxed));
    let narrow = pool.with_prefetch(2).unwrap();
    assert_eq!(narrow.imap(|n: u32| n, items).take(100).filter(Result::is_ok).count(), 100);
    assert!(READ.load(Ordering::Relaxed) <= 102, "{READ:?}");
}

#[test]
fn unordered_results_come_as_they_are_done() {
    let _dog = watched();
    let (pool, board) = (pool().with_chunk_size(1).unwrap(), Board::new());
    let items: Vec<_> = (0..20u32).map(|n| (n, board.path())).collect();
    let mut results = pool.imap_unordered(
        |(n, board): (u32, String)| {
            if n == 0 {
                wait_for(&board, "go");
            }
            n
        },
        items,
    );
    let first: Vec<u32> = results.by_ref().take(6).map(Result::unwrap).collect();
    assert!(!first.contains(&0));
    post(&board.path(), "go", "");
    let mut all: Vec<u32> = first.into_iter().chain(results.map(Result::unwrap)).collect();
    all.sort();
    assert_eq!(all, (0..20).collect::<Vec<u32>>());
}

#[test]
fn bad_arguments_are_errors() {
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

/// An input that gives an item when it is told to, and whose end is told.
fn faucet() -> (mpsc::Sender<u32>, mpsc::Receiver<u32>) {
    mpsc::channel()
}

#[test]
fn an_input_may_be_made_of_the_results() {
    let _dog = watched();
    let pool = pool();
    let (feed, items) = faucet();
    feed.send(0).unwrap();
    let mut last = 0;
    for n in pool.imap(|n: u32| n + 1, items) {
        last = n.unwrap();
        if last == 2000 {
            break;
        }
        feed.send(last).unwrap();
    }
    assert_eq!(last, 2000);
    let (feed, items) = faucet();
    (0..3).for_each(|n| feed.send(n).unwrap());
    let odd = pool
        .imap_unordered(|n: u32| n + 3, items)
        .take(2000)
        .inspect(|n| feed.send(*n.as_ref().unwrap()).unwrap());
    assert_eq!(odd.filter(Result::is_ok).count(), 2000);
}

/// Each item is given when all results before it have come: so one that waits for another item never comes.
#[test]
fn an_input_that_blocks_withholds_no_result() {
    let _dog = watched();
    let sized = pool().with_chunk_size(100).unwrap();
    for pool in [pool(), sized, pool().with_prefetch(3).unwrap()] {
        for in_order in [true, false] {
            let (feed, items) = faucet();
            let mut results =
                if in_order { pool.imap(|n: u32| n, items) } else { pool.imap_unordered(|n: u32| n, items) };
            // It becomes known as quick, and then it blocks in the middle of a chunk.
            for many in [1, 500, 3, 70, 1, 1] {
                let feed = feed.clone();
                let quick = std::thread::spawn(move || (0..many).for_each(|n| feed.send(n).unwrap()));
                let mut got: Vec<u32> = results.by_ref().take(many as usize).map(Result::unwrap).collect();
                got.sort();
                assert_eq!(got, (0..many).collect::<Vec<_>>());
                quick.join().unwrap();
            }
            drop(feed);
            assert_eq!(results.next(), None);
            assert_eq!(results.next(), None);
        }
    }
}

#[test]
fn an_input_that_blocks_withholds_no_item() {
    let _dog = watched();
    let (pool, board) = (pool(), Board::new());
    let (feed, items) = mpsc::channel();
    let mut results = pool.imap(
        |(n, board): (u32, String)| {
            if n == 100 {
                post(&board, "100 is begun", "");
                wait_for(&board, "101 is done");
            } else if n == 101 {
                post(&board, "101 is done", "");
            }
            n
        },
        items,
    );
    let item = |n: u32| (n, board.path());
    for n in 0..100 {
        feed.send(item(n)).unwrap();
        assert_eq!(results.next(), Some(Ok(n)));
    }
    // The second is to be done while the first is on its way, though no third comes.
    feed.send(item(100)).unwrap();
    let second = std::thread::spawn({
        let (feed, board, item) = (feed.clone(), board.path(), item(101));
        move || {
            wait_for(&board, "100 is begun");
            feed.send(item).unwrap();
        }
    });
    assert_eq!(results.next(), Some(Ok(100)));
    assert_eq!(results.next(), Some(Ok(101)));
    second.join().unwrap();
}

#[test]
fn dropping_the_results_drops_the_input() {
    let _dog = watched();
    let pool = pool();
    let (feed, items) = faucet();
    let mut results = pool.imap(|n: u32| n, items);
    feed.send(1).unwrap();
    assert_eq!(results.next(), Some(Ok(1)));
    drop(results);
    // The thread may be waiting for an item: it notices then.
    until("the input is dropped", || feed.send(2).is_err());
    // One that does not wait has ended when the results are dropped.
    let kept = std::sync::Arc::new(());
    let its = kept.clone();
    let mut results = pool.imap(|n: u32| n, (0..3).inspect(move |_| _ = &its));
    assert_eq!(results.by_ref().count(), 3);
    drop(results);
    assert_eq!(std::sync::Arc::strong_count(&kept), 1);
}

#[test]
fn an_input_may_borrow_or_stay_in_its_thread() {
    let _dog = watched();
    let pool = pool();
    let words = ["to".to_owned(), "be".to_owned(), "or".to_owned()];
    let read = std::rc::Rc::new(std::cell::Cell::new(0));
    let items = || words.iter().cycle().take(1000).cloned().inspect(|_| read.set(read.get() + 1));
    let lengths = pool.imap_local(|word: String| word.len(), items());
    assert_eq!(lengths.map(Result::unwrap).sum::<usize>(), 2000);
    let lengths = pool.imap_local_unordered(|word: String| word.len(), items());
    assert_eq!(lengths.map(Result::unwrap).sum::<usize>(), 2000);
    assert_eq!(read.get(), 2000);
    // What is ready is given before the input is asked.
    let (feed, items) = faucet();
    feed.send(0).unwrap();
    let mut count = 0;
    for n in pool.with_prefetch(1).unwrap().imap_local(|n: u32| n + 1, items) {
        let n = n.unwrap();
        count += 1;
        if n == 300 {
            break;
        }
        feed.send(n).unwrap();
    }
    assert_eq!(count, 300);
}

/// Handles in items that no process holds while they wait for their chunk to go out.
#[test]
fn handles_in_items_survive_a_slow_input() {
    let _dog = watched();
    let pool = pool().with_chunk_size(50).unwrap();
    let items = || {
        (0..100u32).map(|n| {
            let queue = Queue::<u32>::unbounded().unwrap();
            queue.put(n).unwrap();
            // Has the collector look.
            drop(Process::spawn(|queue: Queue<u32>| queue, (Queue::unbounded().unwrap(),)).unwrap().join());
            queue
        })
    };
    let all: Vec<u32> = (0..100).collect();
    let get = |queue: Queue<u32>| queue.get().unwrap();
    assert_eq!(pool.map(get, items()).unwrap(), all);
    assert_eq!(pool.imap(get, items()).map(Result::unwrap).collect::<Vec<_>>(), all);
}

#[test]
fn a_task_can_read_its_own_pool_s_results_as_they_come() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let sum = |pool: Pool| {
        let ordered: u64 = pool.imap(|n: u64| n * n, 0..300).map(Result::unwrap).sum();
        let any: u64 = pool.imap_unordered(|n: u64| n * n, 0..300).map(Result::unwrap).sum();
        (ordered, any)
    };
    let all = (0..300).map(|n| n * n).sum();
    assert_eq!(pool.apply(sum, (pool.clone(),)), Ok((all, all)));
}
