//! The tools that test procession: kills at every instruction, storms of kills, audits of leaks.
//!
//! | idea | where |
//! |---|---|
//! | kill a process at **every instruction** of an operation, recover, check | [`step`] |
//! | the same with a second process running the opposite operation | [`CrashStep::run_pairwise`] |
//! | kill **one** exact process at one exact place: a woken waiter, an unlocker before its wake | [`deterministic`] |
//! | at **every instruction** of one process another process acts, and then both continue | [`interleave`] |
//! | at **every instruction** of one thread, the rest of its process exits normally | [`exits`] |
//! | kill a process that **another process** created, at a system call | [`syscalls`] |
//! | kill random processes, and count what they had acknowledged | [`storm`], [`ledger`] |
//! | check that nothing leaks: fds, processes, mappings, arena bytes, files | [`audit`] |
//! | read what `/proc` shows | [`proc`] |
//! | make a test that hangs report where it hangs | [`watchdog`](mod@watchdog) |
//! | run a test in a process of its own | [`isolated!`] |
//!
//! ```no_run
//! # use procession_testkit::{CrashStep, Mapping};
//! # fn declare_dead_and_recover(pid: i32) {}
//! # fn put() {}
//! # fn invariants() -> Result<(), String> { Ok(()) }
//! # let (addr, len, fd) = (std::ptr::null_mut(), 0, 0);
//! let report = CrashStep::new(Mapping { addr, len, fd }).run(
//!     |gate| {
//!         gate.begin();
//!         put();
//!         gate.end();
//!     },
//!     |point| {
//!         declare_dead_and_recover(point.victim_pid);
//!         invariants()
//!     },
//! );
//! report.assert_sound();
//! ```
//!
//! Nothing here depends on the library under test. A caller passes the location of the shared memory
//! ([`Mapping`]) and closures. All processes are created in one place, [`child`], by a fork that runs no
//! `pthread_atfork` handler. They are killed when the thread that forked them ends.
//!
//! A fork copies only one thread of a test process, which may have many threads. If another thread held the
//! allocator's lock at the fork, that lock stays held for ever in the copy. Run crash tests `isolated!` when
//! other tests run beside them.

pub mod audit;
mod checker;
pub mod child;
pub mod deterministic;
pub mod exits;
mod frozen;
mod gate;
mod insn;
mod interleave;
pub mod isolated;
pub mod ledger;
pub mod mapping;
mod pairwise;
mod pin;
pub mod proc;
pub mod report;
mod report_page;
pub mod rng;
mod snapshot;
pub mod step;
pub mod storm;
pub mod syscalls;
mod tracee;
pub mod watchdog;

pub use audit::Audit;
pub use child::Child;
pub use deterministic::{run_until, spawn_parked, wait_until_parked};
pub use exits::exit_everywhere;
pub use frozen::{Frozen, freeze};
pub use gate::Gate;
pub use interleave::interleave;
pub use ledger::Ledger;
pub use mapping::Mapping;
pub use report::{Failure, Outcome, Point, Report};
pub use rng::Rng;
pub use step::CrashStep;
pub use storm::Storm;
pub use syscalls::{Killed, kill_at_syscall};
pub use watchdog::{Watchdog, watchdog};
