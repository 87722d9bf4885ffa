//! The tables of a dict: growing, rebuilding, shrinking and clearing them, with a death at every instruction.

use super::dict::*;
use crate::support::{VECTORS, assert_finished};
use procession::Dict;
use procession::internals;
use procession_testkit::isolated;

/// Returns keys that share a part of the dict. With enough of them, the part's table must grow, and later
/// shrink.
fn crowded(dict: &Dict<u32, String>, count: usize) -> Vec<u32> {
    let keys = (0..).filter(|key| internals::part_of_dict(dict, key) == 3);
    keys.take(count).collect()
}

#[test]
fn a_table_can_grow() {
    isolated!(env = VECTORS, {
        let keys = crowded(&dict(&model([])), 7);
        let before = model(keys[..6].iter().copied());
        let dict = dict(&before);
        let report = step(&dict, &[before, model(keys.clone())], |dict| {
            assert_eq!(dict.insert(&keys[6], text(keys[6])), Ok(None));
        });
        assert_finished(&report);
    });
}

#[test]
fn a_table_full_of_removed_entries_can_be_rebuilt() {
    isolated!(env = VECTORS, {
        let keys = crowded(&dict(&model([])), 40);
        let dict = dict(&model(keys[..6].iter().copied()));
        // Inserts and removes keys until the next one finds no room.
        let mut next = 6;
        while internals::is_full_part_of_dict(&dict, 3).is_none_or(|full| !full) {
            dict.remove(&keys[next - 6]).unwrap();
            dict.insert(&keys[next], text(keys[next])).unwrap();
            next += 1;
            assert!(next < 39, "the table is never full");
        }
        dict.remove(&keys[next - 6]).unwrap();
        let before = model(keys[next - 5..next].iter().copied());
        let after = model(keys[next - 5..=next].iter().copied());
        let report = step(&dict, &[before, after], |dict| {
            assert_eq!(dict.insert(&keys[next], text(keys[next])), Ok(None));
        });
        assert_finished(&report);
    });
}

#[test]
fn a_table_can_shrink() {
    isolated!(env = VECTORS, {
        let keys = crowded(&dict(&model([])), 13);
        let dict = dict(&model(keys.iter().copied()));
        for key in &keys[4..] {
            dict.remove(key).unwrap();
        }
        let allowed = [4, 3, 2, 1].map(|left| model(keys[4 - left..4].iter().copied()));
        let report = step(&dict, &allowed, |dict| {
            for key in &keys[..3] {
                assert_eq!(dict.remove(key), Ok(Some(text(*key))));
            }
        });
        assert_finished(&report);
    });
}

#[test]
fn it_is_cleared() {
    isolated!(env = VECTORS, {
        let keys = crowded(&dict(&model([])), 5);
        let before = model(keys.iter().copied());
        let dict = dict(&before);
        assert_finished(&step(&dict, &[before, model([])], |dict| dict.clear().unwrap()));
    });
}
