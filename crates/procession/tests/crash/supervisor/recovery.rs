//! Recovery itself is killed at every instruction. The rest of the family continues, and then another
//! recovery starts from the beginning.

use crate::support;
use std::mem::forget;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::{Before, State, VECTORS, VICTIM, arena, lock, state};
use procession::internals::{self, Census};
use procession::{Lock, Process};
use procession_testkit::{CrashStep, Gate, Outcome, isolated, run_until};

/// The slot of the process that has died, whose recovery is killed.
const DEAD: u32 = VICTIM;
/// A slot in which a spare would sleep, and its phases.
const SPARE: u32 = 4;
const ASLEEP: u32 = 2;
const CLAIMED: u32 = 3;

/// The operation in which the process died.
#[derive(Clone, Copy)]
struct Death {
    last: fn(&'static Lock),
    /// Returns true at the place where the process is killed. The argument is the state of the arena when the
    /// operation began.
    place: fn(&Census) -> bool,
}

/// Returns a text so long that its block has few neighbors. Recovery examines each neighbor.
fn long_text() -> String {
    "text".repeat(2500)
}

/// Starts a process that holds two locks, objects and blocks, and kills it in the middle of another
/// operation. Returns its process id.
fn die(locks: [&'static Lock; 2], death: Death) -> i32 {
    let mut was = None;
    let mut child = run_until(
        |gate: &Gate| {
            internals::become_member(DEAD);
            locks.into_iter().for_each(|lock| forget(lock.lock()));
            let own = (Lock::labeled("its own").expect("a lock"), long_text());
            forget((own.0.lock(), internals::pack(&own), internals::reserve(100 << 10)));
            forget(own);
            gate.begin();
            (death.last)(locks[0]);
            gate.end();
        },
        |_| (death.place)(was.get_or_insert_with(internals::census)),
    );
    child.kill();
    child.pid
}

const MAKING_AN_OBJECT: Death =
    Death { last: |_| forget(Lock::new()), place: |_| internals::census().unfinished_objects == 1 };

const FREEING_AN_OBJECT: Death = Death {
    last: |_| drop(Lock::new()),
    place: |was| {
        let now = internals::census();
        seen_whole(now.holdings.len() > was.holdings.len()) && now.unfinished_objects == 1
    },
};

const TAKING_A_RUN: Death = Death {
    last: |_| forget(internals::reserve(200 << 10)),
    place: |was| internals::census().large_spans == was.large_spans + 3,
};

const FREEING_A_RUN: Death = Death {
    last: |_| {
        internals::free(internals::reserve(200 << 10).expect("a block"));
        internals::release_kept();
    },
    place: |was| {
        let now = internals::census();
        seen_whole(now.blocks.len() > was.blocks.len()) && now.large_spans == was.large_spans + 3
    },
};

const OPENING_A_SPAN: Death = Death {
    last: |_| forget(internals::reserve(30_000)),
    place: |was| internals::census().large_spans > was.large_spans,
};

const CLAIMING_A_SPARE: Death = Death {
    last: |lock| forget(Process::spawn(|_: Lock, _: String| (), (lock.clone(), long_text()))),
    place: |_| internals::slot_phase(SPARE) == CLAIMED && internals::request(SPARE).1 != 0,
};

/// Reports whether `whole` was true in an earlier call and is false now.
fn seen_whole(whole: bool) -> bool {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if whole {
        SEEN.store(true, Relaxed);
    }
    !whole && SEEN.load(Relaxed)
}

/// Main continues without a recovery, and allocates memory that may just have been freed. Then `recovery` runs, and
/// must not touch main's objects.
fn while_main_goes_on(recovery: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let locks: Vec<Lock> = (0..4).map(|n| Lock::labeled(&format!("new {n}")).expect("a lock")).collect();
    let held: Vec<_> =
        locks.iter().skip(1).step_by(2).map(|lock| lock.lock().expect("a free lock")).collect();
    let text = internals::pack(&long_text()).expect("a block");
    let run = internals::reserve(200 << 10).expect("a block");

    recovery()?;
    for (n, lock) in locks.iter().enumerate() {
        let expected = if n % 2 == 1 { State::Mine } else { State::Free };
        ensure!(state(lock) == expected, "main's new lock {n} is {:?}", state(lock));
        ensure!(lock.name() == format!("new {n}"), "main's new lock {n} is called {}", lock.name());
    }
    let blocks = internals::census().blocks;
    let has = |block| blocks.iter().any(|&(at, _)| at == block);
    ensure!(has(text) && has(run), "main's blocks {text:x} and {run:x} are not among {blocks:x?}");
    let read: String = internals::unpack(text).map_err(|e| e.to_string())?;
    ensure!(read == long_text(), "main's text is {read}");
    drop(held);
    internals::free(text);
    internals::free(run);
    Ok(())
}

/// Kills the recovery from a death at every instruction. After each kill, a second recovery must complete the
/// work of the first.
fn recover_twice(death: Death) {
    arena();
    internals::open_spare(DEAD);
    internals::adopt_working_directory();
    let locks = [lock(), lock()];
    // The locks have been sent, and main has spans for what it allocates between the two recoveries.
    internals::free(internals::pack(locks[0]).expect("a block"));
    internals::free(internals::pack(&long_text()).expect("a block"));
    internals::collect();
    let before = Before::now();
    // The dead process is one that main spawned without keeping a handle. So only the dead process holds its
    // own object.
    drop(Process::spawn(|_: String| (), (long_text(),)).expect("the spare takes it"));
    internals::open_slot(DEAD);
    internals::open_spare(SPARE);
    let pid = die(locks, death);
    let recovery = |gate: &Gate| {
        gate.begin();
        internals::recover(DEAD);
        gate.end();
    };
    let report = CrashStep::new(arena()).run(recovery, |_| {
        while_main_goes_on(|| {
            internals::recover(DEAD);
            support::nothing_in(DEAD)
        })?;
        for lock in locks {
            ensure!(state(lock) == State::Died(pid), "a lock of the dead is {:?}", state(lock));
            drop(lock.lock_or_recover().map_err(|e| e.to_string())?);
        }
        let phase = internals::slot_phase(SPARE);
        ensure!(phase == ASLEEP, "the spare is in phase {phase}");
        before.is_back()
    });
    println!("{report}");
    report.assert_sound();
    assert_eq!(report.outcome, Outcome::Finished);
}

macro_rules! deaths {
    ($($test:ident = $death:expr,)*) => {$(
        #[test]
        fn $test() {
            isolated!(env = VECTORS, {
                recover_twice($death);
            });
        }
    )*};
}

deaths! {
    recovery_can_be_repeated_after_a_death_creating_an_object = MAKING_AN_OBJECT,
    recovery_can_be_repeated_after_a_death_freeing_an_object = FREEING_AN_OBJECT,
    recovery_can_be_repeated_after_a_death_allocating_a_run = TAKING_A_RUN,
    recovery_can_be_repeated_after_a_death_freeing_a_run = FREEING_A_RUN,
    recovery_can_be_repeated_after_a_death_opening_a_span = OPENING_A_SPAN,
    recovery_can_be_repeated_after_a_spawner_s_death = CLAIMING_A_SPARE,
}
