//! At every instruction of a process that puts or takes an item, another process puts or takes an item, too.
//! Then the first process is killed.

use crate::support;
use crate::support::line::{Line, Mixed, Numbered, become_victim, drain, put_all};
use crate::support::{Diary, OTHER, VECTORS, VICTIM, arena, assert_finished};
use procession::Queue;
use procession::internals::{self, End, Rule};
use procession_testkit::{CrashStep, Gate, Report, isolated};

/// The numbers of the victim's items, of the other process's items, and of the items that main puts. Main
/// puts items so that the other process need not wait for the dead victim.
const NEW: u64 = 20;
const OTHERS: u64 = 40;
const LATE: u64 = 60;

/// The items that the other process has taken.
struct Taken(Diary);

impl Taken {
    fn note(&self, numbers: &[u64]) {
        numbers.iter().enumerate().for_each(|(place, number)| self.0.write(place + 1, *number));
        self.0.write(0, numbers.len() as u64);
    }

    fn numbers(&self) -> Vec<u64> {
        (0..self.0.read(0) as usize).map(|place| self.0.read(place + 1)).collect()
    }
}

/// Two processes at a queue.
struct Pair<T> {
    line: Line<T>,
    taken: Taken,
}

impl<T: Numbered> Pair<T> {
    fn at(line: Line<T>) -> Pair<T> {
        Pair { line, taken: Taken(Diary::new()) }
    }

    fn queue(&self) -> &Queue<T> {
        self.line.queue()
    }

    /// Runs `victim` on the result of `prepare` while `other` races with it. `rescue` puts items for which
    /// the other process may wait, and `verdict` checks what is left.
    fn meet<P>(
        &self,
        prepare: impl Fn() -> P,
        victim: impl Fn(P),
        other: impl Fn(),
        rescue: impl Fn(),
        verdict: impl Fn(&[u64], &[u64]) -> bool,
    ) -> Report {
        let stepped = |gate: &Gate| {
            become_victim();
            let prepared = prepare();
            gate.begin();
            victim(prepared);
            gate.end();
        };
        let beside = || {
            self.taken.note(&[]);
            internals::become_member(OTHER);
            other();
        };
        let recover = || {
            internals::recover(VICTIM);
            rescue();
        };
        let report = CrashStep::new(arena()).run_pairwise(stepped, beside, recover, |_| {
            support::nothing_in(VICTIM)?;
            internals::recover(OTHER);
            self.line.is_whole()?;
            let (taken, left) = (self.taken.numbers(), drain(self.queue()));
            ensure!(verdict(&taken, &left), "the other has taken {taken:?}, and {left:?} is left");
            self.line.holds(&[])
        });
        println!("{report}");
        internals::recover(VICTIM);
        report
    }

    fn take(&self) {
        let number = self.queue().get().expect("an item").number();
        self.taken.note(&[number]);
    }
}

macro_rules! pairs {
    ($($test:ident = $do:expr;)*) => {$(
        #[test]
        fn $test() {
            isolated!(env = VECTORS, {
                assert_finished(&$do);
            });
        }
    )*};
}

/// The victim puts, and the other process takes the first item.
fn put_and_get<T: Numbered>(line: Line<T>) -> Report {
    let pair = Pair::at(line);
    let held = pair.line.held.clone();
    pair.meet(
        || T::new(NEW),
        |item| pair.queue().put(item).expect("there is room"),
        || pair.take(),
        || {
            if held.is_empty() {
                pair.queue().try_put(T::new(LATE)).expect("there is room");
            }
        },
        |taken, left| {
            let all = [taken, left].concat();
            let late: &[u64] = if held.is_empty() { &[LATE] } else { &[] };
            all == [&held, &[NEW][..], late].concat() || all == [&held, late].concat()
        },
    )
}

/// The victim takes, and the other process puts.
fn get_and_put<T: Numbered>(line: Line<T>) -> Report {
    let pair = Pair::at(line);
    let held = pair.line.held.clone();
    let full = pair.queue().is_full();
    pair.meet(
        || (),
        |()| drop(pair.queue().get().expect("an item")),
        || {
            // The item is created here, so no other process holds the handle that is in the item.
            pair.queue().put(T::new(OTHERS)).expect("there is room, sooner or later");
            pair.taken.note(&[]);
        },
        || {
            if full && pair.queue().is_full() {
                pair.taken.note(&[]);
                drop(pair.queue().try_get());
            }
        },
        |_, left| {
            let both: Vec<u64> = held.iter().copied().chain([OTHERS]).collect();
            left == both || left == &both[1..] || full && left == &both[2..]
        },
    )
}

fn put_and_put<T: Numbered>(line: Line<T>) -> Report {
    let pair = Pair::at(line);
    let held = pair.line.held.clone();
    pair.meet(
        || T::new(NEW),
        |item| pair.queue().put(item).expect("there is room"),
        || pair.queue().put(T::new(OTHERS)).expect("there is room"),
        || (),
        |_, left| left == [&held, &[OTHERS][..]].concat() || left == [&held, &[NEW, OTHERS][..]].concat(),
    )
}

