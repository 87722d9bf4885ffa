//! Bare futexes: the minimum cost of waking another process and being woken by it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Stores a value and wakes the processes that sleep until it changes.
pub fn set_and_wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::SeqCst);
    call(word, libc::FUTEX_WAKE, 1);
}

/// Sleeps until the word has this value.
pub fn await_value(word: &AtomicU32, value: u32) {
    loop {
        match word.load(Ordering::SeqCst) {
            now if now == value => return,
            now => call(word, libc::FUTEX_WAIT, now),
        }
    }
}

fn call(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word is alive; without a timeout the kernel ignores the other arguments.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>())
    };
}
