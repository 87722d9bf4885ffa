//! The records of a queue, and the blocks that they name.
#![no_main]

use std::sync::atomic::Ordering;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession::internals::{self, End};
use procession::{Lock, Queue};
use procession_fuzz::{Memory, SHAPES, retyped, take};

#[derive(Debug, Arbitrary)]
enum Step {
    /// Puts these bytes as a message.
    Put(Vec<u8>),
    /// Puts a message that is too long for the ring itself.
    PutLong {
        len: u16,
        fill: u8,
    },
    /// Puts a value that carries handles.
    PutHandles,
    /// Takes the next message as a value of this shape.
    Get(u8),
    /// Takes several messages as values.
    GetMany(u8),
    /// Reads the bytes in place.
    Look,
    /// Changes a word of the records that are waiting.
    Scribble {
        at: u8,
        value: u64,
    },
    /// Changes some bits of a word of the records that are waiting.
    Flip {
        at: u8,
        bits: u8,
        byte: u8,
    },
    /// Changes a word of a block that belongs to the queue.
    ScribbleBlock {
        which: u8,
        at: u8,
        value: u64,
    },
    Close,
}

fuzz_target!(|steps: Vec<Step>| {
    let queue = Queue::<Vec<u8>>::unbounded().expect("a queue");
    let other = Queue::<u64>::bounded(2).expect("another");
    let lock = Lock::new().expect("a lock");
    let (memory, mine) = (Memory::get(), internals::queue_place(&queue, End::Consumers).0);
    let made_with = internals::queue_blocks(&queue).0;
    for step in steps.into_iter().take(40) {
        match step {
            Step::Put(bytes) => {
                let _ = queue.try_put_with(bytes.len(), |room| room.copy_from_slice(&bytes));
            }
            Step::PutLong { len, fill } => {
                let _ = queue.try_put_with(usize::from(len) + 513, |room| room.fill(fill));
            }
            Step::PutHandles => {
                let _ = retyped::<Vec<u8>, Vec<Lock>>(&queue).try_put(vec![lock.clone(); 2]);
            }
            Step::Get(shape) => {
                take(&queue, shape % SHAPES);
            }
            Step::GetMany(most) => {
                let _ = retyped::<Vec<u8>, (String, Vec<Lock>)>(&queue).try_get_many(most.into());
            }
            Step::Look => {
                let _ = queue.try_get_with(|bytes| bytes.iter().map(|b| u64::from(*b)).sum::<u64>());
            }
            Step::Scribble { at, value } => {
                let (segment, record) = internals::queue_place(&queue, End::Consumers);
                if segment == mine {
                    memory.store(record + 8 * u64::from(at % 16), value);
                }
            }
            Step::Flip { at, bits, byte } => {
                let (segment, record) = internals::queue_place(&queue, End::Consumers);
                if segment == mine {
                    let word = memory.word(record + 8 * u64::from(at % 16));
                    word.fetch_xor(u64::from(bits) << (byte % 8 * 8), Ordering::SeqCst);
                }
            }
            Step::ScribbleBlock { which, at, value } => {
                let mut messages = internals::queue_blocks(&queue).0;
                messages.retain(|block| !made_with.contains(block));
                if let Some(block) = messages.get(usize::from(which) % messages.len().max(1)) {
                    memory.store(block + 8 * u64::from(at % 8), value);
                }
            }
            Step::Close => {
                let _ = queue.close();
            }
        }
        let _ = (queue.len(), queue.is_empty(), format!("{queue:?}"));
    }
    drop(queue);
    internals::collect_as_supervisor();
    other.try_put(3).expect("room");
    assert_eq!(other.try_get(), Ok(3));
    assert!(lock.try_lock().is_ok());
});