fn get_and_get<T: Numbered>(line: Line<T>) -> Report {
    let pair = Pair::at(line);
    let held = pair.line.held.clone();
    pair.meet(
        || (),
        |()| drop(pair.queue().get().expect("an item")),
        || pair.take(),
        || (),
        |taken, left| {
            let all = [taken, left].concat();
            all == held || all == held[1..]
        },
    )
}

fn three_wide_ones_taken() -> Line<Vec<u32>> {
    Line::new(
        || Queue::bounded(20),
        |queue| {
            put_all(queue, 1..=5);
            (0..3).for_each(|_| drop(queue.get().expect("an item")));
            vec![4, 5]
        },
    )
}

pairs! {
    an_item_can_be_taken_while_another_is_put = put_and_get(Line::<u64>::with([1]));
    an_item_can_be_taken_as_soon_as_it_is_put = put_and_get(Line::<u64>::with([]));
    a_block_can_be_taken_as_soon_as_it_is_put = put_and_get(Line::<Vec<u64>>::with([]));
    a_handle_can_be_taken_as_soon_as_it_is_put = put_and_get(Line::<Mixed>::with([]));
    an_item_can_be_taken_while_the_queue_grows = put_and_get(Line::<Vec<u32>>::with([1, 2, 3]));
    an_item_can_be_put_while_another_is_taken = get_and_put(Line::<u64>::with([1, 2]));
    a_block_can_be_put_while_another_is_taken = get_and_put(Line::<Vec<u64>>::with([1, 2]));
    an_item_can_be_put_while_a_segment_is_left = get_and_put(three_wide_ones_taken());
    an_item_is_put_when_another_makes_room =
        get_and_put(Line::<u64>::new(|| Queue::bounded(2), |queue| put_all(queue, [1, 2])));
    two_producers_can_put_at_the_same_time = put_and_put(Line::<u64>::with([1]));
    two_producers_can_put_blocks_at_the_same_time = put_and_put(Line::<Vec<u64>>::with([1]));
    two_producers_can_grow_the_queue = put_and_put(Line::<Vec<u32>>::with([1, 2, 3]));
    two_consumers_can_take_at_the_same_time = get_and_get(Line::<u64>::with([1, 2, 3]));
    two_consumers_can_take_blocks_at_the_same_time = get_and_get(Line::<Vec<u64>>::with([1, 2, 3]));
    two_consumers_can_leave_a_segment = get_and_get(three_wide_ones_taken());
    a_growing_queue_can_be_drained = grow_and_drain();
    a_queue_can_be_closed_while_another_process_takes = close_and_get();
}

/// The victim puts so many items in one call that the queue grows several times. Meanwhile a fork of main
/// takes all items, reuses the freed memory, and writes over the first segment if that is free.
fn grow_and_drain() -> Report {
    const HEADER: u64 = 16;
    let line = Line::<Vec<u32>>::with([1]);
    let first_segment = internals::queue_place(line.queue(), End::Producers).0 - HEADER;
    let new: Vec<u64> = (NEW..NEW + 14).collect();
    let taken = Taken(Diary::new());
    let victim = |gate: &Gate| {
        become_victim();
        let items: Vec<Vec<u32>> = new.iter().map(|&number| Numbered::new(number)).collect();
        gate.begin();
        assert_eq!(line.queue().put_many(items), Ok(14));
        gate.end();
    };
    // This runs in a fork of main, which acts with main's slot and main's memory.
    let main_drains = || {
        taken.note(&drain(line.queue()));
        let written_over = [(); 45].map(|()| internals::pack(&vec![u64::MAX; 186]).expect("a block"));
        written_over.into_iter().for_each(internals::free);
        internals::write_over(first_segment);
    };
    let recover = || internals::recover(VICTIM);
    let report = CrashStep::new(arena()).run_pairwise(victim, main_drains, recover, |_| {
        support::nothing_in(VICTIM)?;
        line.is_whole()?;
        let (taken, left) = (taken.numbers(), drain(line.queue()));
        let all = [&taken[..], &left].concat();
        ensure!(all[..1] == [1] && new.starts_with(&all[1..]), "{taken:?} was taken, and {left:?} is left");
        line.holds(&[])
    });
    println!("{report}");
    report
}

#[test]
fn without_the_rule_a_segment_is_freed_under_a_producer() {
    isolated!(env = VECTORS, {
        internals::break_rule(Rule::SegmentKept);
        grow_and_drain().assert_broken();
    });
}

/// The victim closes the queue. The other process takes the item that is in it, and a second one if there is
/// one.
fn close_and_get() -> Report {
    let line = Line::<u64>::with([1]);
    let victim = |gate: &Gate| {
        become_victim();
        gate.begin();
        line.queue().close().expect("the queue can be closed");
        gate.end();
    };
    let other = || {
        internals::become_member(OTHER);
        assert_eq!(line.queue().get(), Ok(1));
        match line.queue().get() {
            Ok(LATE) => assert!(!line.queue().is_closed()),
            Err(procession::queue::GetError::Closed) => assert!(line.queue().is_closed()),
            unexpected => panic!("{unexpected:?}"),
        }
    };
    let recover = || {
        internals::recover(VICTIM);
        let _ = line.queue().try_put(LATE);
    };
    let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| {
        support::nothing_in(VICTIM)?;
        internals::recover(OTHER);
        line.is_whole()?;
        line.end()
    });
    println!("{report}");
    report
}
