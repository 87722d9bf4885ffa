//! Fleets of consumers: what they finish, what comes back, and how they end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use crate::family::*;
use procession::queue::JoinError;
use procession::{Error, JoinableQueue, Process, Queue};
use procession_testkit::proc;

/// A number, and where its consumer reports the number and its process id.
type Item = (u32, Queue<(u32, u32)>);

fn report((n, done): Item) {
    done.put((n, std::process::id())).unwrap();
}

/// Returns a queue with these numbers, and the queue of the consumers' reports.
fn work(numbers: std::ops::Range<u32>) -> (JoinableQueue<Item>, Queue<(u32, u32)>) {
    let (queue, done) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    queue.put_many(numbers.map(|n| (n, done.clone()))).unwrap();
    (queue, done)
}

fn numbers(done: &Queue<(u32, u32)>) -> Vec<u32> {
    done.close().unwrap();
    let mut all: Vec<u32> = done.iter().map(|report| report.unwrap().0).collect();
    all.sort();
    all
}

fn letters(queue: &JoinableQueue<Item>) -> Vec<(u32, u32)> {
    let mut all: Vec<_> = queue
        .dead_letters()
        .map(|letter| {
            let letter = letter.unwrap();
            (letter.item.0, letter.attempts)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_fleet_finishes_every_item_and_ends_when_its_queue_is_closed() {
    let _dog = watched();
    let (queue, done) = work(0..50);
    let fleet = queue.consumers(3, report).unwrap();
    queue.join().unwrap();
    assert_eq!(fleet.try_join(), Err(JoinError::WouldBlock), "the queue is open");
    queue.put((50, done.clone())).unwrap();
    queue.close().unwrap();
    assert_eq!(fleet.join(), Ok(()));
    assert_eq!((fleet.join(), fleet.deaths(), fleet.last_failure()), (Ok(()), 0, Ok(None)));
    assert_eq!(numbers(&done), (0..=50).collect::<Vec<_>>());
}

/// Item 7 kills each of its consumers.
#[test]
fn dead_consumers_are_replaced_and_their_items_come_back() {
    let _dog = watched();
    let (queue, done) = work(0..20);
    let queue = queue.with_max_attempts(3).unwrap();
    let deadly = |(n, done): Item| {
        if n == 7 {
            die(libc::SIGKILL);
        }
        report((n, done));
    };
    let fleet = queue.consumers(2, deadly).unwrap();
    queue.close().unwrap();
    fleet.join().unwrap();
    assert_eq!(fleet.deaths(), 3);
    assert_eq!(letters(&queue), [(7, 3)]);
    let failure = fleet.last_failure().unwrap().unwrap();
    assert!(failure.starts_with("process consumer-") && failure.contains("signal 9"), "{failure}");
    assert_eq!(numbers(&done), (0..20).filter(|&n| n != 7).collect::<Vec<_>>());
}

#[test]
fn an_item_whose_function_fails_comes_back_to_a_living_consumer() {
    let _dog = watched();
    let (queue, done) = work(0..10);
    let queue = queue.with_max_attempts(2).unwrap();
    let fails = |(n, done): Item| {
        report((n, done));
        if n == 4 { Err(format!("item {n} is bad")) } else { Ok(()) }
    };
    let fleet = queue.consumers(1, fails).unwrap();
    queue.close().unwrap();
    fleet.join().unwrap();
    assert_eq!((fleet.deaths(), letters(&queue)), (0, vec![(4, 2)]));
    assert_eq!(fleet.last_failure().unwrap().unwrap(), "attempt 2 at an item failed: item 4 is bad");
    let mut expected: Vec<u32> = (0..10).chain([4]).collect();
    expected.sort();
    assert_eq!(numbers(&done), expected);
}

#[test]
fn an_item_whose_function_panics_comes_back() {
    let _dog = watched();
    let (queue, _done) = work(0..3);
    let queue = queue.with_max_attempts(2).unwrap();
    let fleet = queue.consumers(1, |(n, _): Item| assert!(n != 1, "one is bad")).unwrap();
    queue.close().unwrap();
    fleet.join().unwrap();
    assert_eq!(letters(&queue), [(1, 2)]);
    let failure = fleet.last_failure().unwrap().unwrap();
    assert!(failure.contains("one is bad"), "{failure}");
    assert_eq!(fleet.deaths(), if cfg!(panic = "unwind") { 0 } else { 2 });
}

/// Consumers that wait for an item are killed. Others take their places.
#[test]
fn idle_consumers_that_die_are_replaced() {
    let _dog = watched();
    let (queue, done) = work(0..0);
    let fleet = queue.consumers(1, report).unwrap();
    for n in 0..5 {
        queue.put((n, done.clone())).unwrap();
        let (number, pid) = done.get().unwrap();
        assert_eq!(number, n);
        queue.join().unwrap();
        send(pid, libc::SIGKILL);
        until("the death is noticed", || fleet.deaths() == u64::from(n) + 1);
    }
    queue.close().unwrap();
    fleet.join().unwrap();
}

#[test]
fn stopping_a_fleet_finishes_the_items_at_work_and_leaves_the_others() {
    let _dog = watched();
    let board = Board::new();
    let queue = JoinableQueue::unbounded().unwrap();
    queue.put_many((0..5).map(|n| (n, board.path()))).unwrap();
    let slow = |(n, board): (u32, String)| {
        post(&board, &format!("begun {n}"), "");
        wait_for(&board, "go");
    };
    let fleet = queue.consumers(1, slow).unwrap();
    board.wait("begun 0");
    fleet.stop().unwrap();
    assert_eq!(fleet.try_join(), Err(JoinError::WouldBlock), "an item is at work");
    post(&board.path(), "go", "");
    fleet.join().unwrap();
    assert_eq!((queue.len(), queue.unfinished(), queue.is_closed()), (4, 4, false));
    // Dropping a handle stops its fleet as well.
    drop(queue.consumers(2, slow).unwrap());
    queue.put((9, board.path())).unwrap();
    let last = queue.consumers(1, slow).unwrap();
    queue.close().unwrap();
    last.join().unwrap();
    assert_eq!(queue.unfinished(), 0);
}

#[test]
fn killing_a_fleet_returns_the_items_at_work() {
    let _dog = watched();
    let board = Board::new();
    let queue = JoinableQueue::unbounded().unwrap();
    queue.put_many((0..3).map(|n| (n, board.path()))).unwrap();
    let endless = |(n, board): (u32, String)| {
        post(&board, &format!("begun {n}"), "");
        forever();
    };
    let fleet = queue.consumers(2, endless).unwrap();
    board.wait("begun 0");
    board.wait("begun 1");
    fleet.kill().unwrap();
    fleet.join().unwrap();
    assert_eq!((queue.len(), queue.unfinished()), (3, 3));
    assert_eq!(queue.get().unwrap().attempt(), 2);
}

/// The fleet's creator is a child, which is killed. Its consumers finish what they work on, and leave.
#[test]
fn consumers_leave_when_the_creator_of_their_fleet_is_dead() {
    let _dog = watched();
    let (queue, done) = work(0..0);
    let create = |queue: JoinableQueue<Item>| {
        let _fleet = queue.consumers(2, report).unwrap();
        forever();
    };
    let creator = Process::builder().daemon(true).spawn(create, (queue.clone(),)).unwrap();
    queue.put((1, done.clone())).unwrap();
    queue.join().unwrap();
    let consumers = || {
        let family = proc::children(supervisor()).into_iter();
        family.filter(|&pid| proc::comm(pid).is_some_and(|name| name.starts_with("consumer-"))).count()
    };
    until("both consumers run", || consumers() == 2);
    kill(&creator);
    until("both consumers have left", || consumers() == 0);
    queue.put((2, done.clone())).unwrap();
    assert_eq!(queue.unfinished(), 1, "no consumer is left");
}

#[test]
fn a_fleet_is_a_future() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let _dog = watched();
    let (queue, _done) = work(0..10);
    let mut fleet = pin!(queue.consumers(2, report).unwrap());
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    assert!(fleet.as_mut().poll(&mut context).is_pending());
    queue.close().unwrap();
    loop {
        match fleet.as_mut().poll(&mut context) {
            Poll::Ready(ended) => break assert_eq!(ended, Ok(())),
            Poll::Pending => std::thread::park(),
        }
    }
    assert_eq!(queue.unfinished(), 0);
}

#[test]
fn a_fleet_has_a_reasonable_number_of_consumers() {
    let _dog = watched();
    let (queue, _done) = work(0..0);
    for count in [0, 1001] {
        let refused = queue.consumers(count, report).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(_)), "{refused}");
    }
}
