//! A producer is killed at every instruction of putting, in every state of the queue.

mod support;

use std::cell::Cell;
use std::rc::Rc;

use procession::internals::{self, Rule};
use procession::{Lock, Queue};
use procession_testkit::{Child, Report, isolated, proc};
use support::line::{Line, crash, drain, message};
use support::{Before, OTHER, VECTORS, VICTIM, arena, assert_finished, nothing_in, open, watched};

/// A queue that holds `held`, and then gets `put`, all or nothing.
fn put(make: impl FnOnce() -> Queue<Vec<u8>>, held: Vec<Vec<u8>>, put: Vec<Vec<u8>>) -> Report {
    let line = Line::new(|| {
        let queue = make();
        held.iter().for_each(|item| queue.try_put(item.clone()).unwrap());
        queue
    });
    let all = [held.clone(), put.clone()].concat();
    let operation = |queue: &Queue<Vec<u8>>| match put.as_slice() {
        [one] => queue.put(one.clone()).unwrap(),
        many => assert_eq!(queue.put_many(many.iter().cloned()).unwrap(), many.len()),
    };
    let report = line.step(crash(), operation, &held, &all);
    internals::recover(VICTIM);
    report
}

fn bounded() -> Queue<Vec<u8>> {
    Queue::bounded(8).unwrap()
}

/// A queue whose next small message does not fit behind the last one, but at the beginning.
fn nearly_round() -> Queue<Vec<u8>> {
    let queue = Queue::bounded(8).unwrap();
    let mut last = internals::queue_place(&queue, internals::End::Producers).1;
    loop {
        queue.try_put(message(1, 100)).unwrap();
        queue.try_get().unwrap();
        let now = internals::queue_place(&queue, internals::End::Producers).1;
        if now < last {
            break;
        }
        last = now;
    }
    // One lap is known now; go to its last record.
    loop {
        let (segment, at) = internals::queue_place(&queue, internals::End::Producers);
        if at + 2 * 112 > last + 112 && at >= last {
            return queue;
        }
        assert!(segment < at + 1);
        queue.try_put(message(1, 100)).unwrap();
        queue.try_get().unwrap();
    }
}

#[test]
fn a_small_message_is_put() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for held in [vec![], vec![message(1, 10)], vec![message(1, 0), message(2, 100), message(3, 30)]] {
            assert_finished(&put(bounded, held, vec![message(9, 60)]));
        }
    });
}

#[test]
fn a_message_goes_round() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let line = Line::new(nearly_round);
        let (_, before) = internals::queue_place(&line.queue, internals::End::Producers);
        let item = message(9, 100);
        let report =
            line.step(crash(), |queue| queue.put(item.clone()).unwrap(), &[], std::slice::from_ref(&item));
        assert_finished(&report);
        let (_, after) = internals::queue_place(&line.queue, internals::End::Producers);
        assert!(after < before, "it went round");
    });
}

#[test]
fn a_queue_grows() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let held: Vec<_> = (1..=3).map(|n| message(n, 400)).collect();
        let line = Line::new(|| {
            let queue = bounded();
            held.iter().for_each(|item| queue.try_put(item.clone()).unwrap());
            queue
        });
        let segment = || internals::queue_place(&line.queue, internals::End::Producers).0;
        let (before, item) = (segment(), message(9, 400));
        let all = [held.clone(), vec![item.clone()]].concat();
        assert_finished(&line.step(crash(), |queue| queue.put(item.clone()).unwrap(), &held, &all));
        assert_ne!(segment(), before, "it has grown");
    });
}

#[test]
fn a_message_in_a_block_is_put() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for bytes in [600, 70_000] {
            assert_finished(&put(bounded, vec![message(1, 10)], vec![message(9, bytes)]));
        }
    });
}

#[test]
fn many_messages_are_put_at_once() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let small = vec![message(7, 10), message(8, 20), message(9, 0)];
        assert_finished(&put(bounded, vec![message(1, 10)], small));
        let mixed = vec![message(7, 400), message(8, 700), message(9, 400), message(10, 400)];
        assert_finished(&put(bounded, vec![message(1, 10)], mixed));
    });
}

