//! A consumer is killed at every instruction of getting an item, finishing it, giving it back and taking a dead letter.
//! The item stays queued, is queued again, or is done. It is never lost, and never in two places.

use crate::support;
use crate::support::{Diary, OTHER, VICTIM, arena, assert_finished, open};
use procession::JoinableQueue;
use procession::internals::{self, Census, Rule};
use procession::queue::{GetError, Lease};
use procession_testkit::{CrashStep, Gate, Point, Report, isolated};

type Work = JoinableQueue<u64>;

/// How far the victim has come: an operation has begun, or has returned.
const BEGUN: u64 = 1;
const RETURNED: u64 = 2;

/// The items in the queue, in this order: the item under test, and another behind it.
const FIRST: u64 = 71;
const SECOND: u64 = 72;

/// A queue that no other process uses, a victim, and the state of the arena before the items were put.
struct Scene {
    queue: &'static Work,
    diary: Diary,
    empty: Census,
    /// Leases of the test process, which stay untouched.
    kept: Vec<Lease<u64>>,
}

/// Creates a queue whose cell for leases has been used before.
fn used_queue() -> Work {
    let queue = Work::unbounded().expect("a queue");
    queue.put(1).expect("room");
    queue.get().expect("the item").done().expect("it is leased");
    queue
}

impl Scene {
    fn of(queue: Work) -> Scene {
        arena();
        open([VICTIM, OTHER]);
        [VICTIM, OTHER].into_iter().for_each(internals::recover);
        open([VICTIM, OTHER]);
        let scene = Scene {
            queue: Box::leak(Box::new(queue)),
            diary: Diary::new(),
            empty: internals::census(),
            kept: Vec::new(),
        };
        scene.queue.put_many([FIRST, SECOND]).expect("room");
        scene
    }

    /// Creates a scene whose queue is empty.
    fn empty() -> Scene {
        let scene = Scene::of(used_queue());
        assert_eq!(drain(scene.queue).len(), 2);
        scene
    }

    /// Creates a scene in which the first item becomes a dead letter when it is given back once.
    fn impatient() -> Scene {
        Scene::of(used_queue().with_max_attempts(1).expect("more than none"))
    }

    fn become_victim(&self) {
        internals::become_member(VICTIM);
        internals::inherit_handles(0);
    }

    /// Kills the victim at every instruction of `operation`, which the victim runs on the result of
    /// `prepare`.
    fn step<P>(
        &self,
        step: CrashStep,
        prepare: impl Fn(&'static Work) -> P,
        operation: impl Fn(&'static Work, P) -> Option<Lease<u64>>,
        verdict: impl Fn(&Point, u64) -> Result<(), String>,
    ) -> Report {
        let victim = |gate: &Gate| {
            self.become_victim();
            let prepared = prepare(self.queue);
            self.diary.write(0, BEGUN);
            gate.begin();
            let kept = operation(self.queue, prepared);
            self.diary.write(0, RETURNED);
            gate.end();
            std::mem::forget(kept);
        };
        let report = step.run(victim, |point| {
            internals::recover(VICTIM);
            support::nothing_in(VICTIM)?;
            verdict(point, self.diary.read(0))?;
            self.is_empty_again()
        });
        println!("{report}");
        report
    }

    /// Checks that all items and their memory are gone. The queue may have gained a block of cells for leases.
    fn is_empty_again(&self) -> Result<(), String> {
        let (queue, before) = (self.queue, &self.empty);
        ensure!((queue.len(), queue.unfinished()) == (0, self.kept.len()), "left: {queue:?}");
        ensure!(queue.try_join().is_ok() == self.kept.is_empty(), "not joined: {queue:?}");
        if !queue.is_closed() {
            queue.put(5).map_err(|e| e.to_string())?;
            ensure!(drain(queue) == [(5, 1)], "the queue no longer works");
        }
        internals::collect();
        let now = internals::census();
        let owned = |census: &Census| (census.objects, census.unfinished_objects, census.holdings.len());
        ensure!(owned(&now) == owned(before), "{now:?} instead of {before:?}");
        let more: Vec<_> = now.blocks.iter().filter(|block| !before.blocks.contains(block)).collect();
        ensure!(now.blocks.len() - more.len() == before.blocks.len(), "{now:?} lacks some of {before:?}");
        let object = before.blocks[0].1;
        ensure!(more.len() <= 1 && more.iter().all(|(_, tag)| *tag == object), "{more:x?} are left");
        Ok(())
    }
}

fn crash() -> CrashStep {
    CrashStep::new(arena())
}

/// Returns the items that can be received now, each with its number of attempts.
fn drain(queue: &Work) -> Vec<(u64, u32)> {
    let leases = std::iter::from_fn(|| queue.try_get().ok());
    let finish = |lease: Lease<u64>| {
        let what = (*lease, lease.attempt());
        lease.done().expect("it is leased");
        what
    };
    leases.map(finish).collect()
}

/// Checks that both items are there, once each and in order. The first item's attempts must match the victim's
/// progress.
fn both_are_there(queue: &Work, attempt: u32, diary: u64) -> Result<(), String> {
    let found = drain(queue);
    let untouched = [(FIRST, attempt), (SECOND, 1)];
    let came_back = [(FIRST, attempt + 1), (SECOND, 1)];
    ensure!(found == came_back || (diary == BEGUN && found == untouched), "found {found:?}");
    Ok(())
}

fn get_first(queue: &Work) -> Lease<u64> {
    let lease = queue.get().expect("an item");
    assert_eq!(*lease, FIRST);
    lease
}

#[test]
fn an_item_can_be_leased_in_a_new_block_of_cells() {
    isolated!({
        arena();
        let scene = Scene::of(Work::unbounded().unwrap());
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary)));
    });
}

