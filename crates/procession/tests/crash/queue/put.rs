//! A process is killed at every instruction of putting items into a queue. Afterwards each item is either
//! completely in the queue or not in it at all.

use crate::support;
use std::cell::Cell;
use std::rc::Rc;

use crate::support::line::{Line, Mixed, Numbered, put_all};
use crate::support::{OTHER, VECTORS, arena, assert_finished};
use procession::Queue;
use procession::internals::{self, End, Rule};
use procession_testkit::{CrashStep, Report, freeze, isolated, spawn_parked};

/// The number of the victim's item, or of its first item.
const NEW: u64 = 20;

fn crash() -> CrashStep {
    CrashStep::new(arena())
}

/// The victim puts one item.
fn put_one<T: Numbered>(line: &Line<T>, step: CrashStep) -> Report {
    line.step(
        step,
        || T::new(NEW),
        |line, item| {
            line.queue().put(item).expect("there is room");
            line.returned(1);
        },
        |point| line.after_put(point, &[NEW], false),
    )
}

/// The victim puts `count` items by one call.
fn put_many<T: Numbered>(line: &Line<T>, count: u64, bit_by_bit: bool) -> Report {
    let numbers: Vec<u64> = (NEW..NEW + count).collect();
    line.step(
        crash(),
        || numbers.iter().map(|&number| T::new(number)).collect::<Vec<T>>(),
        |line, items| line.returned(line.queue().put_many(items).expect("there is room") as u64),
        |point| line.after_put(point, &numbers, bit_by_bit),
    )
}

/// Returns the position of the producers' cursor: its segment, and its record.
fn place<T: Numbered>(line: &Line<T>) -> (u64, u64) {
    internals::queue_place(line.queue(), End::Producers)
}

fn dies_anywhere<T: Numbered>(line: Line<T>) {
    assert_finished(&put_one(&line, crash()));
}

tests! {
    an_item_can_be_put_into_an_empty_queue = dies_anywhere(Line::<u64>::with([]));
    an_item_can_be_put_behind_others = dies_anywhere(Line::<u64>::with(1..=5));
    into_the_last_place =
        dies_anywhere(Line::<u64>::new(|| Queue::bounded(3), |queue| put_all(queue, [1, 2])));
    an_item_in_a_block_of_its_own_can_be_put = dies_anywhere(Line::<Vec<u64>>::with([1]));
    an_item_with_a_handle_can_be_put = dies_anywhere(Line::<(u64, procession::Lock, String)>::with([1]));
    several_items_can_be_put_by_one_call = assert_finished(&put_many(&Line::<u64>::with([1]), 5, false));
    several_items_with_blocks_can_be_put_by_one_call = assert_finished(&put_many(&Line::<Mixed>::with([1]), 6, false));
}

/// Creates a queue whose first segment is so full that the next item wraps around to the segment's start.
fn about_to_go_round<T: Numbered>() -> Line<T> {
    Line::new(
        || Queue::bounded(20),
        |queue| {
            put_all(queue, [1, 2, 3]);
            (0..3).for_each(|_| drop(queue.get().expect("an item")));
            Vec::new()
        },
    )
}

#[test]
fn an_item_can_be_put_at_the_start_of_a_segment() {
    isolated!(env = VECTORS, {
        let line = about_to_go_round::<Vec<u32>>();
        let (segment, before) = place(&line);
        assert_finished(&put_one(&line, crash()));
        let (same, now) = place(&line);
        assert!(same == segment && now < before, "the ring did not wrap around: {before:x} and {now:x}");
    });
}

#[test]
fn an_item_can_be_put_into_a_new_segment() {
    isolated!(env = VECTORS, {
        let line = Line::<Vec<u32>>::with([1, 2, 3]);
        let (segment, _) = place(&line);
        assert_finished(&put_one(&line, crash()));
        assert_ne!(place(&line).0, segment, "the queue did not grow");
    });
}

/// One call must first wrap around, and then grow the queue more than once.
#[test]
fn several_items_can_be_put_into_new_segments() {
    isolated!(env = VECTORS, {
        let line = about_to_go_round::<Vec<u32>>();
        let (segment, _) = place(&line);
        assert_finished(&put_many(&line, 14, true));
        assert_ne!(place(&line).0, segment, "the queue did not grow");
    });
}

