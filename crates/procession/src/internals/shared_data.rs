//! Dicts and lists from the inside: parts, counts, blocks.

use super::census::census;
use crate::Message;
use crate::arena::blocks::Tag;

/// Returns what is wrong with a dict: blocks that it owns but that cannot be reached, the reverse, and wrong
/// counts.
pub fn faults_of_dict<K, V>(dict: &crate::Dict<K, V>) -> Vec<String> {
    let ((mut reached, counts), object) = (dict.map().inventory(), dict.id().index());
    let mut faults = faults_of_blocks(object, &mut reached);
    for (part, [live, there, used, not_empty]) in counts.into_iter().enumerate() {
        if live != there || used != not_empty {
            faults.push(format!("part {part} counts {live} and {used}; there are {there} and {not_empty}"));
        }
    }
    faults
}

/// Returns the index of the part of a dict to which a key belongs.
pub fn part_of_dict<K: Message, V>(dict: &crate::Dict<K, V>, key: &K) -> usize {
    crate::codec::encoding::with_bytes(key, |bytes, _| dict.map().part_index(bytes)).expect("a key")
}

/// Returns whether the table of a part of a dict has no room for one more word. Returns `None` if the part
/// has no table.
pub fn is_full_part_of_dict<K, V>(dict: &crate::Dict<K, V>, part: usize) -> Option<bool> {
    let [_, _, used, _] = dict.map().inventory().1[part];
    dict.map().table_len(part).map(|len| 4 * (used + 1) > 3 * len)
}

/// Returns whether a thread holds the lock of the part to which a key belongs.
pub fn is_locked_part_of_dict<K: Message, V>(dict: &crate::Dict<K, V>, key: &K) -> bool {
    dict.map().is_locked(part_of_dict(dict, key))
}

/// Returns what is wrong with a list, like [`faults_of_dict`].
pub fn faults_of_list<T>(list: &crate::state::List<T>) -> Vec<String> {
    let (object, (mut reached, beyond)) = list.inventory();
    let mut faults = faults_of_blocks(object, &mut reached);
    if beyond != 0 {
        faults.push(format!("{beyond} words beyond the ends are not empty"));
    }
    faults
}

fn faults_of_blocks(object: u32, reached: &mut [u64]) -> Vec<String> {
    let owner = Tag::object(object);
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(owner));
    let mut owned: Vec<u64> = owned.map(|(at, _)| at).collect();
    owned.sort_unstable();
    reached.sort_unstable();
    let lost = owned.iter().filter(|at| reached.binary_search(at).is_err());
    let lost = lost.map(|at| format!("block {at:#x} is owned and not reached"));
    let foreign = reached.iter().filter(|at| owned.binary_search(at).is_err());
    lost.chain(foreign.map(|at| format!("block {at:#x} is reached and not owned"))).collect()
}
