//! The slots: a page for each process of the family.
//!
//! | state            | meaning                                         | who moves it                  |
//! |------------------|-------------------------------------------------|-------------------------------|
//! | `FREE`           | no process                                      | supervisor → `FORKING`        |
//! | `FORKING`        | the supervisor is forking a child               | supervisor → `SPARE`          |
//! | `SPARE`          | a spare sleeps here                             | spawner → `CLAIMED` by its record |
//! | `CLAIMED` by r   | the thread with record r writes a request       | r → `GO`; recovery → `SPARE`  |
//! | `GO`             | the request is complete                         | the child → `RUNNING`         |
//! | `RUNNING`        | user code may be running                        | supervisor → `DEAD`           |
//! | `DEAD`           | the process has ended and is being recovered    | supervisor → `FREE`           |
//!
//! A child that dies before `RUNNING` has not begun. So the supervisor forks another child into the same
//! slot, where the new child finds the same state and the same request. But the process id of the child is
//! final once `spawn` has returned. So one word decides whether the spawner or the supervisor came first:
//!
//! | [`Slot::birth`] | meaning                                                      | who moves it             |
//! |-----------------|--------------------------------------------------------------|--------------------------|
//! | 0               | the child can be replaced                                    | the process that makes the slot a spare |
//! | `KNOWN`         | the process id is final, so the child's death ends the process | spawner, after `GO`      |
//! | `REPLACED`      | another child has its place; the death of that child ends the process | supervisor               |
//!
//! The upper half of the word is the incarnation, so a late spawner does not affect the next process in the
//! slot.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::awake::Pace;
use super::bits::Lines;
use super::records::Record;
use super::spawner_name::SpawnerName;
use crate::os::life_word::LifeWord;
use crate::os::process;
use crate::rules::{self, Rule};

pub(crate) const FREE: u32 = 0;
pub(crate) const FORKING: u32 = 1;
pub(crate) const SPARE: u32 = 2;
pub(crate) const CLAIMED: u32 = 3;
pub(crate) const GO: u32 = 4;
pub(crate) const RUNNING: u32 = 5;
pub(crate) const DEAD: u32 = 6;

/// The slot of main, the process that started the family.
pub(crate) const MAIN: u32 = 0;

/// Returns the phase in a state word. The rest is the record of the claiming thread.
pub(crate) fn phase(state: u32) -> u32 {
    state & 0xff
}

/// Returns the state word of a slot that a thread claims.
pub(crate) fn claimed_by(record: u32) -> u32 {
    CLAIMED | record << 8
}

/// Returns the record of the thread that has claimed a slot in state `CLAIMED`.
pub(crate) fn claimant(state: u32) -> u32 {
    state >> 8
}

/// [`Slot::flags`]: the process does not keep the family alive.
pub(crate) const DAEMON: u32 = 1;
/// [`Slot::flags`]: the process dies of a stack overflow.
pub(crate) const OVERFLOWED: u32 = 2;
/// [`Slot::flags`]: the process dies because an allocation failed, or because the kernel killed it for lack
/// of memory.
pub(crate) const NO_MEMORY: u32 = 4;
/// [`Slot::flags`]: a panic aborts the process.
pub(crate) const PANICKING: u32 = 8;

/// [`Slot::flags`]: the process ignores SIGINT.
pub(crate) const IGNORES_INTERRUPTS: u32 = 16;

/// [`Slot::leaving`]: the function has returned.
pub(crate) const RETURNED: u32 = 1;
/// [`Slot::leaving`]: the exit handlers have run, and the process had no other thread that its exit could
/// interrupt.
pub(crate) const ALONE: u32 = 2;

/// In [`Slot::early_signals`], the bit of signal 0: a process of the family has sent SIGKILL.
const KILL_SENT: u64 = 1;

/// In [`Slot::birth`]: the spawner came first.
const KNOWN: u64 = 1;
/// In [`Slot::birth`]: the supervisor came first.
const REPLACED: u64 = 2;
/// The bits of [`Slot::birth`] that a decision does not change.
const FRESH: u64 = !0 << 32;

