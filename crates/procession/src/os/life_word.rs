//! [`LifeWord`]: a word of shared memory that the kernel marks when a thread ends.
//!
//! When a thread ends, the kernel walks its list of robust locks and marks each lock word there
//! (`set_robust_list(2)`). The kernel does this before it frees the memory of the process. A process with
//! much memory is dead long before it can be reaped, so the mark is the first sign of its death. A life word
//! is an entry of that list, and it stays in the list while its thread lives.
//!
//! The C library owns the list and puts its robust mutexes into it. A life word has the layout of a
//! `pthread_mutex_t`:
//!
//! ```text
//!  0        4                         24        32        40
//!  ├────────┼─────────────────────────┼─────────┼─────────┤
//!  │  word  │         unused          │  prev   │  next   │     both point to the `next` of a neighbor
//!  └────────┴─────────────────────────┴─────────┴─────────┘
//! ```
//!
//! | word              | meaning                                   | who moves it                     |
//! |-------------------|-------------------------------------------|----------------------------------|
//! | 0                 | no thread, or the process exits normally  | the thread → `WAITERS \| n`      |
//! | `WAITERS \| n`    | the thread with id n lives                | the kernel → `WAITERS \| DIED`   |
//! | `WAITERS \| DIED` | the thread has ended                      | the supervisor → 0               |

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::process;

/// The bits of the kernel's protocol for robust locks.
const WAITERS: u32 = libc::FUTEX_WAITERS;
const DIED: u32 = libc::FUTEX_OWNER_DIED;

/// The distance from an entry's `next` to the entry's word, in glibc.
const WORD_FROM_NEXT: isize = -32;

/// A word that shows whether a thread lives.
#[repr(C)]
pub(crate) struct LifeWord {
    word: AtomicU32,
    _mutex: [AtomicU32; 5],
    prev: AtomicU64,
    next: AtomicU64,
}

/// The head of a thread's list, as the kernel reads it.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    word_from_next: isize,
    pending: usize,
}

impl LifeWord {
    /// Adds the word to the list of the calling thread. Does nothing if the C library's list has another
    /// layout than the one above.
    pub(crate) fn begin(&'static self) {
        let Some(head) = head() else { return };
        let first = head.next.load(Ordering::Relaxed);
        let link = ptr::from_ref(&self.next);
        self.word.store(WAITERS | process::thread_id() as u32, Ordering::Release);
        self.prev.store(ptr::from_ref(head) as u64, Ordering::Relaxed);
        self.next.store(first as u64, Ordering::Release);
        if let Some(prev) = prev_of(first, head) {
            prev.store(link as u64, Ordering::Relaxed);
        }
        // CRASH: until this store, the kernel does not see the entry.
        head.next.store(link as usize, Ordering::Release);
    }

    /// Makes the kernel ignore the word. Called because the process exits normally or its slot is free.
    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// Returns the futex word.
    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.word
    }

    /// Returns whether the kernel has marked the word, and clears the mark.
    pub(crate) fn take_death(&self) -> bool {
        let now = self.word.load(Ordering::Acquire);
        is_death(now) && self.word.compare_exchange(now, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Returns whether a life word with this value is marked.
pub(crate) fn is_death(word: u32) -> bool {
    word & DIED != 0
}

/// Returns the list of the calling thread, if its layout is the one above.
fn head() -> Option<&'static Head> {
    let (mut head, mut length) = (ptr::null::<Head>(), 0usize);
    // SAFETY: the kernel writes a pointer to `head` and a length to `length`. The thread id 0 means the
    // calling thread.
    let ret = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    // SAFETY: the C library registered the head for this thread, and the head lives as long as the thread.
    let head = unsafe { head.as_ref() }.filter(|_| ret == 0 && length == size_of::<Head>())?;
    (head.word_from_next == WORD_FROM_NEXT && head.next.load(Ordering::Relaxed) != 0).then_some(head)
}

/// Returns the `prev` of the entry with this `next`, or `None` for the head.
fn prev_of(link: usize, head: &Head) -> Option<&'static AtomicU64> {
    // The lowest bit marks a mutex with priority inheritance.
    let link = link & !1;
    // SAFETY: every entry of the list is a mutex that this thread holds, or a life word. In both, `prev` precedes `next`.
    (link != ptr::from_ref(head) as usize).then(|| unsafe { &*((link - 8) as *const AtomicU64) })
}

const _: () =
    assert!(std::mem::offset_of!(LifeWord, prev) == 24 && std::mem::offset_of!(LifeWord, next) == 32);

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> &'static LifeWord {
        // SAFETY: all zeros are a valid word, because a word consists of atomics.
        Box::leak(Box::new(unsafe { std::mem::zeroed() }))
    }

    #[test]
    fn the_kernel_marks_the_word_of_a_thread_that_ends() {
        let word = fresh();
        std::thread::spawn(|| word.begin()).join().unwrap();
        // The kernel marks the word a moment before the thread can be joined.
        assert!(is_death(word.futex().load(Ordering::Acquire)));
        assert!(word.take_death() && !word.take_death());
    }

    #[test]
    fn a_silent_word_is_left_alone() {
        let word = fresh();
        let live = || {
            word.begin();
            word.clear();
        };
        std::thread::spawn(live).join().unwrap();
        assert_eq!(word.futex().load(Ordering::Acquire), 0);
    }

    #[test]
    fn robust_mutexes_are_locked_before_and_after_the_word() {
        let word = fresh();
        let live = move || {
            let mutexes = [robust_mutex(), robust_mutex()];
            lock(mutexes[0]);
            word.begin();
            lock(mutexes[1]);
            unlock(mutexes[0]);
            unlock(mutexes[1]);
            lock(mutexes[0]);
            mutexes[0] as usize
        };
        let held = std::thread::spawn(live).join().unwrap() as *mut libc::pthread_mutex_t;
        assert!(is_death(word.futex().load(Ordering::Acquire)));
        // SAFETY: the mutex is initialized, and the death of its owner has released it.
        assert_eq!(unsafe { libc::pthread_mutex_lock(held) }, libc::EOWNERDEAD);
    }

    fn robust_mutex() -> *mut libc::pthread_mutex_t {
        let mutex = Box::leak(Box::new(libc::PTHREAD_MUTEX_INITIALIZER));
        // SAFETY: the attributes are initialized before they are used, and the mutex is leaked.
        unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut attributes);
            libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(mutex, &raw const attributes), 0);
        }
        mutex
    }

    fn lock(mutex: *mut libc::pthread_mutex_t) {
        // SAFETY: an initialized mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
    }

    fn unlock(mutex: *mut libc::pthread_mutex_t) {
        // SAFETY: the mutex is initialized, and this thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    }
}
