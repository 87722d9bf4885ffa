//! A process is killed at every instruction of taking an item out of a queue, closing the queue, creating it and
//! dropping it.

use crate::support;
use std::cell::Cell;
use std::rc::Rc;

use crate::support::line::{Line, Mixed, Numbered, become_victim, drain, put_all};
use crate::support::{Before, OTHER, VECTORS, VICTIM, arena, assert_finished, open};
use procession::internals::{self, End, Rule};
use procession::{Lock, Queue};
use procession_testkit::{CrashStep, Gate, Report, freeze, isolated, spawn_parked};

fn crash() -> CrashStep {
    CrashStep::new(arena())
}

/// The victim takes one item.
fn get_one<T: Numbered>(line: &Line<T>, step: CrashStep) -> Report {
    line.step(
        step,
        || (),
        |line, ()| {
            assert_eq!(line.queue().get().map(|item| item.number()), Ok(line.held[0]));
            line.returned(1);
        },
        |point| line.after_get(point, 1),
    )
}

/// The victim takes up to `most` items by one call.
fn get_many<T: Numbered>(line: &Line<T>, most: usize, count: usize) -> Report {
    line.step(
        crash(),
        || (),
        |line, ()| {
            let got = line.queue().get_many(most).expect("there are items");
            let numbers: Vec<u64> = got.iter().map(|item| item.as_ref().expect("an item").number()).collect();
            assert_eq!(numbers, line.held[..count]);
            line.returned(count as u64);
        },
        |point| line.after_get(point, count),
    )
}

/// Returns the position of the consumers' cursor: its segment, and its record.
fn place<T: Numbered>(line: &Line<T>) -> (u64, u64) {
    internals::queue_place(line.queue(), End::Consumers)
}

/// Creates a queue of items in blocks of their own. The first segment names 126 of them.
fn from_two_segments() -> Line<Vec<u64>> {
    Line::new(Queue::unbounded, |queue| {
        put_all(queue, 1..=140);
        (0..110).for_each(|_| drop(queue.get().expect("an item")));
        (111..=140).collect()
    })
}

/// Creates a queue that wraps around: the first item is stored behind the others.
fn that_goes_round() -> Line<Vec<u32>> {
    Line::new(
        || Queue::bounded(20),
        |queue| {
            put_all(queue, 1..=3);
            (0..2).for_each(|_| drop(queue.get().expect("an item")));
            put_all(queue, 4..=5);
            vec![3, 4, 5]
        },
    )
}

/// Creates a queue whose first two segments hold 3 and 15 items.
fn in_three_segments() -> Line<Vec<u32>> {
    Line::new(
        || Queue::bounded(20),
        |queue| {
            put_all(queue, 1..=19);
            (1..=19).collect()
        },
    )
}

fn dies_anywhere<T: Numbered>(line: Line<T>) {
    assert_finished(&get_one(&line, crash()));
}

tests! {
    an_item_can_be_taken_from_the_front = dies_anywhere(Line::<u64>::with(1..=5));
    the_last_item_can_be_taken = dies_anywhere(Line::<u64>::with([1]));
    an_item_can_be_taken_from_a_full_queue = dies_anywhere(Line::<u64>::new(|| Queue::bounded(2), |queue| put_all(queue, [1, 2])));
    an_item_in_a_block_of_its_own_can_be_taken = dies_anywhere(Line::<Vec<u64>>::with([1, 2]));
    an_item_with_a_handle_can_be_taken = dies_anywhere(Line::<(u64, Lock, String)>::with([1, 2]));
    several_items_can_be_taken_by_one_call = assert_finished(&get_many(&Line::<u64>::with(1..=5), 3, 3));
    all_items_can_be_taken_by_one_call = assert_finished(&get_many(&Line::<u64>::with(1..=5), usize::MAX, 5));
    several_items_with_blocks_can_be_taken_by_one_call = assert_finished(&get_many(&Line::<Mixed>::with(1..=6), 5, 5));
    items_of_two_segments_can_be_taken_by_one_call = assert_finished(&get_many(&Line::<Vec<u32>>::with(1..=7), 9, 7));
    blocks_of_two_segments_can_be_taken_by_one_call = assert_finished(&get_many(&from_two_segments(), usize::MAX, 30));
    items_around_the_wrap_can_be_taken_by_one_call = assert_finished(&get_many(&that_goes_round(), 9, 3));
    items_of_two_segments_of_three_can_be_taken = assert_finished(&get_many(&in_three_segments(), usize::MAX, 18));
    a_queue_can_be_closed = is_closed_anywhere(Line::<u64>::with([1, 2]));
    a_closed_queue_can_be_closed_again = is_closed_anywhere(Line::<Vec<u32>>::with([]));
}

