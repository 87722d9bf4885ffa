//! The progress of maps: what counts, when the hook is called, and for the last time.

use std::sync::mpsc;

use crate::family::*;
use procession::Pool;
use procession::pool::{MapError, Progress};

type Item = (u32, String);

/// Waits for the message `go` in item 0. All other items end immediately.
fn first_waits((n, board): Item) -> u32 {
    if n == 0 {
        wait_for(&board, "go");
    }
    n
}

/// Runs each kind of map. Item 0 goes on only when the hook sees that another item is done.
#[test]
fn progress_counts_what_is_done_while_the_first_item_runs() {
    type Run = fn(&Pool, Vec<Item>) -> usize;
    let runs: [Run; 8] = [
        |pool, items| pool.map(first_waits, items).unwrap().len(),
        |pool, items| pool.try_map(first_waits, items).len(),
        |pool, items| pool.starmap(|n: u32, board: String| first_waits((n, board)), items).unwrap().len(),
        |pool, items| pool.imap(first_waits, items).count(),
        |pool, items| pool.imap_unordered(first_waits, items).count(),
        |pool, items| pool.imap_local(first_waits, items).count(),
        |pool, items| pool.imap_local_unordered(first_waits, items).count(),
        |pool, items| pool.submit_map(first_waits, items).unwrap().get().unwrap().len(),
    ];
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_chunk_size(1).unwrap();
    for run in runs {
        let board = Board::new();
        let items: Vec<Item> = (0..5).map(|n| (n, board.path())).collect();
        let path = board.path();
        let (sender, calls) = mpsc::channel();
        let hook = move |progress: Progress| {
            if progress.done > 0 {
                post(&path, "go", "");
            }
            sender.send(progress).unwrap();
        };
        assert_eq!(run(&pool.with_progress(hook), items), 5);
        let calls: Vec<Progress> = calls.iter().collect();
        assert!(calls.is_sorted_by_key(|call| call.done), "{calls:?}");
        assert!(calls.iter().all(|call| call.total == Some(5)), "{calls:?}");
        let (last, before) = calls.split_last().unwrap();
        assert!(last.is_over && last.done == 5, "{last:?}");
        assert!(before.iter().all(|call| !call.is_over), "{before:?}");
    }
}

/// All items are in one chunk, and the last item waits.
#[test]
fn progress_counts_the_items_of_a_chunk_that_runs() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap().with_chunk_size(10).unwrap();
    let board = Board::new();
    let items: Vec<Item> = (0..10).rev().map(|n| (n, board.path())).collect();
    let path = board.path();
    let hook = move |progress: Progress| {
        if progress.done == 9 {
            post(&path, "go", "");
        }
    };
    assert_eq!(pool.with_progress(hook).map(first_waits, items).unwrap().len(), 10);
}

/// Item 3 dies at each attempt, and item 5 at its first.
fn fragile((n, board): Item) -> u32 {
    if n == 3 {
        die(libc::SIGKILL);
    }
    if n == 5 && !std::path::Path::new(&board).join("died").exists() {
        post(&board, "died", "");
        die(libc::SIGKILL);
    }
    n
}

#[test]
fn progress_counts_failures_and_retries() {
    type Run = fn(&Pool, Vec<Item>) -> Vec<Result<u32, MapError>>;
    let runs: [Run; 5] = [
        |pool, items| pool.try_map(fragile, items),
        |pool, items| pool.imap(fragile, items).collect(),
        |pool, items| pool.imap_unordered(fragile, items).collect(),
        |pool, items| pool.imap_local(fragile, items).collect(),
        |pool, items| pool.imap_local_unordered(fragile, items).collect(),
    ];
    let _dog = watched();
    let pool = Pool::builder().workers(2).retries(1).build().unwrap();
    for chunk in [1, 4, 20] {
        for run in runs {
            let board = Board::new();
            let (sender, calls) = mpsc::channel();
            let pool = pool.with_chunk_size(chunk).unwrap();
            let pool = pool.with_progress(move |progress| sender.send(progress).unwrap());
            let results = run(&pool, (0..20).map(|n| (n, board.path())).collect());
            let failed: Vec<usize> = results.into_iter().filter_map(|r| Some(r.err()?.index)).collect();
            assert_eq!(failed, [3]);
            drop(pool);
            let last = calls.iter().last().unwrap();
            assert_eq!((last.done, last.failed, last.retried, last.is_over), (20, 1, 2, true));
        }
    }
}

/// Returns all calls of the hook while `run` uses the pool.
fn calls(pool: &Pool, run: impl FnOnce(Pool)) -> Vec<(usize, Option<usize>, bool)> {
    let (sender, calls) = mpsc::channel();
    run(pool.with_progress(move |progress| sender.send(progress).unwrap()));
    calls.iter().map(|call| (call.done, call.total, call.is_over)).collect()
}

#[test]
fn the_hook_is_called_when_a_map_begins_and_when_it_is_over() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let empty = [(0, Some(0), false), (0, Some(0), true)];
    assert_eq!(calls(&pool, |pool| _ = pool.map(|n: u32| n, []).unwrap()), empty);
    let unknown = || (0..7u32).filter(|_| true);
    for calls in [
        calls(&pool, |pool| _ = pool.map(|n: u32| n, unknown()).unwrap()),
        calls(&pool, |pool| _ = pool.imap(|n: u32| n, unknown()).count()),
        calls(&pool, |pool| _ = pool.imap_local(|n: u32| n, unknown()).count()),
    ] {
        assert_eq!(calls.first(), Some(&(0, None, false)));
        assert_eq!(calls.last(), Some(&(7, Some(7), true)));
    }
    // A map that stops early.
    let failed = calls(&pool, |pool| {
        _ = pool
            .map(
                |n: u32| {
                    if n == 2 {
                        die(libc::SIGKILL)
                    }
                },
                0..,
            )
            .unwrap_err()
    });
    assert_eq!(failed.iter().filter(|call| call.2).count(), 1);
    let dropped = calls(&pool, |pool| drop(pool.imap(|n: u32| n, 0..).nth(2)));
    assert!(dropped.last().is_some_and(|&(done, _, is_over)| is_over && done >= 3), "{dropped:?}");
    assert_eq!(calls(&pool, |pool| drop(pool.imap(|n: u32| n, 0..9))), [], "it never began");
}

#[test]
fn a_map_panics_if_its_hook_panics() {
    if cfg!(panic = "abort") {
        return;
    }
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let fails = pool.with_progress(|_| panic!("a hook that panics"));
    let run = || fails.map(|n: u32| n, 0..10);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    assert_eq!(pool.map(|n: u32| n, [1]).unwrap(), [1], "the pool still works");
    assert_eq!(
        pool.apply(|pool: Pool| pool.map(|n: u32| n, [1]).is_ok(), (fails,)),
        Ok(true),
        "no hook was sent"
    );
}
