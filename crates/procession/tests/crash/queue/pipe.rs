//! A process is killed at every instruction of making a pipe, sending an end of it and letting an end go; so
//! is the collector that does the last. Whoever has the other end hears of it, and all memory comes back.

use crate::support;
use crate::support::{
    Before, Diary, LONG, OTHER, THIRD, VECTORS, VICTIM, arena, assert_finished, done_by, open, own_a_span,
};
use procession::internals::{self, Census};
use procession::pipe;
use procession::queue::{Connection, GetError};
use procession_testkit::{Child, CrashStep, Gate, Point, Report, isolated, proc, run_until};

type End = Connection<u32, u32>;

/// Large enough that a span has room for few such blocks: the collector looks at each.
const LARGE: usize = 20_000;

fn begin() -> Before {
    arena();
    open([VICTIM, OTHER, THIRD]);
    Before::now()
}

fn new_pipe() -> (End, End) {
    pipe().expect("a pipe")
}

/// Hands an end to the process of `slot`, in a block.
fn hand(end: &End, slot: u32) -> u64 {
    let block = internals::pack(&(end.clone(), vec![0u8; LARGE])).expect("a block");
    assert!(internals::hand_over(block, slot));
    block
}

/// Takes an end out of a block of this process.
fn take(block: u64) -> End {
    let (end, _) = internals::unpack::<(End, Vec<u8>)>(block).expect("an end");
    internals::free(block);
    end
}

/// Has the collector look, as it does after a death.
fn collect() {
    internals::collect_as_supervisor();
}

/// The other end is gone, and who has this one hears it.
fn hears_of_the_end(end: &End) -> Result<(), String> {
    ensure!(end.is_closed() && end.poll(), "it is not told that the other end is gone: {end:?}");
    ensure!(end.recv() == Err(GetError::Closed) && end.send(1).is_err(), "it does not notice: {end:?}");
    Ok(())
}

/// What there is of objects and blocks. Spans that were adopted stay with who adopted them.
fn nothing_is_left(before: &Census) -> Result<(), String> {
    collect();
    let now = internals::census();
    let living = |census: &Census| {
        (census.objects, census.unfinished_objects, census.blocks.clone(), census.holdings.clone())
    };
    ensure!(living(&now) == living(before), "left: {now:?}, and there was {before:?}");
    Ok(())
}

fn step(victim: impl Fn(&Gate), verdict: impl Fn(&Point) -> Result<(), String>) -> Report {
    let report = CrashStep::new(arena()).run(
        |gate: &Gate| {
            internals::become_member(VICTIM);
            own_a_span();
            victim(gate);
        },
        verdict,
    );
    println!("{report}");
    report
}

#[test]
fn a_pipe_is_made_and_dropped() {
    isolated!(env = VECTORS, {
        let before = begin();
        let victim = |gate: &Gate| {
            gate.begin();
            drop(new_pipe());
            gate.end();
        };
        assert_finished(&step(victim, |_| before.is_back_without(VICTIM)));
    });
}

/// The victim makes a pipe and sends one end of it through another pipe.
#[test]
fn an_end_is_sent() {
    isolated!(env = VECTORS, {
        arena();
        open([VICTIM]);
        let before = Before::now();
        let diary = Diary::new();
        let (receiver, sender) = pipe::<(), End>().unwrap();
        let victim = |gate: &Gate| {
            internals::inherit_handles(0);
            let (mine, theirs) = new_pipe();
            gate.begin();
            assert!(sender.send(theirs).is_ok());
            diary.write(0, 1);
            gate.end();
            std::mem::forget(mine);
        };
        let receiver = std::cell::RefCell::new(Some(receiver));
        let report = step(victim, |_| {
            internals::recover(VICTIM);
            collect();
            support::nothing_in(VICTIM)?;
            let receiver = receiver.take().expect("the tester's end, copied");
            let end = receiver.try_recv();
            ensure!(end.is_ok() || diary.read(0) == 0, "it was sent, and there is {end:?}");
            if let Ok(end) = end {
                hears_of_the_end(&end)?;
            }
            ensure!(receiver.try_recv().is_err(), "it was sent twice");
            Ok(())
        });
        assert_finished(&report);
        drop((receiver, sender));
        internals::recover(VICTIM);
        nothing_is_left(&before.0).unwrap();
    });
}

/// The other end is main's. The victim has made the pipe, and frees its end itself; or has received it, and
/// leaves that to the collector.
#[test]
fn an_end_is_let_go() {
    isolated!(env = VECTORS, {
        for received in [false, true] {
            let before = begin();
            let diary = Diary::new();
            if received {
                done_by(THIRD, || {
                    let (mine, theirs) = new_pipe();
                    diary.write(0, hand(&theirs, 0));
                    diary.write(1, hand(&mine, VICTIM));
                    0
                });
                internals::recover(THIRD);
            }
            let victim = |gate: &Gate| {
                let mine = if received {
                    take(diary.read(1))
                } else {
                    let (mine, theirs) = new_pipe();
                    diary.write(0, hand(&theirs, 0));
                    drop(theirs);
                    mine
                };
                gate.begin();
                drop(mine);
                gate.end();
            };
            let report = step(victim, |_| {
                internals::recover(VICTIM);
                collect();
                support::nothing_in(VICTIM)?;
                let end = take(diary.read(0));
                hears_of_the_end(&end)?;
                drop(end);
                nothing_is_left(&before.0)
            });
            assert_finished(&report);
            internals::recover(VICTIM);
            drop(take(diary.read(0)));
            collect();
        }
    });
}

