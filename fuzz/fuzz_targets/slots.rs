//! The content of a process's slot: its request and its journal. The process is then found dead, and the supervisor
//! recovers it.
//!
//! The word that says what the process waits for is left out, because recovery increments the event count at
//! whatever place that word names.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession::{Dict, Lock, Queue, internals};
use procession_fuzz::Memory;

#[derive(Debug, Arbitrary)]
struct Input {
    entry: u64,
    type_hash: u64,
    words: Vec<(u16, u64)>,
    near: Vec<(u16, u16)>,
}

struct Scene {
    lock: Lock,
    queue: Queue<u64>,
    dict: Dict<u64, String>,
    waits_for: u64,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| Scene {
    lock: Lock::new().expect("a lock"),
    queue: Queue::unbounded().expect("a queue"),
    dict: Dict::from_entries([(1, "one".to_string())]).expect("a dict"),
    waits_for: find_wait(),
});

/// Returns the place in the slot that says what its first thread waits for.
fn find_wait() -> u64 {
    let (memory, (slot, bytes)) = (Memory::get(), internals::slot_place(SLOT));
    let is_it = |at: &u64| {
        memory.store(*at, 0x5_0000);
        let found = internals::waits_for(SLOT) == 0x5_0000;
        memory.store(*at, 0);
        found
    };
    (slot..slot + bytes).step_by(8).find(is_it).expect("it is in the slot")
}

/// The slot that is written to. Slot 0 is main's.
const SLOT: u32 = 3;

fuzz_target!(|input: Input| {
    let scene = &*SCENE;
    let memory = Memory::get();
    let _ = internals::resolve(input.entry, input.type_hash);
    internals::open_slot(SLOT);
    let (slot, bytes) = internals::slot_place(SLOT);
    // The first words belong to the supervisor: state, pid, incarnation, flags.
    let place = |at: u16| slot + 16 + 8 * (u64::from(at) % ((bytes - 16) / 8));
    for (at, value) in input.words.iter().take(64) {
        memory.store(place(*at), *value);
    }
    // Stores offsets near that of a lock.
    for (at, value) in input.near.iter().take(64) {
        memory.store(place(*at), internals::lock_place(&scene.lock).wrapping_add(u64::from(*value) * 8));
    }
    memory.store(scene.waits_for, 0);
    internals::recover(SLOT);
    internals::collect_if_wanted();
    assert_eq!(internals::slot_phase(SLOT), 0, "the slot is free again");
    assert!(scene.lock.try_lock().is_ok(), "main's lock");
    scene.queue.try_put(3).expect("room");
    assert_eq!(scene.queue.try_get(), Ok(3));
    assert_eq!(scene.dict.get(&1), Ok(Some("one".to_string())));
});
