//! The nodes of a dict and of a list.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession::state::List;
use procession::{Dict, Lock, internals};
use procession_fuzz::{Memory, Order, State};

#[derive(Debug, Arbitrary)]
enum Step {
    Insert(u8, Vec<u8>),
    Get(u8),
    Contains(u8),
    Update(u8),
    Exchange(u8),
    Remove(u8),
    All,
    Clear,
    Push(Vec<u8>),
    At(u8),
    Pop,
    Every,
    /// Changes a word of a node.
    Scribble {
        which: u8,
        at: u8,
        value: u64,
    },
    /// Changes some bits of a word of a node.
    Flip {
        which: u8,
        at: u8,
        bits: u8,
        byte: u8,
    },
}

type Entry = (Vec<u8>, Option<Lock>);

fuzz_target!(|steps: Vec<Step>| {
    let dict = Dict::<String, Entry>::new().expect("a dict");
    let list = List::<Order>::new().expect("a list");
    let lock = Lock::new().expect("a lock");
    let beside = Dict::from_entries([(1u8, "one".to_string())]).expect("another dict");
    let memory = Memory::get();
    let mut nodes: Vec<u64> = Vec::new();
    let key = |k: u8| format!("key {}", k % 8);
    for step in steps.into_iter().take(40) {
        match step {
            Step::Insert(k, mut value) => {
                value.extend(MARK.to_le_bytes());
                let carried = (k & 0x80 != 0).then(|| lock.clone());
                let before = blocks();
                let _ = dict.insert(&key(k), (value, carried));
                note_new(&memory, &before, &mut nodes);
            }
            Step::Get(k) => drop(dict.get(&key(k))),
            Step::Contains(k) => drop(dict.contains_key(&key(k))),
            Step::Update(k) => drop(dict.update(&key(k), |(bytes, _)| bytes.push(1))),
            Step::Exchange(k) => {
                let _ = dict.get(&key(k)).map(|old| old.map(|(bytes, _)| bytes.len()));
            }
            Step::Remove(k) => drop(dict.remove(&key(k))),
            Step::All => {
                dict.iter().for_each(drop);
                let _ = dict.to_map().map(|map| map.len());
            }
            Step::Clear => drop(dict.clear()),
            Step::Push(bytes) => {
                let name = format!("{} {}", MARKED, bytes.len());
                let before = blocks();
                let tags = vec![String::from_utf8_lossy(&bytes).into_owned()];
                let _ = list.push(Order { number: 1, name, tags, price: None, state: State::New });
                note_new(&memory, &before, &mut nodes);
            }
            Step::At(i) => drop(list.get(i.into())),
            Step::Pop => drop(list.pop()),
            Step::Every => drop(list.to_vec()),
            Step::Scribble { which, at, value } => {
                if let Some(node) = living(&nodes, which) {
                    memory.store(node + 8 * u64::from(at % 8), value);
                }
            }
            Step::Flip { which, at, bits, byte } => {
                if let Some(node) = living(&nodes, which) {
                    let word = memory.word(node + 8 * u64::from(at % 8));
                    word.fetch_xor(u64::from(bits) << (byte % 8 * 8), std::sync::atomic::Ordering::SeqCst);
                }
            }
        }
    }
    drop((dict, list));
    internals::collect_as_supervisor();
    assert_eq!(beside.get(&1), Ok(Some("one".to_string())));
    assert!(lock.try_lock().is_ok());
});

/// Stored in the value of every node, so that nodes can be distinguished from tables.
const MARK: u64 = u64::from_le_bytes(*MARKED_BYTES);
const MARKED_BYTES: &[u8; 8] = b"fuzznode";
const MARKED: &str = "fuzznode";

fn blocks() -> Vec<u64> {
    internals::census().blocks.into_iter().map(|(at, _)| at).collect()
}

/// Adds the marked blocks that did not exist before.
fn note_new(memory: &Memory, before: &[u64], nodes: &mut Vec<u64>) {
    let is_marked = |at: u64| {
        let words: Vec<u8> = (0..32u64)
            .flat_map(|i| memory.word(at + 8 * i).load(std::sync::atomic::Ordering::SeqCst).to_le_bytes())
            .collect();
        words.windows(8).any(|bytes| bytes == MARKED_BYTES)
    };
    nodes.extend(blocks().into_iter().filter(|at| !before.contains(at) && is_marked(*at)));
}

/// Returns a node that still exists.
fn living(nodes: &[u64], which: u8) -> Option<u64> {
    let there = blocks();
    let living: Vec<u64> = nodes.iter().copied().filter(|at| there.contains(at)).collect();
    living.get(usize::from(which) % living.len().max(1)).copied()
}