#[test]
fn an_item_can_be_taken_from_the_start_of_a_segment() {
    isolated!(env = VECTORS, {
        let line = Line::<Vec<u32>>::new(
            || Queue::bounded(20),
            |queue| {
                put_all(queue, [1, 2, 3]);
                drain(queue);
                put_all(queue, [4, 5])
            },
        );
        let (segment, before) = place(&line);
        assert_finished(&get_one(&line, crash()));
        let (same, now) = place(&line);
        assert!(same == segment && now < before, "the ring did not wrap around: {before:x} and {now:x}");
    });
}

/// The victim takes the last item of a segment, moves on to the next segment, and frees the first.
#[test]
fn an_item_can_be_taken_from_the_next_segment() {
    isolated!(env = VECTORS, {
        let line = Line::<Vec<u32>>::new(
            || Queue::bounded(20),
            |queue| {
                put_all(queue, 1..=5);
                (0..3).for_each(|_| drop(queue.get().expect("an item")));
                vec![4, 5]
            },
        );
        let (segment, _) = place(&line);
        assert_finished(&get_one(&line, crash()));
        assert_ne!(place(&line).0, segment);
        assert_eq!(internals::queue_blocks(line.queue()).0.len(), 2, "the old segment is still there");
    });
}

/// The segment that is freed is a run of spans.
#[test]
fn an_item_can_be_taken_after_a_large_segment() {
    isolated!(env = VECTORS, {
        let line = Line::<Vec<u32>>::new(
            || Queue::bounded(1200),
            |queue| {
                // The first four segments hold 4, 20, 80 and 321 of these items.
                put_all(queue, 1..=430);
                (0..425).for_each(|_| drop(queue.get().expect("an item")));
                (426..=430).collect()
            },
        );
        let (segment, _) = place(&line);
        assert_finished(&get_one(&line, crash()));
        assert_ne!(place(&line).0, segment);
        assert_eq!(internals::queue_blocks(line.queue()).0.len(), 2, "the old segment is still there");
    });
}

#[test]
fn a_try_to_take_from_an_empty_queue_fails() {
    isolated!({
        let line = Line::<u64>::with([]);
        let report = line.step(
            crash(),
            || (),
            |line, ()| {
                assert!(line.queue().try_get().is_err());
                line.returned(0);
            },
            |point| line.after_get(point, 1),
        );
        assert_finished(&report);
    });
}

#[test]
fn a_taker_can_wait_for_its_turn() {
    isolated!({
        let line = Line::<u64>::with([1, 2]);
        let occupied = Rc::new(Cell::new(Some(internals::occupy(line.queue(), End::Consumers))));
        let mine = Rc::clone(&occupied);
        let report = line.step(
            crash().when_parked(move |_| drop(mine.take())),
            || (),
            |line, ()| {
                assert_eq!(line.queue().get(), Ok(1));
                line.returned(1);
            },
            |point| {
                drop(occupied.take());
                line.after_get(point, 1)
            },
        );
        assert_finished(&report);
    });
}

