//! Handles in items of queues: other queues, locks, and the queue itself.

use crate::family;
use crate::family::*;
use procession::internals::census;
use procession::{Lock, Process, Queue};
use procession_testkit::isolated;
use serde::{Deserialize, Serialize};

/// A queue whose items are queues of the same kind.
#[derive(Serialize, Deserialize)]
struct Nested(Queue<Nested>);

fn nested() -> Queue<Nested> {
    Queue::unbounded().unwrap()
}

/// Starts the family, and waits until the arena is empty.
fn settle() {
    Process::spawn(|| (), ()).unwrap().join().unwrap();
    until_nothing();
}

fn until_nothing() {
    until("no objects and no blocks are left", || census().objects == 0 && census().blocks.is_empty());
}

/// Makes the supervisor collect objects without handles.
fn stir() {
    (0..10).for_each(|_| drop(Process::spawn(|lock: Lock| lock, (Lock::new().unwrap(),)).unwrap().join()));
}

#[test]
fn a_queue_can_hold_queues() {
    isolated!({
        settle();
        let queues = Queue::<Queue<u64>>::bounded(2).unwrap();
        let serve = |queues: Queue<Queue<u64>>| {
            for answers in &queues {
                answers.unwrap().put(42).unwrap();
            }
        };
        let server = Process::spawn(serve, (queues.clone(),)).unwrap();
        for _ in 0..20 {
            let answers = Queue::unbounded().unwrap();
            queues.put(answers.clone()).unwrap();
            assert_eq!(answers.get(), Ok(42));
        }
        queues.close().unwrap();
        server.join().unwrap();
        drop((queues, server));
        until_nothing();
    });
}

#[test]
fn a_lock_in_a_queue_outlives_its_sender() {
    isolated!({
        settle();
        let queue = Queue::<(Lock, Vec<u8>)>::bounded(2).unwrap();
        let send = |queue: Queue<(Lock, Vec<u8>)>| {
            queue.put((Lock::labeled("left behind").unwrap(), vec![1; 20_000])).unwrap();
            family::send(std::process::id() as i32, libc::SIGKILL);
        };
        Process::spawn(send, (queue.clone(),)).unwrap().join().unwrap_err();
        stir();
        let (lock, bytes) = queue.get().unwrap();
        assert_eq!((lock.name().as_str(), bytes.len()), ("left behind", 20_000));
        drop(lock.lock().unwrap());
        stir();
        let take = |lock: Lock| lock.try_lock().is_ok();
        assert_eq!(Process::spawn(take, (lock.clone(),)).unwrap().join(), Ok(true));
        drop((lock, queue));
        until_nothing();
    });
}

#[test]
fn a_queue_sent_through_itself_is_the_same_queue() {
    isolated!({
        settle();
        let queue = nested();
        queue.put(Nested(queue.clone())).unwrap();
        let Nested(again) = queue.get().unwrap();
        again.put(Nested(nested())).unwrap();
        assert_eq!((queue.len(), again.len()), (1, 1));
        drop(queue);
        assert!(again.get().unwrap().0.is_empty());
        drop(again);
        until_nothing();
    });
}

#[test]
fn a_queue_that_holds_only_itself_is_freed() {
    isolated!({
        settle();
        let queue = nested();
        (0..10).for_each(|_| queue.put(Nested(queue.clone())).unwrap());
        stir();
        assert_eq!(queue.len(), 10, "the queue was held");
        drop(queue);
        stir();
        until_nothing();
    });
}

#[test]
fn queues_that_hold_each_other_live_while_reachable() {
    isolated!({
        settle();
        let door = Queue::<Nested>::bounded(1).unwrap();
        let tie = |door: Queue<Nested>| {
            let [first, second, third] = [(); 3].map(|()| nested());
            first.put(Nested(second.clone())).unwrap();
            second.put(Nested(third.clone())).unwrap();
            third.put(Nested(first.clone())).unwrap();
            door.put(Nested(first)).unwrap();
        };
        for round in 0..6 {
            Process::spawn(tie, (door.clone(),)).unwrap().join().unwrap();
            stir();
            if round % 2 == 0 {
                let Nested(first) = door.get().unwrap();
                let Nested(second) = first.get().unwrap();
                let Nested(third) = second.get().unwrap();
                stir();
                assert!(third.get().unwrap().0.is_empty());
                first.put(Nested(third.clone())).unwrap();
                third.put(Nested(first)).unwrap();
            } else {
                drop(door.get());
            }
        }
        drop(door);
        stir();
        until_nothing();
    });
}

#[test]
fn an_item_that_cannot_be_decoded_releases_its_handles() {
    isolated!({
        settle();
        #[derive(Serialize)]
        struct Picky(Lock, bool);
        impl<'de> Deserialize<'de> for Picky {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
                let (lock, fine): (Lock, bool) = Deserialize::deserialize(deserializer)?;
                // Only the sender can decode a value that is not `fine`.
                if fine || procession::current_process().is_ok_and(|me| me.name() == "sender") {
                    return Ok(Picky(lock, fine));
                }
                Err(serde::de::Error::custom("not fine"))
            }
        }
        let queue = Queue::<Picky>::bounded(3).unwrap();
        let send = |queue: Queue<Picky>| {
            for fine in [true, false, true] {
                queue.put(Picky(Lock::new().unwrap(), fine)).unwrap();
            }
        };
        let sender = Process::builder().name("sender").spawn(send, (queue.clone(),)).unwrap();
        sender.join().unwrap();
        assert_eq!([(); 3].map(|()| queue.get().is_ok()), [true, false, true]);
        drop((queue, sender));
        until_nothing();
    });
}
