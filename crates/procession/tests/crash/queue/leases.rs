//! A consumer is killed at every instruction of getting an item, finishing it, giving it back and taking a
//! dead letter: the item is queued, or comes back, or is done; never lost, and never in two places.

use crate::support;
use crate::support::{Diary, OTHER, VICTIM, arena, assert_finished, open};
use procession::JoinableQueue;
use procession::internals::{self, Census, Rule};
use procession::queue::{GetError, Lease};
use procession_testkit::{CrashStep, Gate, Point, Report, isolated};

type Work = JoinableQueue<u64>;

/// What the victim has come to: an operation has begun, or has returned.
const BEGUN: u64 = 1;
const RETURNED: u64 = 2;

/// The items that lie there, in this order: the one in question and one behind it.
const FIRST: u64 = 71;
const SECOND: u64 = 72;

/// A queue that nobody else looks at, a victim, and what there was before the items came.
struct Scene {
    queue: &'static Work,
    diary: Diary,
    empty: Census,
    /// Leases of the tester's, which nobody touches.
    kept: Vec<Lease<u64>>,
}

/// A queue with a place for leases, which was used before.
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

    /// In which there is nothing to get.
    fn empty() -> Scene {
        let scene = Scene::of(used_queue());
        assert_eq!(drain(scene.queue).len(), 2);
        scene
    }

    /// In which the first item is a dead letter when it is given back once.
    fn impatient() -> Scene {
        Scene::of(used_queue().with_max_attempts(1).expect("more than none"))
    }

    fn become_victim(&self) {
        internals::become_member(VICTIM);
        internals::inherit_handles(0);
    }

    /// Kills the victim at every instruction of `operation` on what it has prepared.
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

    /// Everything that was put is gone, with its memory; the queue may have got one more place for leases.
    fn is_empty_again(&self) -> Result<(), String> {
        let (queue, before) = (self.queue, &self.empty);
        ensure!((queue.len(), queue.unfinished()) == (0, self.kept.len()), "left: {queue:?}");
        ensure!(queue.try_join().is_ok() == self.kept.is_empty(), "not joined: {queue:?}");
        if !queue.is_closed() {
            queue.put(5).map_err(|e| e.to_string())?;
            ensure!(drain(queue) == [(5, 1)], "the queue does not work on");
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

/// What can be got now, and how often it was handed out.
fn drain(queue: &Work) -> Vec<(u64, u32)> {
    let leases = std::iter::from_fn(|| queue.try_get().ok());
    let finish = |lease: Lease<u64>| {
        let what = (*lease, lease.attempt());
        lease.done().expect("it is leased");
        what
    };
    leases.map(finish).collect()
}

/// Both items are there, each once and in order; the first as often handed out as the victim had come.
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
fn an_item_is_got_into_a_new_chunk_of_places() {
    isolated!({
        arena();
        let scene = Scene::of(Work::unbounded().unwrap());
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary)));
    });
}

#[test]
fn an_item_is_got_into_a_place_that_was_used() {
    isolated!({
        arena();
        let scene = Scene::of(used_queue());
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary)));
    });
}

#[test]
fn an_item_is_got_into_the_next_place() {
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
fn an_item_that_came_back_is_got() {
    isolated!({
        arena();
        let scene = Scene::of(used_queue());
        drop(get_first(scene.queue));
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 2, diary)));
    });
}

#[test]
fn nothing_is_got() {
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
fn a_sleeper_gets_what_is_put_and_what_comes_back() {
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
                    // This checker's copy of the tester's lease.
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

/// What is gone stays gone: between the points of a run there is one at which it goes.
fn goes_once(scene: &Scene, gone: bool, diary: u64) -> Result<(), String> {
    ensure!(gone || scene.diary.read(1) == 0, "it was gone already, and is there again");
    ensure!(gone || diary == BEGUN, "it should be gone");
    if gone {
        scene.diary.write(1, 1);
    }
    Ok(())
}

#[test]
fn an_item_is_done() {
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
                ensure!(found.len() == 2 || point.step > 0, "it was done before it was said");
                goes_once(&scene, found.len() == 1, diary)
            });
            assert_finished(&report);
        }
    });
}

#[test]
fn an_item_is_given_back() {
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
fn an_item_is_given_up() {
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
    let letters = queue.dead_letters().map(|letter| letter.expect("it can be read"));
    letters.map(|letter| (letter.item, letter.attempts)).collect()
}

#[test]
fn a_dead_letter_is_taken() {
    isolated!({
        arena();
        let scene = Scene::impatient();
        drop(get_first(scene.queue));
        let take = |queue: &'static Work, ()| {
            let letter = queue.dead_letters().next().expect("a letter").expect("it can be read");
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

/// The control.
#[test]
fn a_lease_that_is_not_given_back_is_found() {
    isolated!({
        arena();
        internals::break_rule(Rule::LeaseReturned);
        let scene = Scene::of(used_queue());
        let get = |queue, ()| Some(get_first(queue));
        let report = scene.step(crash(), |_| (), get, |_, diary| both_are_there(scene.queue, 1, diary));
        report.assert_broken();
    });
}

/// At every instruction of the victim's, another process gets all that there is until nothing can come any
/// more; then the victim is killed. Gives to `verdict` how often the other had the first item, and on which
/// attempt.
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
        ensure!(second == 1, "the second item was got on {second}");
        support::nothing_in(VICTIM)?;
        verdict(&[scene.diary.read(1)], scene.diary.read(0))?;
        scene.is_empty_again()
    });
    println!("{report}");
    report
}

#[test]
fn another_gets_meanwhile_what_is_done() {
    isolated!({
        let done = |_, lease: Lease<u64>| {
            lease.done().expect("it is leased");
            None
        };
        assert_finished(&meet(get_first, done, |first, victim| {
            ensure!([[0], [2]].contains(&[first[0]]), "the first item was got on {first:?}");
            ensure!(victim == BEGUN || first == [0], "it was done, and got again");
            Ok(())
        }));
    });
}

#[test]
fn another_gets_meanwhile_what_is_given_back() {
    isolated!({
        let give_back = |_, lease: Lease<u64>| {
            drop(lease);
            None
        };
        assert_finished(&meet(get_first, give_back, |first, _| {
            ensure!(first == [2], "the first item was got on {first:?}");
            Ok(())
        }));
    });
}

#[test]
fn another_gets_meanwhile_what_is_got() {
    isolated!({
        // When the other was faster the victim, which goes on in the real memory, is not told.
        let get = |queue, ()| Some(get_first(queue));
        assert_finished(&meet(
            |_| (),
            get,
            |first, victim| {
                ensure!([[1], [2]].contains(&[first[0]]), "the first item was got on {first:?}");
                ensure!(victim == BEGUN || first == [2], "it was got before, and is new");
                Ok(())
            },
        ));
    });
}
