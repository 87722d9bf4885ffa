//! A reader is stopped at many different instructions. While it is stopped, the data that it reads is
//! changed, and the old memory is freed and reused. When the reader continues, it must see a value that was
//! current.

use crate::support::{Diary, VICTIM, arena, go_on, open};
use procession::internals::{self, Rule};
use procession::state::List;
use procession::{Dict, Lock};
use procession_testkit::{Child, isolated, run_until};

/// Places of the diary. The reader writes there that it is done, and whether the value that it saw is
/// correct.
const DONE: usize = 0;
const SEEN: usize = 1;

/// The number of instructions at which a test stops the reader. For each of these instructions, a new reader
/// takes single steps from the start.
const PLACES: u64 = 32;

/// Returns a text of equal letters, so a mixture of two such texts can be recognized.
fn text(letter: char) -> String {
    letter.to_string().repeat(100)
}

fn is_whole(text: Option<&str>, letters: &str) -> bool {
    text.is_some_and(|text| {
        text.len() == 100 && letters.chars().any(|letter| text.chars().all(|other| other == letter))
    })
}

/// Starts a process that calls `read`, and stops the process after `steps` instructions, or when it is done.
/// Returns the process and the number of instructions that it has executed.
fn reader(steps: u64, read: impl Fn() -> bool, diary: Diary) -> (Child, u64) {
    open([VICTIM]);
    let mut stopped_at = 0;
    let reader = run_until(
        |gate| {
            internals::become_member(VICTIM);
            read(); // makes the spans that it takes memory from
            gate.begin();
            let right = read();
            diary.write(DONE, 1);
            diary.write(SEEN, 1 + u64::from(right));
        },
        |point| {
            stopped_at = point.step;
            point.step >= steps || diary.read(DONE) == 1
        },
    );
    (reader, stopped_at)
}

/// Continues the reader. Returns whether it has read a correct value.
fn was_right(mut reader: Child, diary: Diary) -> bool {
    go_on(&reader);
    assert_eq!(reader.wait(), 0, "{}", reader.text());
    internals::recover(VICTIM);
    diary.read(SEEN) == 2
}

/// Stops a reader at each of many instructions, and calls `change` meanwhile. Returns the number of readers
/// that were not done when they were stopped, and the number of those that then read a wrong value.
fn at_all(read: impl Fn() -> bool, change: impl Fn()) -> (usize, usize) {
    at_places(PLACES, read, change)
}

/// Does the same as [`at_all`] at a given number of instructions, because reading a handle takes very many of
/// them.
fn at_places(places_in_all: u64, read: impl Fn() -> bool, change: impl Fn()) -> (usize, usize) {
    let diary = Diary::new();
    let (undisturbed, all) = reader(u64::MAX, &read, diary);
    assert!(was_right(undisturbed, diary), "undisturbed");
    let (mut places, mut wrong) = (0, 0);
    for place in 0..places_in_all {
        let diary = Diary::new();
        let (reader, _) = reader(all * place / places_in_all, &read, diary);
        let in_time = diary.read(DONE) == 0;
        change();
        let right = was_right(reader, diary);
        places += usize::from(in_time);
        wrong += usize::from(in_time && !right);
    }
    println!("stopped at {places} places of {all} instructions, {wrong} wrong values");
    (places, wrong)
}

/// Replaces the value that is read, and reuses its memory.
fn overwrite(dict: &Dict<u32, String>) {
    let old = if dict.get(&1).unwrap().is_some_and(|value| value.starts_with('a')) { 'b' } else { 'a' };
    dict.insert(&1, text(old)).unwrap();
    for round in 0..600 {
        dict.insert(&2, text(if round % 2 == 0 { 'x' } else { 'y' })).unwrap();
    }
}

fn reading_a_dict() -> (usize, usize) {
    arena();
    let dict = Dict::from_entries([(1, text('a')), (2, text('x'))]).unwrap();
    at_all(|| is_whole(dict.get(&1).unwrap().as_deref(), "ab"), || overwrite(&dict))
}

#[test]
fn a_reader_sees_a_replaced_value_whole() {
    isolated!({
        let (places, wrong) = reading_a_dict();
        assert!(places > 20 && wrong == 0);
    });
}

#[test]
fn without_versions_a_reader_sees_a_mixture() {
    isolated!({
        internals::break_rule(Rule::VersionIncremented);
        assert!(reading_a_dict().1 > 0);
    });
}

#[test]
fn a_reader_searches_a_replaced_table_again() {
    isolated!({
        arena();
        let dict = Dict::from_entries([(1, text('a'))]).unwrap();
        let change = || {
            dict.extend((10..2000).map(|n| (n, text('x')))).unwrap();
            for n in 10..2000 {
                dict.remove(&n).unwrap();
            }
        };
        let (places, wrong) = at_all(|| is_whole(dict.get(&1).unwrap().as_deref(), "a"), change);
        assert!(places > 20 && wrong == 0);
    });
}

#[test]
fn a_reader_sees_a_replaced_item_whole() {
    isolated!({
        arena();
        let list = List::from_items(['z', 'a', 'z'].map(text)).unwrap();
        let change = || {
            let old =
                if list.get(1).unwrap().is_some_and(|value| value.starts_with('a')) { 'b' } else { 'a' };
            list.insert(1, text(old)).unwrap();
            list.remove(2).unwrap();
            for _ in 0..600 {
                list.push(text('x')).unwrap();
                list.push_front(text('z')).unwrap();
                list.pop_front().unwrap();
                list.pop().unwrap();
            }
        };
        // The changes also insert an item before the item that is read. Until the new item is removed, the
        // other item has another index.
        let (places, wrong) = at_all(|| is_whole(list.get(1).unwrap().as_deref(), "abz"), change);
        assert!(places > 20 && wrong == 0);
    });
}

#[test]
fn a_reader_gets_a_living_handle() {
    isolated!({
        arena();
        let dict = Dict::from_entries([(1, Lock::labeled("first").unwrap())]).unwrap();
        let change = || {
            drop(dict.insert(&1, Lock::labeled("second").unwrap()).unwrap());
            internals::collect();
            // Creates a lock that reuses the old lock's place in the table of objects.
            for _ in 0..3 {
                drop(Lock::labeled("another").unwrap());
            }
        };
        let read = || {
            let lock = dict.get(&1).expect("no stale handle").expect("the lock is there");
            ["first", "second"].contains(&lock.name().as_str())
        };
        let (places, wrong) = at_places(9, read, change);
        assert!(places > 5 && wrong == 0);
        internals::collect();
        assert_eq!(internals::census().objects, 2, "the dict, and one lock");
    });
}
