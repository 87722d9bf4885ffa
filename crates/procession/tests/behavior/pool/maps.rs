//! The maps of a pool: their results, the order of the results, and errors.

use crate::family::*;
use procession::pool::{MapError, TaskError};
use procession::{Pool, Queue};

fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

#[test]
fn map_equals_the_map_of_iterators() {
    let _dog = watched();
    let pool = pool();
    for n in [0u64, 1, 2, 10, 1000, 100_000] {
        let expected: Vec<u64> = (0..n).map(|i| i * i + 1).collect();
        assert_eq!(pool.map(|i: u64| i * i + 1, 0..n).unwrap(), expected, "{n} items");
    }
    let words = pool.map(|n: u32| format!("<{n}>"), 0..5000).unwrap();
    assert!(
        words.iter().enumerate().all(|(i, word)| *word == format!("<{i}>")),
        "strings come back in order"
    );
    let nothing = pool.map(|_: String| (), (0..3000).map(|i| i.to_string())).unwrap();
    assert_eq!(nothing.len(), 3000);
    for chunk in [1, 20, 100, 1000] {
        let chunked = pool.with_chunk_size(chunk).unwrap();
        assert_eq!(chunked.map(|n: u8| n, 0..100).unwrap(), (0..100).collect::<Vec<u8>>());
    }
}

#[test]
fn starmap_passes_tuples_as_arguments() {
    let _dog = watched();
    let pool = pool();
    let tuples = (0..500).map(|i| (i, i.to_string()));
    let lengths = pool.starmap(|i: u32, s: String| i as usize + s.len(), tuples).unwrap();
    assert_eq!(lengths[499], 502);
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
fn unordered_results_arrive_as_they_are_done() {
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

/// Items 7, 107, 207, .. fail. The chunks are finished in any order.
#[test]
fn every_result_of_a_map_is_tied_to_its_item() {
    fn fails(n: usize) -> usize {
        assert!(n % 100 != 7, "item {n} is bad");
        n + 1
    }
    fn check(index: usize, result: Result<usize, TaskError>) {
        match result {
            Ok(value) => assert_eq!(value, index + 1),
            Err(TaskError::Panicked { message, .. }) => assert_eq!(message, format!("item {index} is bad")),
            Err(other) => panic!("{index}: {other}"),
        }
    }
    let _dog = watched();
    let pool = pool();
    let positions = |results: Vec<Result<usize, MapError>>| {
        let failed = results.into_iter().filter_map(Result::err);
        let mut failed: Vec<usize> = failed
            .map(|e| {
                let text = e.to_string();
                assert!(text.starts_with(&format!("item {}: the task panicked", e.index)), "{text}");
                check(e.index, Err(e.error));
                e.index
            })
            .collect();
        failed.sort();
        failed
    };
    let bad = [7, 107, 207];
    for chunk in [1, 40, 300] {
        let pool = pool.with_chunk_size(chunk).unwrap();
        let failed = pool.map(fails, 0..300).unwrap_err();
        assert_eq!(failed.index, 7);
        assert_eq!(pool.starmap(fails, (0..300).map(|n| (n,))).unwrap_err().index, 7);
        assert_eq!(positions(pool.try_map(fails, 0..300)), bad);
        assert_eq!(positions(pool.imap(fails, 0..300).collect()), bad);
        assert_eq!(positions(pool.imap_unordered(fails, 0..300).collect()), bad);
        assert_eq!(positions(pool.imap_local(fails, 0..300).collect()), bad);
        assert_eq!(positions(pool.imap_local_unordered(fails, 0..300).collect()), bad);
        let mut all: Vec<_> = pool.imap_unordered(fails, 0..300).indexed().collect();
        all.extend(pool.imap_local_unordered(fails, 0..300).indexed());
        all.extend(pool.imap(fails, 0..300).indexed());
        let mut indices: Vec<usize> = all.iter().map(|(index, _)| *index).collect();
        indices.sort();
        assert_eq!(indices, (0..900).map(|n| n / 3).collect::<Vec<_>>());
        all.into_iter().for_each(|(index, result)| check(index, result));
    }
}

#[test]
fn a_task_can_map_on_its_own_pool() {
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

#[test]
fn dropping_the_results_stops_the_work() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_chunk_size(1).unwrap();
    let done = Queue::<u32>::unbounded().unwrap();
    let items: Vec<_> = (0..1000).map(|n| (n, done.clone())).collect();
    let mut results = pool.imap(
        |(n, done): (u32, Queue<u32>)| {
            done.put(n).unwrap();
            n
        },
        items,
    );
    assert_eq!(results.next(), Some(Ok(0)));
    drop(results);
    pool.close().unwrap();
    pool.join().unwrap();
    assert!(done.len() < 100, "{}", done.len());
}

#[test]
fn a_map_can_be_submitted_as_a_task() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let task = pool.submit_map(|n: u64| n * 2, 0..10_000).unwrap();
    let names = pool.submit_map(|n: u64| n.to_string(), vec![1, 2]).unwrap();
    let failed = pool.submit_map(|n: u64| if n == 3 { die(libc::SIGKILL) } else { n }, 0..5u64).unwrap();
    let failed = failed.get().unwrap_err();
    assert_eq!(failed.index(), Some(3));
    assert!(
        matches!(&failed, TaskError::Item(e) if matches!(e.error, TaskError::WorkerDied { .. })),
        "{failed:?}"
    );
    assert!(failed.to_string().starts_with("item 3: the task's worker (pid "), "{failed}");
    // The pool finishes everything that it has accepted, even after it is closed.
    let late = pool.with_chunk_size(1).unwrap().submit_map(|n: u64| n, 0..1000).unwrap();
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!(late.get().unwrap().len(), 1000);
    assert_eq!(task.get().unwrap()[9_999], 19_998);
    assert_eq!(names.get().unwrap(), ["1", "2"]);
    assert!(matches!(pool.submit_map(|n: u64| n, [1]), Err(TaskError::Closed)));
}

#[test]
fn a_submitted_map_can_be_cancelled_and_terminated() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let endless = pool.submit_map(|n: u64| n, 0..).unwrap();
    assert!(endless.cancel());
    assert_eq!(endless.get(), Err(TaskError::Cancelled));
    assert!(!endless.cancel());
    let endless = pool.submit_map(|n: u64| n, 0..).unwrap();
    pool.terminate().unwrap();
    assert_eq!(endless.get(), Err(TaskError::Terminated));
}
