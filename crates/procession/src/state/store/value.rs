//! A value in shared memory: a lock and three blocks.

use std::sync::atomic::AtomicU64;

use crate::arena::objects::{Body, Kind};
use crate::sync::raw::lock::RawLock;

/// A value in shared memory. The bytes of the value are in a block.
///
/// | block      | what it is                                                       |
/// |------------|------------------------------------------------------------------|
/// | `NOW`      | the value                                                        |
/// | `NEXT`     | a block that is about to become the value, or has just become it |
/// | `BEFORE`   | the previous value, which is about to be freed                   |
///
/// Only the thread that holds the lock changes these three words. The store to `NOW` commits a change. After
/// a death, recovery frees the blocks in `NEXT` and `BEFORE` if they are not the value.
#[repr(C)]
pub(crate) struct ValueBody {
    pub(in crate::state) lock: RawLock,
    _rest: [AtomicU64; 6],
}

// SAFETY: the body consists of atomics only, has 64 bytes, and all zeros mean a free lock.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for ValueBody {
    const KIND: Kind = Kind::Value;
}

pub(in crate::state) const NOW: usize = 0;
pub(in crate::state) const NEXT: usize = 1;
pub(in crate::state) const BEFORE: usize = 2;
