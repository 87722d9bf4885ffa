//! A value with handles: index, generation, and the number of the family.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession::{Dict, Lock, Queue, internals};
use procession_fuzz::{Memory, decode};

#[derive(Debug, Arbitrary)]
struct Input {
    shape: u8,
    handles: Vec<Claim>,
    rest: Vec<u8>,
}

/// The encoding of one handle.
#[derive(Debug, Arbitrary)]
struct Claim {
    before: Vec<u8>,
    index: u8,
    generation: i8,
    far: Option<u64>,
    stranger: bool,
}

struct Scene {
    lock: Lock,
    queue: Queue<u64>,
    dict: Dict<String, u64>,
    /// The numbers of a handle and of its family.
    id: u64,
    family: u64,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let lock = Lock::new().expect("a lock");
    let queue = Queue::bounded(4).expect("a queue");
    let dict = Dict::from_entries([("a".to_string(), 1)]).expect("a dict");
    let block = internals::pack(&lock).expect("room");
    let memory = Memory::get();
    let (len, at) = (memory.word(block).load(Ordering::SeqCst), block + 16);
    let bytes: Vec<u8> = (0..len.next_multiple_of(8) / 8)
        .flat_map(|i| memory.word(at + 8 * i).load(Ordering::SeqCst).to_le_bytes())
        .collect();
    let (id, rest) = number(&bytes);
    let (family, _) = number(rest);
    internals::free(block);
    Scene { lock, queue, dict, id, family }
});

/// Decodes a number: seven bits per byte, the lowest first.
fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|b| b & 0x80 == 0).expect("a number ends") + 1;
    let value = bytes[..end].iter().rev().fold(0u64, |all, b| all << 7 | u64::from(b & 0x7f));
    (value, &bytes[end..])
}

fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fuzz_target!(|input: Input| {
    let scene = &*SCENE;
    let mut bytes = Vec::new();
    for claim in &input.handles {
        bytes.extend(&claim.before);
        let near = (scene.id & !0xffff_ffff).wrapping_add_signed(i64::from(claim.generation) << 32);
        push(&mut bytes, claim.far.unwrap_or(near | u64::from(claim.index % 8)));
        push(&mut bytes, if claim.stranger { scene.family ^ 1 } else { scene.family });
    }
    bytes.extend(&input.rest);
    let memory = Memory::get();
    let at = internals::reserve(bytes.len() as u64).expect("room");
    memory.store(at, bytes.len() as u64);
    memory.store(at + 8, 0);
    memory.write(at + 16, &bytes);
    let before = internals::census().objects;
    decode(input.shape, at);
    internals::free(at);
    assert_eq!(internals::census().objects, before, "objects");
    assert!(scene.lock.try_lock().is_ok());
    assert_eq!(scene.dict.get("a"), Ok(Some(1)));
    scene.queue.try_put(5).expect("room");
    assert_eq!(scene.queue.try_get(), Ok(5));
});
