//! A page on which a child leaves messages for the test process. The messages remain however the child ends.
//!
//! The page is shared and anonymous. It holds the child's phase and the first text that the child left. A panic in a
//! child is written here and not to stderr, which libtest would capture.
#![allow(unsafe_code, reason = "a page shared between processes")]

use std::panic;
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::*};

/// The phase of a child. Only the child changes it, and only forwards.
pub(crate) const PREPARING: u32 = 0;
/// Between `Gate::begin` and `Gate::end`.
pub(crate) const BEGUN: u32 = 1;
/// The victim has passed `Gate::end`, or the checker has answered.
pub(crate) const ENDED: u32 = 2;
/// The child panicked.
pub(crate) const PANICKED: u32 = 3;

const TEXT_BYTES: usize = 4096 - 8;

#[repr(C)]
struct Page {
    phase: AtomicU32,
    text_bytes: AtomicU32,
    text: [AtomicU8; TEXT_BYTES],
}

/// The page of the child that this process is. The pointer is null in the test process.
static MINE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());
static HOOK: Once = Once::new();

pub(crate) struct ReportPage(NonNull<Page>);

// SAFETY: the page consists of atomics.
unsafe impl Send for ReportPage {}
// SAFETY: as above.
unsafe impl Sync for ReportPage {}

impl ReportPage {
    pub(crate) fn new() -> ReportPage {
        HOOK.call_once(install_hook);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses. Zeroes are a valid `Page`.
        let page = unsafe { libc::mmap(ptr::null_mut(), size_of::<Page>(), access, flags, -1, 0) };
        assert!(page != libc::MAP_FAILED, "no page for reports: {}", std::io::Error::last_os_error());
        ReportPage(NonNull::new(page.cast()).expect("mmap gives no null"))
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped until drop, and atomics only.
        unsafe { self.0.as_ref() }
    }

    /// Called in a child. From now on this process writes its panics to this page.
    pub(crate) fn adopt(&self) {
        MINE.store(self.0.as_ptr(), Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.page().phase.store(PREPARING, Relaxed);
        self.page().text_bytes.store(0, Relaxed);
    }

    pub(crate) fn phase(&self) -> u32 {
        self.page().phase.load(Acquire)
    }

    pub(crate) fn enter(&self, phase: u32) {
        self.page().phase.store(phase, SeqCst);
    }

    /// Writes a text, unless there already is one. The first message explains the failure.
    pub(crate) fn say(&self, text: &str) {
        self.page().say(text);
    }

    pub(crate) fn text(&self) -> String {
        let length = (self.page().text_bytes.load(Acquire) as usize).min(TEXT_BYTES);
        let bytes: Vec<u8> = self.page().text[..length].iter().map(|byte| byte.load(Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Page {
    fn say(&self, text: &str) {
        if self.text_bytes.load(Acquire) != 0 {
            return;
        }
        for (to, from) in self.text.iter().zip(text.bytes()) {
            to.store(from, Relaxed);
        }
        self.text_bytes.store(text.len().min(TEXT_BYTES) as u32, Release);
    }
}

impl Drop for ReportPage {
    fn drop(&mut self) {
        // SAFETY: owned by this value, and no reference to it outlives `self`. A child has its own copy of the mapping.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Page>()) };
    }
}

fn install_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let mine = MINE.load(Relaxed);
        if mine.is_null() {
            return before(info);
        }
        // SAFETY: a child's own page stays mapped until the child exits.
        let page = unsafe { &*mine };
        page.say(&info.to_string());
        page.phase.store(PANICKED, SeqCst);
    }));
}
