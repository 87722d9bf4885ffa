//! [`SpawnerName`]: the name of the thread that spawned a process. Under `cargo test`, this is the name of the
//! test.

use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 12;
const BYTES: usize = WORDS * 8;

/// The last bytes of the thread's name, then zeros. All zeros if the thread has no name. The text is only
/// shown to people, so a torn text does no harm.
#[repr(C)]
pub(crate) struct SpawnerName([AtomicU64; WORDS]);

impl SpawnerName {
    /// Stores the name of the calling thread, unless it is the first thread of main.
    pub(crate) fn set(&self) {
        let thread = std::thread::current();
        let name = thread.name().filter(|&name| name != "main").unwrap_or_default().as_bytes();
        // The end of a test's name says more than its beginning, which names modules.
        let name = &name[name.len().saturating_sub(BYTES)..];
        let mut bytes = [0; BYTES];
        bytes[..name.len()].copy_from_slice(name);
        for (word, bytes) in self.0.iter().zip(bytes.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Returns the name, if the thread had one.
    pub(crate) fn get(&self) -> Option<String> {
        let words = self.0.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let bytes: Vec<u8> = words.take_while(|&byte| byte != 0).collect();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}