#[test]
fn several_items_are_put_as_far_as_they_fit() {
    isolated!({
        let line = Line::<u64>::new(|| Queue::bounded(3), |queue| put_all(queue, [1]));
        let report = line.step(
            crash(),
            || (),
            |line, ()| {
                let left = line.queue().try_put_many([NEW, NEW + 1, NEW + 2]).expect_err("it is full");
                assert_eq!(left.into_item(), [NEW + 2]);
                line.returned(2);
            },
            |point| line.after_put(point, &[NEW, NEW + 1], false),
        );
        assert_finished(&report);
    });
}

#[test]
fn a_put_into_a_full_queue_is_refused() {
    isolated!(env = VECTORS, {
        let line = Line::<Vec<u64>>::new(|| Queue::bounded(1), |queue| put_all(queue, [1]));
        let report = line.step(
            crash(),
            || Numbered::new(NEW),
            |line, item| {
                assert!(line.queue().try_put(item).is_err());
                line.returned(0);
            },
            |point| line.after_put(point, &[NEW], false),
        );
        assert_finished(&report);
    });
}

/// The victim must wait for its turn, because another process is putting.
#[test]
fn a_producer_can_wait_for_its_turn() {
    isolated!({
        let line = Line::<u64>::with([1]);
        let occupied = Rc::new(Cell::new(Some(internals::occupy(line.queue(), End::Producers))));
        let mine = Rc::clone(&occupied);
        let report = line.step(
            crash().when_parked(move |_| drop(mine.take())),
            || NEW,
            |line, item| {
                line.queue().put(item).expect("there is room");
                line.returned(1);
            },
            |point| {
                drop(occupied.take());
                line.after_put(point, &[NEW], false)
            },
        );
        assert_finished(&report);
    });
}

/// The victim must sleep until there is room.
#[test]
fn a_producer_can_sleep_until_there_is_room() {
    isolated!(env = VECTORS, {
        for wide in [false, true] {
            let line = Line::<Mixed>::new(|| Queue::bounded(1), |queue| put_all(queue, [0])).leaked();
            let number = if wide { 22 } else { 21 };
            let taken = support::Diary::new();
            let report = line.step(
                crash().when_parked(move |_| {
                    taken.write(0, 1);
                    assert_eq!(line.queue().try_get().map(|item| item.number()), Ok(0));
                }),
                || Mixed::new(number),
                |line, item| {
                    line.queue().put(item).expect("there is room");
                    line.returned(1);
                },
                |_| {
                    let old: &[u64] = if taken.read(0) == 0 { &[0] } else { &[] };
                    let put = line.queue().len() - old.len();
                    ensure!(line.told().is_none_or(|told| told == put as u64), "{put} are there");
                    line.holds(&[old, &[number][..put]].concat())
                },
            );
            assert_eq!(taken.read(0), 1, "the victim did not sleep");
            assert_finished(&report);
            line.end().unwrap();
        }
    });
}

/// A consumer sleeps, and the victim must wake it.
#[test]
fn a_producer_can_wake_a_sleeping_consumer() {
    isolated!({
        let line = Line::<u64>::with([]);
        let mut consumer = spawn_parked(|| {
            internals::become_member(OTHER);
            assert_eq!(line.queue().get(), Ok(NEW));
        });
        let frozen = freeze(consumer.pid);
        let report = line.step(
            crash(),
            || NEW,
            |line, item| {
                line.queue().put(item).expect("there is room");
                line.returned(1);
            },
            |point| {
                internals::recover(OTHER);
                line.after_put(point, &[NEW], false)
            },
        );
        frozen.wait_until_woken();
        frozen.thaw();
        assert_eq!(consumer.wait(), 0, "{}", consumer.text());
        assert_finished(&report);
    });
}

#[test]
fn without_the_intent_a_batch_leaks() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::BatchIntent);
        let report = put_one(&Line::<Vec<u64>>::with([1]), crash());
        report.assert_broken();
        assert!(report.failures.iter().all(|failure| failure.why.contains("and reaches")), "{report}");
    });
}

#[test]
fn without_the_repair_a_batch_leaks() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::CursorAdvanced);
        put_one(&Line::<u64>::with([1]), crash()).assert_broken();
    });
}
