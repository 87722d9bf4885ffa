//! A consumer is killed at every instruction of getting, in every state of the queue.

mod support;

use std::cell::Cell;
use std::rc::Rc;

use procession::internals::{self, End, Rule};
use procession::queue::GetError;
use procession::{Lock, Queue};
use procession_testkit::{Gate, Report, isolated};
use support::line::{Line, crash, drain, message};
use support::{OTHER, VECTORS, VICTIM, arena, assert_finished, nothing_in, open, own_a_span, watched};

/// A queue holds `held`; the victim gets `count` of them, all or nothing.
fn get(make: impl FnOnce() -> Queue<Vec<u8>>, held: Vec<Vec<u8>>, count: usize) -> Report {
    let line = Line::new(|| {
        let queue = make();
        held.iter().for_each(|item| queue.try_put(item.clone()).unwrap());
        queue
    });
    let (taken, left) = held.split_at(count);
    let operation = |queue: &Queue<Vec<u8>>| match taken {
        [one] => assert_eq!(&queue.get().unwrap(), one),
        many => {
            let got: Result<Vec<_>, _> = queue.get_many(count).unwrap().into_iter().collect();
            assert_eq!(got.unwrap(), many);
        }
    };
    let report = line.step(crash(), operation, &held, left);
    internals::recover(VICTIM);
    report
}

fn bounded() -> Queue<Vec<u8>> {
    Queue::bounded(8).unwrap()
}

#[test]
fn a_small_message_is_taken() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for held in [vec![message(1, 60)], vec![message(1, 0), message(2, 100)]] {
            assert_finished(&get(bounded, held, 1));
        }
    });
}

#[test]
fn a_message_in_a_block_is_taken() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for bytes in [600, 70_000] {
            assert_finished(&get(bounded, vec![message(1, bytes), message(2, 10)], 1));
        }
    });
}

#[test]
fn several_are_taken_at_once() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let held = vec![message(1, 10), message(2, 600), message(3, 700), message(4, 10), message(5, 600)];
        for count in [2, 3, 4] {
            assert_finished(&get(bounded, held.clone(), count));
        }
    });
}

/// The queue has grown: behind the first messages the victim goes on in another segment, and frees the
/// first one.
#[test]
fn a_segment_is_left() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let grown = || {
            let queue = bounded();
            let place = |end| internals::queue_place(&queue, end).0;
            while place(End::Producers) == place(End::Consumers) {
                queue.try_put(message(1, 300)).unwrap();
            }
            while queue.len() > 1 {
                queue.try_get().unwrap();
            }
            assert!(place(End::Producers) != place(End::Consumers));
            queue
        };
        let line = Line::new(grown);
        let first = message(1, 300);
        let before = internals::queue_place(&line.queue, End::Consumers).0;
        let operation = |queue: &Queue<Vec<u8>>| assert_eq!(queue.get().unwrap(), first);
        assert_finished(&line.step(crash(), operation, std::slice::from_ref(&first), &[]));
        assert_ne!(internals::queue_place(&line.queue, End::Consumers).0, before);
    });
}

/// A producer that has gone on in a new segment died before it had moved its cursor: the segment it left must
/// not be freed under it.
#[test]
fn a_segment_is_left_behind_a_dying_producer() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let line = Line::new(|| {
            let queue = bounded();
            (1..=3).for_each(|n| queue.try_put(message(n, 400)).unwrap());
            queue
        });
        open([OTHER]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            line.queue.put(message(4, 400)).unwrap();
            gate.end();
        };
        let other = || {
            internals::open_slot(OTHER);
            internals::become_member(OTHER);
            while line.queue.try_get().is_ok() {}
        };
        // What was freed is used again before the dead is buried: by main, which owns the span.
        let again = || internals::pack(&message(99, 1200)).unwrap();
        let recover = || {
            let blocks: Vec<u64> = (0..60).map(|_| again()).collect();
            internals::recover(VICTIM);
            assert!(blocks.iter().all(|&block| internals::unpack::<Vec<u8>>(block) == Ok(message(99, 1200))));
        };
        let report = crash().run_pairwise(victim, other, recover, |_| {
            nothing_in(VICTIM)?;
            internals::recover(OTHER);
            line.is_sound()?;
            let found = drain(&line.queue);
            ensure!(found.is_empty() || found == [message(4, 400)], "{} messages", found.len());
            ensure!(line.queue.is_empty(), "its length is {}", line.queue.len());
            line.queue.try_put(message(5, 400)).map_err(|e| e.to_string())?;
            ensure!(drain(&line.queue) == [message(5, 400)], "it works on");
            line.is_sound()
        });
        assert_finished(&report);
        let place = |end| internals::queue_place(&line.queue, end).0;
        assert_ne!(place(End::Producers), place(End::Consumers), "it has grown");
    });
}