/// The victim sleeps until another process puts an item into the queue.
#[test]
fn a_taker_can_sleep_until_an_item_comes() {
    isolated!(env = VECTORS, {
        for number in [21, 22, 23] {
            let line = Line::<Mixed>::with([]).leaked();
            let put = support::Diary::new();
            let report = line.step(
                crash().when_parked(move |_| {
                    line.queue().try_put(Mixed::new(number)).expect("there is room");
                    put.write(0, 1);
                }),
                || (),
                |line, ()| {
                    assert_eq!(line.queue().get().map(|item| item.number()), Ok(number));
                    line.returned(1);
                },
                |_| {
                    let there = line.queue().len();
                    let taken = put.read(0) as usize - there;
                    ensure!(line.told().is_none_or(|told| told == taken as u64), "{taken} are gone");
                    line.holds(&[number][..there])
                },
            );
            assert_eq!(put.read(0), 1, "the victim did not sleep");
            assert_finished(&report);
            line.end().unwrap();
        }
    });
}

/// A producer sleeps because the queue is full. It must be woken when there is room.
#[test]
fn a_taker_can_wake_a_sleeping_producer() {
    isolated!({
        let line = Line::<u64>::new(|| Queue::bounded(1), |queue| put_all(queue, [1]));
        let mut producer = spawn_parked(|| {
            internals::become_member(OTHER);
            assert_eq!(line.queue().put(2), Ok(()));
        });
        let frozen = freeze(producer.pid);
        let report = line.step(
            crash(),
            || (),
            |line, ()| {
                assert_eq!(line.queue().get(), Ok(1));
                line.returned(1);
            },
            |point| {
                internals::recover(OTHER);
                line.after_get(point, 1)
            },
        );
        frozen.wait_until_woken();
        frozen.thaw();
        assert_eq!(producer.wait(), 0, "{}", producer.text());
        assert_finished(&report);
    });
}

#[test]
fn without_the_rule_a_dead_consumer_keeps_a_message() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::TakenMessageReturned);
        get_one(&Line::<Vec<u64>>::with([1, 2]), crash()).assert_broken();
        get_many(&Line::<Mixed>::with(1..=6), 5, 5).assert_broken();
    });
}

/// The victim closes the queue. After its death the queue is closed or not, and every item is still in it.
fn is_closed_anywhere<T: Numbered>(line: Line<T>) {
    let report = line.step(
        crash(),
        || (),
        |line, ()| {
            line.queue().close().expect("the queue can be closed");
            line.returned(0);
        },
        |point| {
            let queue = line.queue();
            let closed = queue.is_closed();
            ensure!(closed || !point.finished && line.told().is_none(), "the queue is not closed");
            if !closed {
                return line.holds(&line.held);
            }
            line.is_whole()?;
            ensure!(queue.try_put(T::new(30)).is_err(), "something was put into a closed queue");
            let got: Vec<u64> = queue.iter().map(|item| item.expect("an item").number()).collect();
            ensure!(got == line.held, "{got:?} came out");
            line.is_whole()?;
            line.end()
        },
    );
    assert_finished(&report);
}

/// The victim creates a queue, puts items into it and drops it. Afterwards the arena is as before.
fn lives_and_dies<T: Numbered>(bounded: bool, numbers: &[u64]) {
    arena();
    open([VICTIM]);
    let before = Before::now();
    let victim = |gate: &Gate| {
        become_victim();
        gate.begin();
        let queue = if bounded { Queue::<T>::bounded(20) } else { Queue::unbounded() }.expect("a queue");
        put_all(&queue, numbers.iter().copied());
        drop(queue);
        gate.end();
    };
    let report = crash().run(victim, |_| before.is_back_without(VICTIM));
    println!("{report}");
    assert_finished(&report);
}

tests! {
    an_empty_queue_can_be_created_and_dropped = lives_and_dies::<u64>(true, &[]);
    a_queue_with_items_can_be_created_and_dropped = lives_and_dies::<Mixed>(true, &[1, 2, 3]);
    a_queue_of_two_segments_can_be_created_and_dropped = lives_and_dies::<Vec<u32>>(true, &[1, 2, 3, 4]);
    a_large_queue_can_be_created_and_dropped = lives_and_dies::<u64>(false, &[1]);
}