/// One process.
#[repr(C, align(4096))]
pub(crate) struct Slot {
    /// A futex word: the child sleeps here while it is a spare.
    pub(crate) state: AtomicU32,
    /// The process id of the process in the slot, or 0.
    pub(crate) pid: AtomicI32,
    /// A number that no other process in any slot has had.
    pub(crate) incarnation: AtomicU32,
    pub(crate) flags: AtomicU32,
    /// The handle id of the process object that stands for this process.
    pub(crate) process: AtomicU64,
    /// The slot and the incarnation of the spawner.
    pub(crate) parent: AtomicU32,
    pub(crate) parent_incarnation: AtomicU32,
    pub(crate) request: Request,
    /// The block with the text of the last panic of the process's first thread, or 0.
    pub(crate) panic_text: AtomicU64,
    /// How far the process's exit has come: 0, [`RETURNED`] or [`ALONE`].
    pub(crate) leaving: AtomicU32,
    /// Signals that were sent before the process had begun, or that the supervisor is to send: one bit per
    /// signal, in the lower half. The upper half is the process's incarnation, so a signal for an earlier
    /// process in the slot is not delivered to this one. The lowest bit says that the family killed the
    /// process.
    early_signals: AtomicU64,
    /// The process's own clock, which stands still while the process is stopped.
    pub(crate) pace: Pace,

    /// Whether another child can take the place of this child: see the second table above.
    birth: AtomicU64,
    /// Whether the first thread of the process lives.
    pub(crate) life: LifeWord,
    /// The name of the thread that spawned the process, unless the process is a daemon.
    pub(crate) spawner: SpawnerName,

    pub(super) object_lines: Lines,
    pub(super) span_lines: Lines,
    /// The record of the process's first thread.
    pub(super) home: Record,
}

const _: () = assert!(size_of::<Slot>() == 4096, "a slot is a page");

/// What a spawner asks a child to do.
#[repr(C)]
pub(crate) struct Request {
    /// The offset of the function's entry in the executable.
    pub(crate) entry: AtomicU64,
    /// The hash of the function's type name.
    pub(crate) type_hash: AtomicU64,
    /// The block with the arguments, or 0.
    pub(crate) args: AtomicU64,
    /// The block with the working directory, or 0 for the supervisor's working directory.
    pub(crate) cwd: AtomicU64,
    /// The block with the options, or 0: see `supervisor/options.rs`.
    pub(crate) options: AtomicU64,
    /// For a child that executes the program again: main's signal mask, and which copy of the library takes
    /// over in the child.
    pub(crate) mask: AtomicU64,
    pub(crate) hook: AtomicU64,
}

impl Slot {
    /// Returns whether the process in the slot has begun or is about to begin.
    pub(crate) fn is_live(&self) -> bool {
        matches!(phase(self.state.load(Ordering::SeqCst)), GO | RUNNING)
    }

    /// Assigns the slot to a new process.
    pub(crate) fn begin_incarnation(&self, incarnation: u32) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.early_signals.store(u64::from(incarnation) << 32, Ordering::Release);
        self.birth.store(u64::from(incarnation) << 32, Ordering::Release);
    }

    /// Makes the process id of the child of `incarnation` final and returns it. Returns `None` if the supervisor has
    /// replaced the child, or is about to.
    pub(crate) fn make_known(&self, incarnation: u32) -> Option<i32> {
        let pid = self.pid.load(Ordering::SeqCst);
        // While nothing is decided, the process id stays, because the supervisor stores its decision before
        // it clears the process id.
        (pid != 0 && self.decide(u64::from(incarnation) << 32, KNOWN)).then_some(pid)
    }

    /// Decides that another child takes the place of this dead one. Returns false if this child's process id
    /// is final, or if this child itself has replaced another one.
    pub(crate) fn replace_child(&self) -> bool {
        let replaced = self.decide(self.birth.load(Ordering::SeqCst) & FRESH, REPLACED);
        replaced || !rules::holds(Rule::FinalIdKept)
    }

    fn decide(&self, undecided: u64, decision: u64) -> bool {
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        self.birth.compare_exchange(undecided, undecided | decision, set, get).is_ok()
    }

    /// Resets the decision, for the next spawner that claims this spare.
    pub(crate) fn forget_birth(&self) {
        self.birth.fetch_and(FRESH, Ordering::SeqCst);
    }

    /// Leaves a signal for the process. Returns false if the slot belongs to another incarnation.
    pub(crate) fn add_early_signal(&self, incarnation: u32, signal: i32) -> bool {
        let kill = if signal == libc::SIGKILL { KILL_SENT } else { 0 };
        let add = |word| (word >> 32 == u64::from(incarnation)).then_some(word | 1 << signal | kill);
        self.early_signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
    }

    /// Withdraws a signal that was left for the process. Returns false if the signal was already taken.
    pub(crate) fn remove_early_signal(&self, incarnation: u32, signal: i32) -> bool {
        let bit = 1 << signal;
        let remove = |word| (word >> 32 == u64::from(incarnation) && word & bit != 0).then_some(word & !bit);
        self.early_signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, remove).is_ok()
    }

    /// Returns whether a process of the family has sent SIGKILL to this process.
    pub(crate) fn was_killed_by_us(&self) -> bool {
        self.early_signals.load(Ordering::SeqCst) & KILL_SENT != 0
    }

    /// Returns whether a SIGKILL was left for this process.
    pub(crate) fn has_early_kill(&self) -> bool {
        self.early_signals.load(Ordering::SeqCst) & 1 << libc::SIGKILL != 0
    }

    #[cfg(feature = "internals")]
    pub(crate) fn early_signals(&self) -> u32 {
        self.early_signals.load(Ordering::SeqCst) as u32
    }

    /// Takes the signals that were left for the process, as bits.
    pub(crate) fn take_early_signals(&self) -> u32 {
        let kept = !u64::from(u32::MAX) | KILL_SENT;
        self.early_signals.fetch_and(kept, Ordering::SeqCst) as u32 & !(KILL_SENT as u32)
    }

    /// Clears everything except the state and the incarnation.
    pub(crate) fn reset(&self) {
        self.request.clear();
        self.early_signals.fetch_and(!KILL_SENT, Ordering::SeqCst);
        self.pid.store(0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
        self.process.store(0, Ordering::Relaxed);
        self.parent.store(0, Ordering::Relaxed);
        self.panic_text.store(0, Ordering::Relaxed);
        self.leaving.store(0, Ordering::Relaxed);
        self.life.clear();
        self.spawner.clear();
    }
}