#[test]
fn an_item_can_be_leased_in_a_used_cell() {
    isolated!({
        arena();
        let scene = Scene::of(used_queue());
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary)));
    });
}

#[test]
fn an_item_can_be_leased_in_the_next_cell() {
    isolated!({
        arena();
        let queue = used_queue();
        queue.put(2).unwrap();
        let kept = queue.get().unwrap();
        let scene = Scene { kept: vec![kept], ..Scene::of(queue) };
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary)));
    });
}

#[test]
fn a_returned_item_can_be_leased() {
    isolated!({
        arena();
        let scene = Scene::of(used_queue());
        drop(get_first(scene.queue));
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 2, diary)));
    });
}

#[test]
fn an_empty_queue_has_no_item_to_lease() {
    isolated!({
        arena();
        for (closed, expected) in [(false, GetError::Empty), (true, GetError::Closed)] {
            let scene = Scene::empty();
            if closed {
                scene.queue.close().unwrap();
            }
            let get = |queue: &'static Work, ()| {
                assert_eq!(queue.try_get().unwrap_err(), expected);
                None
            };
            let nothing = |_: &Point, _| {
                ensure!(drain(scene.queue).is_empty(), "there is something");
                Ok(())
            };
            assert_finished(&scene.step(crash(), |_| (), get, nothing));
        }
    });
}

#[test]
fn a_sleeper_gets_new_and_returned_items() {
    isolated!({
        arena();
        for comes_back in [false, true] {
            let scene = Scene::empty();
            let queue = scene.queue;
            let held = comes_back.then(|| {
                queue.put(FIRST).expect("room");
                get_first(queue)
            });
            let held = std::rc::Rc::new(std::cell::RefCell::new(held));
            let given_back = std::rc::Rc::clone(&held);
            let step = crash().when_parked(move |_| match given_back.take() {
                Some(lease) => drop(lease),
                None => queue.put(FIRST).expect("room"),
            });
            let attempt = 1 + u32::from(comes_back);
            let verdict = |_: &Point, diary| {
                let found = match held.take() {
                    // This is the checker's copy of the test process's lease.
                    Some(lease) => lease.done().map(|()| vec![]).map_err(|e| e.to_string())?,
                    None => drain(queue),
                };
                let expected = [vec![(FIRST, attempt + 1)], vec![(FIRST, attempt)], vec![]];
                let possible = if diary == RETURNED { &expected[..1] } else { &expected[..] };
                ensure!(possible.contains(&found), "found {found:?}");
                Ok(())
            };
            assert_finished(&scene.step(step, |_| (), |queue, ()| Some(get_first(queue)), verdict));
        }
    });
}

/// Checks that a finished item stays finished. At one instruction of a run the item disappears, and it never
/// comes back.
fn goes_once(scene: &Scene, gone: bool, diary: u64) -> Result<(), String> {
    ensure!(gone || scene.diary.read(1) == 0, "the item was gone, and is there again");
    ensure!(gone || diary == BEGUN, "the item should be gone");
    if gone {
        scene.diary.write(1, 1);
    }
    Ok(())
}

#[test]
fn a_leased_item_can_be_finished() {
    isolated!({
        arena();
        for closed in [false, true] {
            let scene = Scene::of(used_queue());
            if closed {
                scene.queue.close().unwrap();
            }
            let done = |_, lease: Lease<u64>| {
                lease.done().expect("it is leased");
                None
            };
            let report = scene.step(crash(), get_first, done, |point, diary| {
                let found = drain(scene.queue);
                ensure!(found == [(FIRST, 2), (SECOND, 1)] || found == [(SECOND, 1)], "found {found:?}");
                ensure!(found.len() == 2 || point.step > 0, "the item was done before `done` was called");
                goes_once(&scene, found.len() == 1, diary)
            });
            assert_finished(&report);
        }
    });
}

#[test]
fn a_leased_item_can_be_given_back() {
    isolated!({
        arena();
        let scene = Scene::of(used_queue());
        let give_back = |_, lease: Lease<u64>| {
            drop(lease);
            None
        };
        let report = scene.step(crash(), get_first, give_back, |_, _| {
            let found = drain(scene.queue);
            ensure!(found == [(FIRST, 2), (SECOND, 1)], "found {found:?}");
            Ok(())
        });
        assert_finished(&report);
    });
}

