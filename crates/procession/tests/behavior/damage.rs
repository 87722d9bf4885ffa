//! Data that another process wrote is validated before it is used. A damaged value is an error for its reader, and
//! leaves other values intact.

use std::sync::atomic::{AtomicU64, Ordering};

use procession::internals::End;
use procession::queue::GetError;
use procession::state::List;
use procession::{Dict, Error, Lock, Queue, internals};
use procession_testkit::isolated;

/// Returns the word of the arena at an offset.
#[allow(unsafe_code)]
fn word(offset: u64) -> &'static AtomicU64 {
    let (base, bytes, _) = internals::mapping();
    assert!(offset.is_multiple_of(8) && offset + 8 <= bytes as u64);
    // SAFETY: inside the mapping, aligned, and only used as an atomic here.
    unsafe { &*base.add(offset as usize).cast::<AtomicU64>() }
}

#[test]
fn a_value_longer_than_its_block_is_reported_as_damaged() {
    let lock = Lock::new().unwrap();
    for long in [1 << 10, 1 << 30, 1 << 40, u64::MAX - 7, u64::MAX] {
        let block = internals::pack(&vec![7u8; 100]).unwrap();
        word(block).store(long, Ordering::SeqCst);
        assert!(matches!(internals::unpack::<Vec<u8>>(block), Err(Error::Message(_))), "{long}");
        internals::free(block);
    }
    drop(lock.lock().unwrap());
}

#[test]
fn a_value_with_more_handles_than_fit_is_reported_as_damaged() {
    let lock = Lock::new().unwrap();
    for many in [1 << 10, 1 << 30, u64::MAX / 8, u64::MAX] {
        let block = internals::pack(&(lock.clone(), "and more".to_string())).unwrap();
        word(block + 8).store(many, Ordering::SeqCst);
        assert!(matches!(internals::unpack::<(Lock, String)>(block), Err(Error::Message(_))), "{many}");
        internals::collect_as_supervisor();
        internals::free(block);
    }
    drop(lock.lock().unwrap());
}

#[test]
fn a_value_outside_the_arena_is_reported_as_damaged() {
    let lock = Lock::new().unwrap();
    let end = internals::mapping().1 as u64;
    for nowhere in [1, 8, end - 8, end, u64::MAX / 2 + 1, u64::MAX - 15, u64::MAX - 7, u64::MAX] {
        assert!(matches!(internals::unpack::<Vec<u8>>(nowhere), Err(Error::Message(_))), "{nowhere}");
    }
    drop(lock.lock().unwrap());
}

/// Returns the block that `make` allocates. Finds the block by `mark`, which no other test writes.
fn block_with(mark: &[u8; 8], make: impl FnOnce()) -> u64 {
    let blocks = || internals::census().blocks.into_iter().map(|(at, _)| at);
    let before: Vec<u64> = blocks().collect();
    make();
    let has_mark = |at: u64| {
        let words = (0..16).map(|i| word(at + 8 * i).load(Ordering::SeqCst).to_le_bytes());
        words.collect::<Vec<_>>().concat().windows(8).any(|bytes| bytes == mark)
    };
    blocks().find(|at| !before.contains(at) && has_mark(*at)).expect("a node")
}

/// Lengths of a key and a value that are longer than any block.
const LENGTHS: [u64; 4] = [0x10_0000, 0x7fff_ffff, 0x7fff_ffff << 32, (1 << 63) - 1];

#[test]
fn a_dict_entry_longer_than_its_block_damages_no_other_entry() {
    for lengths in LENGTHS {
        let dict = Dict::<u32, String>::new().unwrap();
        let text = "mark-one".repeat(12);
        let node = block_with(b"mark-one", || drop(dict.insert(&1, text).unwrap()));
        dict.insert(&2, "sound".into()).unwrap();
        let meta = word(node).load(Ordering::SeqCst);
        // The library validates the length of the key first, so it finds the key only if that length is
        // right.
        word(node).store(1 << 63 | lengths, Ordering::SeqCst);
        assert!(dict.to_map().is_err());
        assert!(dict.iter().any(|entry| entry.is_err()));
        word(node).store(meta & !0xffff_ffff | lengths & 0xffff_ffff, Ordering::SeqCst);
        if lengths & 0xffff_ffff != 0 {
            assert!(matches!(dict.get(&1), Err(Error::Message(_))));
            assert!(dict.update(&1, |text| text.push('!')).is_err());
            assert!(dict.compare_exchange(&1, &String::new(), String::new()).is_err());
        }
        assert_eq!(dict.get(&2), Ok(Some("sound".into())));
        assert_eq!(dict.insert(&1, "sound again".into()).is_err(), lengths & 0xffff_ffff != 0);
        assert_eq!(dict.get(&1), Ok(Some("sound again".into())));
    }
}