impl Request {
    pub(crate) fn clear(&self) {
        self.entry.store(0, Ordering::Relaxed);
        self.type_hash.store(0, Ordering::Relaxed);
        self.args.store(0, Ordering::Relaxed);
        self.cwd.store(0, Ordering::Relaxed);
        self.options.store(0, Ordering::Relaxed);
        self.mask.store(0, Ordering::Relaxed);
        self.hook.store(0, Ordering::Relaxed);
    }
}

impl super::Arena {
    /// Returns the incarnation of the process in a slot.
    pub(crate) fn incarnation(&self, slot: u32) -> u32 {
        if slot < self.layout.slots { self.slot(slot).incarnation.load(Ordering::Acquire) } else { u32::MAX }
    }

    /// Releases the pages of a free slot to the kernel.
    pub(crate) fn release_slot_pages(&self, slot: u32) {
        let page = size_of::<Slot>() as u64;
        self.punch(self.layout.slots_at + u64::from(slot) * page, page);
        let bits = [
            (self.layout.object_bits_at, self.layout.object_bits_stride),
            (self.layout.span_bits_at, self.layout.span_bits_stride),
        ];
        for (at, stride) in bits.into_iter().filter(|(_, stride)| stride.is_multiple_of(4096)) {
            self.punch(at + u64::from(slot) * stride, stride);
        }
    }

    /// Returns whether a process other than the one in `slot` may use an object.
    pub(crate) fn is_held_by_others(&self, object: u32, slot: u32) -> bool {
        let used = self.header().slots_used.load(Ordering::Acquire).min(self.layout.slots);
        self.object(object).is_embedded() || (0..used).any(|s| s != slot && self.held_objects(s).has(object))
    }

    /// Returns the name of the process in a slot.
    pub(crate) fn process_name(&self, slot: u32) -> String {
        if slot == MAIN {
            return "main".into();
        }
        if slot >= self.layout.slots {
            return "nobody".into();
        }
        let index = self.slot(slot).process.load(Ordering::Acquire) as u32;
        if index < self.layout.objects { self.object(index).name() } else { String::new() }
    }

    /// Describes the process in a slot, for a message about what it holds. If the process is dead, adds what
    /// its recovery waits for.
    pub(crate) fn describe_holder(&self, slot: u32) -> String {
        let text = self.describe_process(slot);
        let pid = if slot < self.layout.slots { self.slot(slot).pid.load(Ordering::Relaxed) } else { 0 };
        if pid == 0 || !process::is_dead(pid) {
            return text;
        }
        let supervisor = self.header().supervisor_pid.load(Ordering::Relaxed) as i32;
        match process::is_stopped(supervisor) {
            true => format!("{text}, dead, awaiting recovery; the supervisor (pid {supervisor}) is stopped"),
            false => format!("{text}, dead, awaiting recovery"),
        }
    }

    /// Describes the process in a slot: `buyer (pid 17)`.
    pub(crate) fn describe_process(&self, slot: u32) -> String {
        let pid = if slot < self.layout.slots { self.slot(slot).pid.load(Ordering::Relaxed) } else { 0 };
        format!("{} (pid {pid})", self.process_name(slot))
    }
}
