//! What another process wrote is checked before it is used: a damaged value is an error of whoever reads it, and
//! costs no more than itself.

use std::sync::atomic::{AtomicU64, Ordering};

use procession::{Error, Lock, internals};

/// The word of the arena at an offset.
#[allow(unsafe_code)]
fn word(offset: u64) -> &'static AtomicU64 {
    let (base, bytes, _) = internals::mapping();
    assert!(offset.is_multiple_of(8) && offset + 8 <= bytes as u64);
    // SAFETY: inside the mapping, aligned, and only used as an atomic here.
    unsafe { &*base.add(offset as usize).cast::<AtomicU64>() }
}

#[test]
fn a_value_that_says_it_is_longer_than_its_block_is_damaged() {
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
fn a_value_that_says_it_carries_more_handles_than_fit_is_damaged() {
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