#[test]
fn a_dict_entry_with_more_handles_than_fit_is_reported_as_damaged() {
    let lock = Lock::new().unwrap();
    for handles in [1000, u64::MAX / 8, u64::MAX] {
        let dict = Dict::<u32, (String, Lock)>::new().unwrap();
        let value = ("mark-two".to_string(), lock.clone());
        let node = block_with(b"mark-two", || drop(dict.insert(&1, value).unwrap()));
        word(node + 8).store(handles, Ordering::SeqCst);
        let got = dict.get(&1).map(|found| found.map(|(text, _)| text));
        assert!(matches!(got, Err(Error::Message(_))), "{handles:#x}: {got:?}");
        assert!(dict.to_map().is_err());
        internals::collect_as_supervisor();
    }
    drop(lock.lock().unwrap());
}

#[test]
fn a_list_item_longer_than_its_block_is_reported_as_damaged() {
    for lengths in LENGTHS.into_iter().filter(|lengths| lengths & 0xffff_ffff != 0) {
        let list = List::from_items(["sound".to_string()]).unwrap();
        let text = "mark-3rd".repeat(12);
        let node = block_with(b"mark-3rd", || list.push(text).unwrap());
        word(node).store(1 << 63 | lengths, Ordering::SeqCst);
        assert!(list.get(1).is_err());
        assert!(list.to_vec().is_err());
        assert!(list.update(1, |text| text.push('!')).is_err());
        assert!(list.pop().is_err());
        assert_eq!(list.to_vec(), Ok(vec!["sound".to_string()]));
    }
}

#[test]
fn a_record_list_that_is_damaged_or_circular_ends_there() {
    const GO: u64 = 3;
    let sound = Queue::bounded(2).unwrap();
    for leads in ["beyond", "between", "back"] {
        let queue = Queue::<u64>::unbounded().unwrap();
        queue.put(1).unwrap();
        let (_, record) = internals::queue_place(&queue, End::Consumers);
        let to = match leads {
            "beyond" => (1 << 50) - 8,
            "between" => record + 4,
            _ => record,
        };
        word(record).store(to << 8 | GO, Ordering::SeqCst);
        assert_eq!(queue.try_get(), Err(GetError::Empty), "{leads}");
        assert!(queue.try_get_many(3).is_err(), "{leads}");
        sound.put(7).unwrap();
        assert_eq!(sound.try_get(), Ok(7));
    }
}

#[test]
fn a_dead_process_with_a_damaged_slot_is_recovered() {
    const DEAD: u32 = 900;
    isolated!({
        let (lock, dict) = (Lock::new().unwrap(), Dict::from_entries([(1, "one".to_string())]).unwrap());
        internals::open_slot(DEAD);
        let (slot, bytes) = internals::slot_place(DEAD);
        let end = internals::mapping().1 as u64;
        let here = internals::lock_place(&lock);
        // The first words belong to the supervisor. Recovery trusts the word that says what the thread waits
        // for, so this loop skips both.
        for place in (slot + 16..slot + bytes).step_by(8).filter(|&place| !is_wait(DEAD, place)) {
            for value in [1, 8, here, here + 4, end - 64, end - 8, end, 1 << 63, u64::MAX - 7, u64::MAX] {
                internals::open_slot(DEAD);
                word(place).store(value, Ordering::SeqCst);
                internals::recover(DEAD);
                internals::collect_if_wanted();
                assert_eq!(internals::slot_phase(DEAD), 0, "{value} at {}", place - slot);
            }
        }
        assert!(lock.try_lock().is_ok());
        assert_eq!(dict.get(&1), Ok(Some("one".to_string())));
    });
}

/// Reports whether the word at `place` says what the first thread of the process in `slot` waits for.
fn is_wait(slot: u32, place: u64) -> bool {
    let before = word(place).swap(8, Ordering::SeqCst);
    let is_it = internals::waits_for(slot) == 8;
    word(place).store(before, Ordering::SeqCst);
    is_it
}
