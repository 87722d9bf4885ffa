//! What the targets share: values of many shapes, and access to the words of the shared memory.
//!
//! | target      | what it corrupts                                                       |
//! |-------------|--------------------------------------------------------------------------------|
//! | `arguments` | a block with an argument or a result: header, value, handles; and the collector |
//! | `handles`   | a value with handles                                          |
//! | `messages`  | the records of a queue, and the blocks that they name                          |
//! | `nodes`     | the nodes of a dict and of a list                                              |
//! | `slots`     | the request and the journal in the slot of a process, which then dies           |
//!
//! Each target checks that data that it did not corrupt is unchanged.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession::internals;
use procession::queue::{Connection, JoinableQueue};
use procession::state::{Array, List, Value};
use procession::sync::{Barrier, Event, Mutex, RwLock, Semaphore};
use procession::{Dict, Lock, Process, ProcessError, Queue};
use serde::{Deserialize, Serialize};

/// The words of the family's memory.
pub struct Memory {
    base: *mut u8,
    bytes: usize,
}

impl Memory {
    /// Returns the memory of this process, which must have created an object.
    pub fn get() -> Memory {
        let (base, bytes, _) = internals::mapping();
        Memory { base, bytes }
    }

    /// Returns the word at an offset.
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes as u64);
        // SAFETY: inside the mapping, which is never unmapped; aligned; and only used as an atomic here.
        unsafe { &*self.base.add(offset as usize).cast::<AtomicU64>() }
    }

    /// Writes bytes at an offset.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.bytes as u64);
        // SAFETY: inside the mapping, and no other code runs.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset as usize), bytes.len());
        }
    }

    /// Stores a word.
    pub fn store(&self, offset: u64, value: u64) {
        self.word(offset).store(value, Ordering::SeqCst);
    }
}

/// A value of several fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub number: u64,
    pub name: String,
    pub tags: Vec<String>,
    pub price: Option<f32>,
    pub state: State,
}

/// A value with several variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    New,
    Paid(i8),
    Sent { by: char, weight: i128 },
}

/// Calls a macro with a number and a type for each shape of value that is decoded.
macro_rules! shapes {
    ($with:ident) => {
        $with! {
            0 => u8, 1 => i16, 2 => u32, 3 => f64, 4 => u128, 5 => String, 6 => Vec<u8>, 7 => Vec<u32>,
            8 => (Vec<f64>,), 9 => bool, 10 => char, 11 => (), 12 => $crate::Order, 13 => Vec<$crate::Order>,
            14 => HashMap<String, Vec<u16>>, 15 => BTreeMap<i64, (bool, char)>, 16 => PathBuf, 17 => Duration,
            18 => Result<String, ProcessError>, 19 => procession::Error, 20 => (u8, String, Option<Box<[i64]>>),
            21 => Lock, 22 => Vec<Lock>, 23 => (Queue<u64>, Dict<String, u64>), 24 => Option<List<Vec<u8>>>,
            25 => Process<String>, 26 => HashMap<u8, JoinableQueue<Lock>>, 27 => Connection<u8, String>,
            28 => (Event, Semaphore, Barrier), 29 => (Mutex<u64>, RwLock<u64>), 30 => (Value<Order>, Array<u32>),
            31 => Vec<(Order, Lock)>,
        }
    };
}

/// The number of shapes.
pub const SHAPES: u8 = 32;

/// Decodes the block at `at` as a value of this shape. Returns whether that succeeded.
pub fn decode(shape: u8, at: u64) -> bool {
    macro_rules! as_shape {
        ($($number:literal => $shape:ty),* $(,)?) => {
            match shape % SHAPES {
                $($number => internals::unpack::<$shape>(at).is_ok(),)*
                _ => false,
            }
        };
    }
    shapes!(as_shape)
}

/// Takes the next item out of a queue as a value of this shape. Returns whether that succeeded.
pub fn take<T: 'static>(queue: &Queue<T>, shape: u8) -> bool {
    macro_rules! as_shape {
        ($($number:literal => $shape:ty),* $(,)?) => {
            match shape % SHAPES {
                $($number => retyped::<T, $shape>(queue).try_get().is_ok(),)*
                _ => false,
            }
        };
    }
    shapes!(as_shape)
}

/// Returns the same queue with another type of items.
pub fn retyped<T: 'static, U: 'static>(queue: &Queue<T>) -> Queue<U> {
    let block = internals::pack(queue).expect("a handle can be packed");
    let same = internals::unpack(block).expect("a handle arrives");
    internals::free(block);
    same
}