#[test]
fn a_leased_item_can_become_a_dead_letter() {
    isolated!({
        arena();
        let scene = Scene::impatient();
        let give_back = |_, lease: Lease<u64>| {
            drop(lease);
            None
        };
        let report = scene.step(crash(), get_first, give_back, |_, _| {
            let (letters, found) = (letters(scene.queue), drain(scene.queue));
            ensure!(letters == [(FIRST, 1)] && found == [(SECOND, 1)], "found {letters:?} {found:?}");
            Ok(())
        });
        assert_finished(&report);
    });
}

fn letters(queue: &Work) -> Vec<(u64, u32)> {
    let letters = queue.dead_letters().map(|letter| letter.expect("the letter can be decoded"));
    letters.map(|letter| (letter.item, letter.attempts)).collect()
}

#[test]
fn a_dead_letter_can_be_taken() {
    isolated!({
        arena();
        let scene = Scene::impatient();
        drop(get_first(scene.queue));
        let take = |queue: &'static Work, ()| {
            let letter = queue.dead_letters().next().expect("a letter").expect("the letter can be decoded");
            assert_eq!((letter.item, letter.attempts), (FIRST, 1));
            None
        };
        let report = scene.step(
            crash(),
            |_| (),
            take,
            |_, diary| {
                let (letters, found) = (letters(scene.queue), drain(scene.queue));
                ensure!(found == [(SECOND, 1)], "found {found:?}");
                ensure!(letters == [(FIRST, 1)] || letters.is_empty(), "letters {letters:?}");
                goes_once(&scene, letters.is_empty(), diary)
            },
        );
        assert_finished(&report);
    });
}

/// The control: with the rule switched off, some death must lose the leased item.
#[test]
fn without_the_rule_a_dead_consumer_s_lease_is_lost() {
    isolated!({
        arena();
        internals::break_rule(Rule::LeaseReturned);
        let scene = Scene::of(used_queue());
        let get = |queue, ()| Some(get_first(queue));
        let report = scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary));
        report.assert_broken();
    });
}

/// At every instruction of the victim, another process receives items until no more items can come. Then the
/// victim is killed. Passes to `verdict` how often the other process received the first item, and on which
/// attempts.
fn meet<P>(
    prepare: impl Fn(&'static Work) -> P,
    operation: impl Fn(&'static Work, P) -> Option<Lease<u64>>,
    verdict: impl Fn(&[u64], u64) -> Result<(), String>,
) -> Report {
    arena();
    let scene = Scene::of(used_queue());
    scene.queue.close().expect("a queue to close");
    let victim = |gate: &Gate| {
        scene.become_victim();
        let prepared = prepare(scene.queue);
        scene.diary.write(0, BEGUN);
        gate.begin();
        let kept = operation(scene.queue, prepared);
        scene.diary.write(0, RETURNED);
        gate.end();
        std::mem::forget(kept);
    };
    let other = || {
        internals::become_member(OTHER);
        internals::inherit_handles(0);
        (1..10).for_each(|place| scene.diary.write(place, 0));
        for lease in scene.queue.iter() {
            let lease = lease.expect("an item");
            let place = (*lease - FIRST) as usize + 1;
            let times = scene.diary.read(place) * 10 + u64::from(lease.attempt());
            scene.diary.write(place, times);
            lease.done().expect("it is leased");
        }
    };
    let recover = || internals::recover(VICTIM);
    let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| {
        internals::recover(OTHER);
        let second = scene.diary.read(2);
        ensure!(second == 1, "the second item was received on attempt {second}");
        support::nothing_in(VICTIM)?;
        verdict(&[scene.diary.read(1)], scene.diary.read(0))?;
        scene.is_empty_again()
    });
    println!("{report}");
    report
}

#[test]
fn a_getter_can_race_with_done() {
    isolated!({
        let done = |_, lease: Lease<u64>| {
            lease.done().expect("it is leased");
            None
        };
        assert_finished(&meet(get_first, done, |first, victim| {
            ensure!([[0], [2]].contains(&[first[0]]), "the first item was received on attempts {first:?}");
            ensure!(victim == BEGUN || first == [0], "the item was done, and received again");
            Ok(())
        }));
    });
}

#[test]
fn a_getter_can_race_with_a_returned_lease() {
    isolated!({
        let give_back = |_, lease: Lease<u64>| {
            drop(lease);
            None
        };
        assert_finished(&meet(get_first, give_back, |first, _| {
            ensure!(first == [2], "the first item was received on attempts {first:?}");
            Ok(())
        }));
    });
}

#[test]
fn two_getters_can_race() {
    isolated!({
        // The other process can only take the first item in a copy of the memory. In the real memory the
        // victim always gets it.
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&meet(
            |_| (),
            get,
            |first, victim| {
                ensure!(
                    [[1], [2]].contains(&[first[0]]),
                    "the first item was received on attempts {first:?}"
                );
                ensure!(victim == BEGUN || first == [2], "the item was received before, and counts as new");
                Ok(())
            },
        ));
    });
}