#[test]
fn a_queue_is_closed() {
    isolated!({
        let _dog = watched();
        let line = Line::new(bounded);
        line.queue.put(message(1, 10)).unwrap();
        let victim = |gate: &procession_testkit::Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            line.queue.close().unwrap();
            line.diary.write(0, 1);
            gate.end();
        };
        let report = crash().run(victim, |_| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            line.is_sound()?;
            let closed = line.queue.is_closed();
            ensure!(closed || line.diary.read(0) == 0, "it was closed, and is open");
            ensure!(line.queue.try_put(message(2, 1)).is_err() == closed, "closed: {closed}");
            ensure!(drain(&line.queue).first() == Some(&message(1, 10)), "what was in it is there");
            line.is_sound()
        });
        assert_finished(&report);
    });
}

/// A consumer sleeps; whoever puts has to wake it, or, if it dies before that, recovery.
#[test]
fn a_sleeping_consumer_hears_of_it() {
    isolated!({
        let _dog = watched();
        let line = Line::new(bounded);
        open([OTHER]);
        let victim = |gate: &procession_testkit::Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            line.queue.put(message(9, 60)).unwrap();
            gate.end();
        };
        let other = || {
            internals::open_slot(OTHER);
            internals::become_member(OTHER);
            // Either the victim's message, or the one that is put when the victim is dead.
            line.queue.get().unwrap();
        };
        let recover = || {
            internals::recover(VICTIM);
            line.queue.put(message(8, 10)).unwrap();
        };
        let report = crash().run_pairwise(victim, other, recover, |_| {
            internals::recover(OTHER);
            nothing_in(VICTIM)?;
            ensure!(line.queue.len() <= 1, "{} are left", line.queue.len());
            line.is_sound()
        });
        assert_finished(&report);
    });
}

/// Two put at once.
#[test]
fn another_puts_meanwhile() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        for bytes in [60, 700] {
            let line = Line::new(bounded);
            open([OTHER]);
            let victim = |gate: &procession_testkit::Gate| {
                internals::become_member(VICTIM);
                gate.begin();
                line.queue.put(message(9, bytes)).unwrap();
                gate.end();
            };
            let other = || {
                internals::open_slot(OTHER);
                internals::become_member(OTHER);
                line.queue.put(message(8, 10)).unwrap();
            };
            let report = crash().run_pairwise(
                victim,
                other,
                || internals::recover(VICTIM),
                |_| {
                    internals::recover(OTHER);
                    nothing_in(VICTIM)?;
                    line.is_sound()?;
                    let mut found = drain(&line.queue);
                    found.sort();
                    let theirs = message(8, 10);
                    let both = [theirs.clone(), message(9, bytes)];
                    ensure!(found == [theirs] || found == both, "{} messages", found.len());
                    line.is_sound()
                },
            );
            assert_finished(&report);
            internals::recover(VICTIM);
        }
    });
}

/// A message that carries a handle: the object lives as long as the message does.
#[test]
fn a_message_with_a_handle_is_put() {
    isolated!({
        let _dog = watched();
        arena();
        support::own_a_span();
        open([VICTIM]);
        let before = internals::census();
        let queue = Queue::<Lock>::bounded(4).unwrap();
        let victim = |gate: &procession_testkit::Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            queue.put(Lock::named("sent").unwrap()).unwrap();
            gate.end();
        };
        let objects = internals::census().objects;
        let report = crash().run(victim, |point| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            internals::collect_if_wanted();
            let (owned, reachable) = internals::queue_blocks(&queue);
            ensure!(owned == reachable, "{owned:x?} {reachable:x?}");
            let there = queue.len();
            ensure!(internals::census().objects == objects + there as u32, "an object for each message");
            ensure!(!point.finished || there == 1, "it was put");
            if there == 1 {
                let lock = queue.try_get().map_err(|e| e.to_string())?;
                ensure!(lock.name() == "sent" && lock.try_lock().is_ok(), "it is the lock");
            }
            internals::collect_if_wanted();
            ensure!(internals::census().objects == objects, "nobody has it any more");
            Ok(())
        });
        assert_finished(&report);
        internals::recover(VICTIM);
        drop(queue);
        internals::collect();
        let after = internals::census();
        assert_eq!((after.objects, after.blocks), (before.objects, before.blocks));
    });
}

