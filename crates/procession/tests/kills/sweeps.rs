//! After a death, a sweep increments the event count of each sleeper. A sleeper that leaves during the sweep
//! may free the memory of its word. Another process may then store other data there.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::support::{Before, VICTIM, arena, assert_finished, open};
use procession::Queue;
use procession::internals::{self, Census, Rule};
use procession_testkit::{CrashStep, Gate, interleave, isolated};

/// The data that another process stores where the sleeper's word was.
const OTHER_THINGS: u32 = 0x5eed_5eed;

struct Scene {
    before: Before,
    /// The queue on which this process pretends to sleep until an item comes.
    queue: Cell<Option<Queue<u64>>>,
    /// The word on which this process pretends to sleep.
    word: &'static AtomicU32,
}

impl Scene {
    fn new() -> Scene {
        open([VICTIM]);
        let before = Before::now();
        let queue = Queue::bounded(3).unwrap();
        let word = internals::queue_events(&queue);
        internals::say_waiting(&queue, true);
        Scene { before, queue: Cell::new(Some(queue)), word }
    }

    fn sweep(&self, gate: &Gate) {
        internals::become_member(VICTIM);
        gate.begin();
        internals::notify_all_sleepers();
        gate.end();
    }

    /// Checks that nothing is left except spans that were opened.
    fn nothing_is_left(&self) -> Result<(), String> {
        internals::collect_if_wanted();
        let now = internals::census();
        let living = |census: &Census| {
            (census.objects, census.unfinished_objects, census.blocks.clone(), census.holdings.clone())
        };
        ensure!(living(&now) == living(&self.before.0), "left: {now:?}, and there was {:?}", self.before.0);
        Ok(())
    }

    /// Makes the sleeper leave, and drops its queue. If that frees the queue's memory, stores other data
    /// there.
    fn leave(&self) {
        let queue = self.queue.take().expect("the sleeper leaves once");
        internals::say_waiting(&queue, false);
        drop(queue);
        if !internals::is_owned(self.word) {
            self.word.store(OTHER_THINGS, SeqCst);
        }
    }
}

/// Makes a sleeper leave at each point of a sweep. Other data is then stored in the freed memory. Returns
/// whether the sweep never changes this data.
fn leave_meanwhile() -> bool {
    arena();
    let mut sound = true;
    let (mut at_once, mut later) = (0, 0);
    interleave(Scene::new, Scene::sweep, Scene::leave, |scene| {
        match internals::is_owned(scene.word) {
            true => later += 1,
            false => at_once += 1,
        }
        sound &= internals::is_owned(scene.word) || scene.word.load(SeqCst) == OTHER_THINGS;
        internals::recover(VICTIM);
        scene.nothing_is_left().unwrap();
    });
    println!("the queue was freed immediately {at_once} times, later {later} times");
    assert!(at_once > 1, "before the sweep and after it");
    sound
}

#[test]
fn a_sweep_writes_only_to_memory_that_is_kept_for_it() {
    isolated!({
        assert!(leave_meanwhile());
    });
}

#[test]
fn without_the_rule_a_sweep_writes_to_freed_memory() {
    isolated!({
        internals::break_rule(Rule::FreedAfterSweep);
        assert!(!leave_meanwhile(), "either the rule is unnecessary, or this test does not cover it");
    });
}

/// The sweeping process is killed at every instruction, and then the sleeper leaves. Memory that is not freed
/// immediately is freed by the next sweep.
#[test]
fn memory_kept_for_a_sweep_is_freed_afterwards() {
    isolated!({
        arena();
        let scene = Scene::new();
        let report = CrashStep::new(arena()).run(
            |gate| scene.sweep(gate),
            |_| {
                scene.leave();
                internals::recover(VICTIM);
                scene.nothing_is_left()
            },
        );
        println!("{report}");
        assert_finished(&report);
    });
}

/// A process that drops the last handle in the middle of a sweep is killed at every instruction of the drop.
#[test]
fn a_sleeper_may_die_when_it_leaves_in_the_middle_of_a_sweep() {
    isolated!({
        arena();
        open([VICTIM]);
        drop(Queue::<u64>::bounded(3));
        let before = Before::now();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            let queue = Queue::<u64>::bounded(3).unwrap();
            internals::say_sweeping();
            gate.begin();
            drop(queue);
            gate.end();
        };
        let report = CrashStep::new(arena()).run(victim, |_| before.is_back_without(VICTIM));
        println!("{report}");
        assert_finished(&report);
    });
}
