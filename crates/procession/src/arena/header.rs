//! What there is once a family: identity, the supervisor's state, and hints of where to look.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::awake::AwakeClock;
use super::layout::Layout;
use crate::os::{clock, process};

const MAGIC: u64 = u64::from_le_bytes(*b"procssn\x01");

/// The first page of the arena.
#[repr(C, align(4096))]
pub(crate) struct Header {
    magic: AtomicU64,
    /// Tells one family from another, so that a handle cannot stray.
    pub(crate) nonce: AtomicU64,
    bytes: AtomicU64,
    /// What the family is doing: see [`Stage`].
    pub(crate) stage: AtomicU32,
    /// The supervisor's process id, or 0.
    pub(crate) supervisor_pid: AtomicU32,
    /// The process id of the supervisor's parent, or 0 when it has ended in order: see `supervisor/guard.rs`.
    pub(crate) guard_pid: AtomicU32,
    /// Counts the calls for the supervisor that come through the guard. A futex word.
    pub(crate) bell: AtomicU32,
    /// Identity of the supervisor's working directory; children start in their spawner's.
    pub(crate) cwd_device: AtomicU64,
    pub(crate) cwd_inode: AtomicU64,
    /// The block with the credentials that main had when it launched the supervisor, or 0.
    pub(crate) credentials: AtomicU64,
    /// The digest of the supervisor's credentials, which its children inherit, and its user namespace.
    pub(crate) credentials_digest: AtomicU64,
    pub(crate) user_namespace: AtomicU64,
    /// The supervisor's bounding set, and the capabilities for which a spawner compares it with its own: main stores
    /// before the launch which these are.
    pub(crate) bounding: AtomicU64,
    pub(crate) bounding_watched: AtomicU64,

    /// Hints: slots, extra records, objects and spans at or above these were never used.
    pub(crate) slots_used: AtomicU32,
    pub(crate) records_used: AtomicU32,
    pub(crate) objects_used: AtomicU32,
    pub(crate) spans_used: AtomicU32,
    /// Hint: so many spans are in free runs that are kept: see `blocks.rs`.
    pub(crate) kept_spans: AtomicU32,
    /// Hint: below this index no object is likely to be free.
    pub(crate) objects_from: AtomicU32,

    /// Hint: slots in which spares sleep.
    pub(crate) spare_slots: [AtomicU32; 16],
    /// Spawners sleep here until a spare is there: a count, and in the lowest bit "somebody waits".
    pub(crate) spares: AtomicU32,
    /// The error number of a fork that failed, or `NO_SLOT`, until somebody was told.
    pub(crate) fork_errno: AtomicU32,
    /// A shared object may have lost its last holder: see `collect.rs`.
    pub(crate) collect_wanted: AtomicU32,
    /// Main makes a pass itself: the supervisor leaves it to main meanwhile. See `collect.rs`.
    pub(crate) main_collects: AtomicU32,
    /// Whoever repairs after a death is about to write to words that sleepers have announced: see
    /// `sync/raw/park.rs`.
    pub(crate) sweeping: AtomicU32,
    /// Counts the children that were ever forked, so that each has a number of its own.
    pub(crate) incarnations: AtomicU32,
    /// When main came to its end, on the monotonic clock; 0 before.
    pub(crate) main_ended_ns: AtomicU64,
    /// Counts the children that have ended.
    pub(crate) ended: AtomicU32,
    /// The handle id of the dict of all names, which the header holds; or 0.
    pub(crate) names: AtomicU64,
    /// The handle id of the queue of what children say with `tracing` and `log`, which main holds, or 0; and the
    /// least grave levels that main wants. Written before the first child.
    pub(crate) events: AtomicU64,
    pub(crate) events_levels: AtomicU32,
    /// The time in which the family could run.
    pub(crate) awake: AwakeClock,
    /// System calls that a test makes fail.
    #[cfg(feature = "internals")]
    pub(crate) faults: crate::os::faults::Switch,
}

const _: () = assert!(size_of::<Header>() == 4096, "the header is a page");

/// What the family is doing.
///
/// | word       | meaning                                | who moves it                       |
/// |------------|----------------------------------------|------------------------------------|
/// | 0          | no supervisor yet                      | main → `STARTING`                  |
/// | `STARTING` | it was launched                        | supervisor → `RUNNING`, main → `LOST` |
/// | `RUNNING`  | children can be spawned                | main → `ENDING` or `LOST`          |
/// | `ENDING`   | main is exiting                        | nobody                             |
/// | `LOST`     | the supervisor died                    | main → `STARTING`                  |
pub(crate) mod stage {
    pub(crate) const STARTING: u32 = 1;
    pub(crate) const RUNNING: u32 = 2;
    pub(crate) const ENDING: u32 = 3;
    pub(crate) const LOST: u32 = 4;
}

impl Header {
    pub(crate) fn initialise(&self, layout: &Layout) {
        let random = std::hash::BuildHasher::hash_one(
            &std::collections::hash_map::RandomState::new(),
            (clock::now_ns(), process::pid()),
        );
        self.nonce.store(random, Ordering::Relaxed);
        self.bytes.store(layout.bytes, Ordering::Relaxed);
        self.slots_used.store(1, Ordering::Relaxed); // main
        self.magic.store(MAGIC, Ordering::Release);
    }

    pub(crate) fn check(&self, layout: &Layout) -> io::Result<()> {
        let sound =
            self.magic.load(Ordering::Acquire) == MAGIC && self.bytes.load(Ordering::Relaxed) == layout.bytes;
        if sound { Ok(()) } else { Err(io::Error::other("this is no arena of this version")) }
    }
}

/// [`Header::fork_errno`]: every slot is taken.
pub(crate) const NO_SLOT: u32 = u32::MAX;
