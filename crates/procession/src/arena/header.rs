//! The first page of the arena: the family's identity, the supervisor's state, and hints about where to look.

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
    /// A random number that differs between families. It shows whether a handle belongs to another family.
    pub(crate) nonce: AtomicU64,
    bytes: AtomicU64,
    /// What the family is doing: see [`stage`].
    pub(crate) stage: AtomicU32,
    /// The supervisor's process id, or 0.
    pub(crate) supervisor_pid: AtomicU32,
    /// The process id of the guard (the supervisor's parent), or 0 after the guard has exited normally: see
    /// `supervisor/guard.rs`.
    pub(crate) guard_pid: AtomicU32,
    /// 1 if the guard has a hidden parent: see `os/hidden_parent.rs`. Stored before the launch.
    pub(crate) guard_has_parent: AtomicU32,
    /// 1 if a process has left signals that the supervisor is to send to another process: see
    /// [`Slot::take_early_signals`].
    ///
    /// [`Slot::take_early_signals`]: super::slots::Slot::take_early_signals
    pub(crate) signals_left: AtomicU32,
    /// A futex word that counts requests to wake the supervisor through the guard.
    pub(crate) guard_wakes: AtomicU32,
    /// Counts how often the guard has noticed the end of a thread: see `supervisor/dying.rs`.
    pub(crate) deaths: AtomicU32,
    /// The identity of the supervisor's working directory. A child starts in its spawner's working directory,
    /// which is usually the same.
    pub(crate) cwd_device: AtomicU64,
    pub(crate) cwd_inode: AtomicU64,
    /// The block with the credentials that main had when it launched the supervisor, or 0.
    pub(crate) credentials: AtomicU64,
    /// The digest of the supervisor's credentials, and the supervisor's user namespace. The supervisor's
    /// children inherit both.
    pub(crate) credentials_digest: AtomicU64,
    pub(crate) user_namespace: AtomicU64,
    /// The supervisor's bounding set, and the capabilities in it that a spawner compares with its own
    /// bounding set. Main stores the second word before it launches the supervisor.
    pub(crate) bounding: AtomicU64,
    pub(crate) bounding_watched: AtomicU64,

    /// Hints: no slot, extra record, object or span with an index at or above these was ever used.
    pub(crate) slots_used: AtomicU32,
    pub(crate) records_used: AtomicU32,
    pub(crate) objects_used: AtomicU32,
    pub(crate) spans_used: AtomicU32,
    /// Hint: the number of spans in kept runs: see `kept_runs.rs`.
    pub(crate) kept_spans: AtomicU32,
    /// Hint: objects below this index are probably all in use.
    pub(crate) objects_from: AtomicU32,

    /// Hint: the slots in which spares sleep.
    pub(crate) spare_slots: [AtomicU32; 16],
    /// A futex word on which spawners wait for a spare. It is a count. The lowest bit says that a spawner
    /// waits.
    pub(crate) spares: AtomicU32,
    /// The error number of a failed fork, or [`NO_SLOT`], until a spawner has reported the failure.
    pub(crate) fork_errno: AtomicU32,
    /// Not 0 when a shared object may have lost its last holder: see `collect.rs`.
    pub(crate) collect_wanted: AtomicU32,
    /// Not 0 while main makes a pass of the collector. Meanwhile the supervisor makes none: see `collect.rs`.
    pub(crate) main_collects: AtomicU32,
    /// Not 0 while a recovery may write to words that sleepers have announced: see `sync/raw/park.rs`.
    pub(crate) sweeping: AtomicU32,
    /// The number of children that were ever forked. Each child gets a unique number from it.
    pub(crate) incarnations: AtomicU32,
    /// The moment at which main began to exit, on the monotonic clock, or 0.
    pub(crate) main_ended_ns: AtomicU64,
    /// A futex word that counts the children that have ended and were recovered.
    pub(crate) ended: AtomicU32,
    /// The handle id of the dict of the family's names, or 0. The header holds this dict.
    pub(crate) names: AtomicU64,
    /// The handle id of the queue of the children's `tracing` and `log` events, or 0, and the levels that
    /// main wants. Main holds this queue. Both are written before the first child is spawned.
    pub(crate) events: AtomicU64,
    pub(crate) events_levels: AtomicU32,
    /// The family's clock, which stands still while the family is suspended.
    pub(crate) awake: AwakeClock,
    /// The system calls that a test lets fail.
    #[cfg(feature = "internals")]
    pub(crate) faults: crate::os::faults::Switch,
}

const _: () = assert!(size_of::<Header>() == 4096, "the header is a page");

/// What the family is doing.
///
/// | word       | meaning                                | who moves it                       |
/// |------------|----------------------------------------|------------------------------------|
/// | 0          | no supervisor was launched yet         | main → `STARTING`                  |
/// | `STARTING` | the supervisor was launched            | supervisor → `RUNNING`, main → `LOST` |
/// | `RUNNING`  | children can be spawned                | main → `ENDING` or `LOST`          |
/// | `ENDING`   | main is exiting                        | no process                         |
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
        if sound {
            Ok(())
        } else {
            Err(io::Error::other("the shared memory was not created by this version of the library"))
        }
    }
}

/// [`Header::fork_errno`]: every slot is in use.
pub(crate) const NO_SLOT: u32 = u32::MAX;