/// Memory that was freed and is somebody else's now: all of it zero, of every size that a pipe has.
fn occupy() -> Vec<u64> {
    let sizes = [16usize, 64, 1 << 10, 2 << 10, 3 << 10, 64 << 10];
    let block = |bytes: usize| internals::pack(&vec![0u8; bytes]).expect("a block");
    sizes.into_iter().flat_map(|bytes| (0..8).map(move |_| block(bytes))).collect()
}

/// Both ends go; the collector makes a pass while the victim frees the second one, and what it finds free is
/// given to others, before the victim is buried.
#[test]
fn the_end_is_told_in_no_memory_of_others() {
    isolated!(env = VECTORS, {
        let before = begin();
        for block in occupy() {
            internals::free(block);
        }
        let victim = |gate: &Gate| {
            let (mine, theirs) = new_pipe();
            drop(theirs);
            gate.begin();
            drop(mine);
            gate.end();
        };
        let report = step(victim, |_| {
            collect();
            let blocks = occupy();
            internals::recover(VICTIM);
            collect();
            for block in blocks {
                let bytes: Vec<u8> = internals::unpack(block).map_err(|e| e.to_string())?;
                ensure!(bytes == vec![0; bytes.len()], "a block of {} bytes is damaged", bytes.len());
                internals::free(block);
            }
            support::nothing_in(VICTIM)?;
            nothing_is_left(&before.0)
        });
        assert_finished(&report);
    });
}

/// A supervisor that is killed at every instruction of freeing one end of a pipe, or both.
fn kill_a_collector(both: bool) {
    let before = begin();
    let diary = Diary::new();
    done_by(THIRD, || {
        let (mine, theirs) = new_pipe();
        diary.write(0, hand(&theirs, if both { OTHER } else { 0 }));
        hand(&mine, OTHER);
        0
    });
    [THIRD, OTHER].into_iter().for_each(internals::recover);
    let victim = |gate: &Gate| {
        gate.begin();
        collect();
        gate.end();
    };
    let report = CrashStep::new(arena()).run(victim, |_| {
        internals::recover_supervisor();
        collect();
        if !both {
            let end = take(diary.read(0));
            hears_of_the_end(&end)?;
            drop(end);
        }
        nothing_is_left(&before.0)
    });
    println!("{report}");
    assert_finished(&report);
}

#[test]
fn a_killed_collector_tells_the_other_end_all_the_same() {
    isolated!(env = VECTORS, {
        kill_a_collector(false);
    });
}

#[test]
fn a_killed_collector_leaves_nothing_of_a_pipe() {
    isolated!(env = VECTORS, {
        kill_a_collector(true);
    });
}

/// Main lets its end go at every instruction of the victim's doing the same.
#[test]
fn both_ends_are_let_go_at_once() {
    isolated!(env = VECTORS, {
        let before = begin();
        let diary = Diary::new();
        let victim = |gate: &Gate| {
            internals::become_member(VICTIM);
            own_a_span();
            let (mine, theirs) = new_pipe();
            diary.write(0, hand(&theirs, OTHER));
            drop(theirs);
            gate.begin();
            drop(mine);
            gate.end();
        };
        let other = || {
            internals::become_member(OTHER);
            drop(take(diary.read(0)));
            collect();
        };
        let recover = || internals::recover(VICTIM);
        let report = CrashStep::new(arena()).run_pairwise(victim, other, recover, |_| {
            internals::recover(OTHER);
            collect();
            support::nothing_in(VICTIM)?;
            nothing_is_left(&before.0)
        });
        println!("{report}");
        assert_finished(&report);
    });
}

/// A peer that sleeps is woken by the death of who was about to tell it.
#[test]
fn who_is_killed_before_it_tells_leaves_nobody_asleep() {
    isolated!(env = VECTORS, {
        begin();
        let diary = Diary::new();
        let mut peer = Child::spawn(|| {
            diary.wait(1, 1);
            internals::become_member(OTHER);
            let end = take(diary.read(0));
            diary.write(1, 2);
            assert_eq!(end.recv(), Err(GetError::Closed));
            assert!(end.send(1).is_err());
        });
        let mut victim = run_until(
            |gate: &Gate| {
                internals::become_member(VICTIM);
                let (mine, theirs) = new_pipe();
                diary.write(0, hand(&theirs, OTHER));
                drop(theirs);
                diary.write(1, 1);
                diary.wait(1, 2);
                proc::wait_until("the peer sleeps", LONG, || internals::waits_for(OTHER) != 0);
                procession_testkit::wait_until_parked(peer.pid);
                gate.begin();
                drop(mine);
                gate.end();
            },
            // It holds it no more, and has not told.
            |_| internals::census().holdings.iter().all(|&(slot, _)| slot != VICTIM),
        );
        victim.kill();
        assert!(proc::is_parked(peer.pid));
        internals::recover(VICTIM);
        assert_eq!(peer.wait(), 0, "{}", peer.text());
    });
}