#[test]
fn there_is_nothing_to_take() {
    isolated!({
        let _dog = watched();
        let line = Line::new(bounded);
        let operation = |queue: &Queue<Vec<u8>>| assert_eq!(queue.try_get(), Err(GetError::Empty));
        assert_finished(&line.step(crash(), operation, &[], &[]));
    });
}

/// The victim sleeps until main puts something.
#[test]
fn a_consumer_waits_for_a_message() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let line = Rc::new(Line::new(bounded));
        let (put, mine) = (Rc::new(Cell::new(false)), Rc::clone(&line));
        let step = crash().when_parked({
            let put = Rc::clone(&put);
            move |_| {
                if !put.replace(true) {
                    mine.queue.put(message(1, 10)).unwrap();
                }
            }
        });
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            assert_eq!(line.queue.get().unwrap(), message(1, 10));
            line.diary.write(0, 1);
            gate.end();
        };
        let report = step.run(victim, |_| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            line.is_sound()?;
            let found = drain(&line.queue);
            ensure!(found.is_empty() || found == [message(1, 10)], "{} messages", found.len());
            ensure!(line.diary.read(0) == 0 || found.is_empty(), "it was taken");
            Ok(())
        });
        assert_finished(&report);
        assert!(put.get(), "it slept");
    });
}

/// A producer sleeps; whoever takes has to wake it, or, if it dies before that, recovery.
#[test]
fn a_sleeping_producer_hears_of_it() {
    isolated!({
        let _dog = watched();
        let line = Line::new(|| {
            let queue = Queue::bounded(1).unwrap();
            queue.put(message(1, 10)).unwrap();
            queue
        });
        open([OTHER]);
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            line.queue.get().unwrap();
            gate.end();
        };
        let other = || {
            internals::open_slot(OTHER);
            internals::become_member(OTHER);
            line.queue.put(message(2, 10)).unwrap();
        };
        let recover = || {
            internals::recover(VICTIM);
            // If the victim did not come to it.
            let _ = line.queue.try_get();
        };
        let report = crash().run_pairwise(victim, other, recover, |_| {
            internals::recover(OTHER);
            nothing_in(VICTIM)?;
            let found = drain(&line.queue);
            ensure!(found.is_empty() || found == [message(2, 10)], "{} messages", found.len());
            line.is_sound()
        });
        assert_finished(&report);
    });
}

/// Two take at once: each message goes to one of them at most, and none is lost but the dead's.
#[test]
fn another_takes_meanwhile() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for bytes in [60, 700] {
            let held = [message(1, bytes), message(2, bytes)];
            let line = Line::new(|| {
                let queue = bounded();
                held.iter().for_each(|item| queue.try_put(item.clone()).unwrap());
                queue
            });
            open([OTHER]);
            let victim = |gate: &Gate| {
                internals::become_member(VICTIM);
                gate.begin();
                line.queue.get().unwrap();
                gate.end();
            };
            let other = || {
                internals::open_slot(OTHER);
                internals::become_member(OTHER);
                line.diary.write(1, u64::from(line.queue.get().unwrap()[0]));
            };
            let report = crash().run_pairwise(
                victim,
                other,
                || internals::recover(VICTIM),
                |_| {
                    internals::recover(OTHER);
                    nothing_in(VICTIM)?;
                    line.is_sound()?;
                    let (found, theirs) = (drain(&line.queue), line.diary.read(1));
                    let fits = match theirs {
                        1 => found == [message(2, bytes)] || found.is_empty(),
                        2 => found.is_empty(),
                        _ => false,
                    };
                    ensure!(fits, "the other got {theirs}, and {} are left", found.len());
                    line.is_sound()
                },
            );
            assert_finished(&report);
            internals::recover(VICTIM);
        }
    });
}

/// A message that carries a handle is taken: the object is the queue's, or goes with the victim.
#[test]
fn a_message_with_a_handle_is_taken() {
    isolated!({
        let _dog = watched();
        arena();
        own_a_span();
        open([VICTIM]);
        let queue = Queue::<Lock>::bounded(4).unwrap();
        let objects = internals::census().objects;
        queue.put(Lock::named("sent").unwrap()).unwrap();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            assert_eq!(queue.get().unwrap().name(), "sent");
            gate.end();
        };
        let report = crash().run(victim, |point| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            internals::collect();
            let (owned, reachable) = internals::queue_blocks(&queue);
            ensure!(owned == reachable, "{owned:x?} {reachable:x?}");
            let there = queue.len() as u32;
            ensure!(!point.finished || there == 0, "it was taken");
            ensure!(internals::census().objects == objects + there, "an object for each message");
            if there == 1 {
                let lock = queue.try_get().map_err(|e| e.to_string())?;
                ensure!(lock.name() == "sent" && lock.try_lock().is_ok(), "it is the lock");
            }
            Ok(())
        });
        assert_finished(&report);
    });
}

#[test]
fn a_message_that_is_not_taken_back_is_found() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        internals::break_rule(Rule::TakenBack);
        get(bounded, vec![message(1, 600)], 1).assert_broken();
    });
}
