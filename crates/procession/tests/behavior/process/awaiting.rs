//! A process as a `Future`.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::family::*;
use procession::process::wait_any;
use procession::{Failure, Process};

/// Wakes the polling thread, and counts the wake-ups.
struct Unpark(Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn unpark() -> Arc<Unpark> {
    Arc::new(Unpark(std::thread::current(), AtomicUsize::new(0)))
}

/// Polls the future after every wake-up, until the future is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(unpark());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_process_is_awaited() {
    let _dog = watched();
    let board = Board::new();
    let slow = |board: String| -> String { wait_for(&board, "go") };
    let p = Process::spawn(slow, (board.path(),)).unwrap();
    let other = std::thread::spawn({
        let p = p.clone();
        move || block_on(p)
    });
    post(&board.path(), "go", "done");
    assert_eq!(block_on(p.clone()).unwrap(), "done");
    assert_eq!(block_on(p).unwrap(), "done", "also when it has ended");
    assert_eq!(other.join().unwrap().unwrap(), "done");
}

#[test]
fn a_death_ends_the_wait_of_a_future() {
    let _dog = watched();
    let p = sleeper();
    let waits = std::thread::spawn({
        let p = p.clone();
        move || block_on(p)
    });
    p.kill().unwrap();
    let error = waits.join().unwrap().unwrap_err();
    assert!(matches!(error.failure(), Failure::Killed { signal: 9, .. }), "{error}");
}

#[test]
fn many_processes_are_awaited_by_one_thread() {
    let _dog = watched();
    for round in 0..3 {
        let all: Vec<_> = (0..20u32).map(|n| Process::spawn(|n: u32| n * n, (n,)).unwrap()).collect();
        for (n, p) in (0..).zip(all) {
            assert_eq!(block_on(p).unwrap(), n * n, "round {round}");
        }
    }
}

#[test]
fn the_last_waker_is_woken() {
    let _dog = watched();
    let mut p = sleeper();
    let (first, last) = (unpark(), unpark());
    for waker in [&first, &last, &last] {
        let waker = Waker::from(waker.clone());
        assert!(Pin::new(&mut p).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    p.kill().unwrap();
    while last.1.load(Ordering::SeqCst) == 0 {
        std::thread::park();
    }
    assert_eq!(first.1.load(Ordering::SeqCst), 0);
    assert!(Pin::new(&mut p).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_future_that_is_dropped_is_not_woken() {
    let _dog = watched();
    let (p, waker) = (sleeper(), unpark());
    let mut dropped = p.clone();
    let polled = Pin::new(&mut dropped).poll(&mut Context::from_waker(&Waker::from(waker.clone())));
    assert!(polled.is_pending());
    drop(dropped);
    assert_eq!(Arc::strong_count(&waker), 1, "nothing keeps it");
    p.kill().unwrap();
    assert!(block_on(p).is_err());
    assert_eq!(waker.1.load(Ordering::SeqCst), 0);
}

#[test]
fn a_child_awaits_a_process() {
    let _dog = watched();
    let relay = |p: Process<u32>| block_on(p).map_err(|e| e.to_string());
    let p = Process::spawn(|| 7, ()).unwrap();
    let relayed = Process::spawn(relay, (p,)).unwrap();
    assert_eq!(block_on(relayed), Ok(Ok(7)));
}

#[test]
fn wait_any_takes_processes_as_they_are() {
    let _dog = watched();
    let (slow, fast) = (sleeper(), Process::spawn(|| (), ()).unwrap());
    assert_eq!(wait_any(&[&slow, &fast]), Ok(1));
    let all = vec![slow, fast];
    assert_eq!(wait_any(&all), Ok(1));
    all[0].kill().unwrap();
}

#[test]
fn a_flat_join_names_the_process() {
    fn work(how: u8) -> Result<u8, procession::Error> {
        match how {
            0 => Ok(7),
            1 => Err(procession::Error::other(anyhow::anyhow!("no paper").context("printing failed"))),
            _ => std::process::exit(3),
        }
    }
    let _dog = watched();
    let spawned = |how: u8| Process::builder().name("printer").spawn(work, (how,)).unwrap();
    assert_eq!(spawned(0).join_flat(), Ok(7));
    let p = spawned(1);
    let error = p.join_flat().unwrap_err();
    let pid = p.pid().unwrap();
    assert_eq!(
        error.to_string(),
        format!("process printer (pid {pid}) returned an error: printing failed: no paper")
    );
    assert_eq!(std::error::Error::source(&error).map(ToString::to_string).as_deref(), Some("no paper"));
    assert!(matches!(error.failure(), Failure::ReturnedErr { .. }));
    assert_eq!(spawned(2).join_flat().unwrap_err().failure(), &Failure::Exited { code: 3 });
}
