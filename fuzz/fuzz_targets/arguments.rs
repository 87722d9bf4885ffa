//! A block that is marked as an argument or a result.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession::{Lock, internals};
use procession_fuzz::{Memory, decode};

#[derive(Debug, Arbitrary)]
struct Input {
    shape: u8,
    header: Header,
    bytes: Vec<u8>,
    ids: Vec<u64>,
}

#[derive(Debug, Arbitrary)]
enum Header {
    /// The header describes the content.
    True,
    /// The header is arbitrary.
    Any { len: u64, handles: u64 },
    /// The header almost describes the content.
    Near { len: i8, handles: i8 },
    /// The content is written over a block. The collector knows that this block carries handles.
    OverHandles { len: u64, handles: u64 },
}

static LOCK: LazyLock<Lock> = LazyLock::new(|| Lock::new().expect("a lock"));

fuzz_target!(|input: Input| {
    let lock = &*LOCK;
    let memory = Memory::get();
    let (len, count) = (input.bytes.len() as u64, input.ids.len() as u64);
    let (len, handles) = match input.header {
        Header::True => (len, count),
        Header::Any { len, handles } | Header::OverHandles { len, handles } => (len, handles),
        Header::Near { len: l, handles: h } => {
            (len.wrapping_add_signed(l.into()), count.wrapping_add_signed(h.into()))
        }
    };
    let padded = (input.bytes.len() as u64).next_multiple_of(8);
    let at = match input.header {
        Header::OverHandles { .. } => {
            let filler = vec![7u8; input.bytes.len() + 8 * input.ids.len()];
            internals::pack(&(lock.clone(), filler)).expect("room")
        }
        _ => internals::reserve(padded + 8 * count).expect("room"),
    };
    memory.store(at, len);
    memory.store(at + 8, handles);
    memory.write(at + 16, &input.bytes);
    for (i, id) in input.ids.iter().enumerate() {
        memory.store(at + 16 + padded + 8 * i as u64, *id);
    }
    decode(input.shape, at);
    if matches!(input.header, Header::OverHandles { .. }) {
        internals::collect_as_supervisor();
    }
    internals::free(at);
    assert!(lock.try_lock().is_ok(), "the lock that stood beside");
});