/// The victim finds the queue full and sleeps until main takes something out.
#[test]
fn a_producer_waits_for_room() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        let line = Rc::new(Line::new(|| {
            let queue = Queue::bounded(2).unwrap();
            queue.put_many([message(1, 10), message(2, 10)]).unwrap();
            queue
        }));
        let (taken, mine) = (Rc::new(Cell::new(false)), Rc::clone(&line));
        let step = crash().when_parked({
            let taken = Rc::clone(&taken);
            move |_| {
                if !taken.replace(true) {
                    mine.queue.try_get().unwrap();
                }
            }
        });
        let victim = |gate: &procession_testkit::Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            line.queue.put(message(3, 10)).unwrap();
            line.diary.write(0, 1);
            gate.end();
        };
        let report = step.run(victim, |_| {
            internals::recover(VICTIM);
            nothing_in(VICTIM)?;
            line.is_sound()?;
            let found = drain(&line.queue);
            let (two, three) = (message(2, 10), message(3, 10));
            let expected: [&[Vec<u8>]; 3] =
                [&[message(1, 10), two.clone()], std::slice::from_ref(&two), &[two.clone(), three]];
            ensure!(expected.contains(&found.as_slice()), "{} messages", found.len());
            ensure!(line.diary.read(0) == 0 || found == expected[2], "it was put");
            line.is_sound()
        });
        assert_finished(&report);
        assert!(taken.get(), "it slept");
    });
}

#[test]
fn a_queue_is_made_and_dropped() {
    isolated!({
        let _dog = watched();
        arena();
        support::own_a_span();
        open([VICTIM]);
        let before = Before::now();
        let victim = |gate: &procession_testkit::Gate| {
            internals::become_member(VICTIM);
            gate.begin();
            let queue = Queue::<Vec<u8>>::bounded(4).unwrap();
            queue.put(message(1, 600)).unwrap();
            drop(queue);
            gate.end();
        };
        let report = crash().run(victim, |_| before.is_back_without(VICTIM));
        println!("{report}");
        assert_finished(&report);
    });
}

#[test]
fn a_batch_that_is_not_noted_is_found() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        internals::break_rule(Rule::BatchIntent);
        put(bounded, vec![], vec![message(9, 600)]).assert_broken();
    });
}

#[test]
fn a_batch_that_is_not_settled_is_found() {
    isolated!(env = VECTORS, {
        let _dog = watched();
        internals::break_rule(Rule::BatchSettled);
        put(bounded, vec![], vec![message(9, 60)]).assert_broken();
    });
}

/// A producer is stopped for ever with the lock: whoever does not want to wait is not kept for long.
#[test]
fn a_dead_producer_with_the_lock_keeps_nobody() {
    isolated!({
        let _dog = watched();
        let line = Line::new(bounded);
        let mut dead = Child::spawn(|| {
            internals::become_member(VICTIM);
            std::mem::forget(internals::occupy(&line.queue, internals::End::Producers));
        });
        assert_eq!(dead.wait(), 0);
        assert!(internals::queue_lock_word(&line.queue, internals::End::Producers) != 0);
        open([OTHER]);
        let waiting = Child::spawn(|| {
            internals::become_member(OTHER);
            line.queue.put(message(1, 1)).unwrap();
        });
        proc::wait_until("it waits", support::LONG, || proc::is_parked(waiting.pid));
        internals::recover(VICTIM);
        let mut waiting = waiting;
        assert_eq!(waiting.wait(), 0, "{}", waiting.text());
        assert_eq!(drain(&line.queue), [message(1, 1)]);
    });
}
