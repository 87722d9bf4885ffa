//! A process is killed at every instruction of creating a pipe, sending an end and dropping an end. So is the collector
//! when it drops an end. The owner of the other end is notified, and all memory is freed.

use crate::support;
use crate::support::{
    Before, Diary, LONG, OTHER, THIRD, VECTORS, VICTIM, arena, assert_finished, done_by, open, own_a_span,
};
use procession::internals::{self, Census};
use procession::pipe;
use procession::queue::{Connection, GetError};
use procession_testkit::{Child, CrashStep, Gate, Point, Report, isolated, proc, run_until};

type End = Connection<u32, u32>;

/// Large, so that a span holds few such blocks. The collector examines each block of a span.
const LARGE: usize = 20_000;

fn begin() -> Before {
    arena();
    open([VICTIM, OTHER, THIRD]);
    Before::now()
}

fn new_pipe() -> (End, End) {
    pipe().expect("a pipe")
}

/// Packs an end into a block, and transfers the block to the process in `slot`.
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

/// Makes the collector run, as it does after a death.
fn collect() {
    internals::collect_as_supervisor();
}

/// Checks that the other end is gone, and that the owner of this end is notified.
fn hears_of_the_end(end: &End) -> Result<(), String> {
    ensure!(end.is_closed() && end.poll(), "the end is not marked as closed: {end:?}");
    ensure!(
        end.recv() == Err(GetError::Closed) && end.send(1).is_err(),
        "the end can still be used: {end:?}"
    );
    Ok(())
}

/// Checks that the objects and blocks are the same as before. Spans may differ, because an adopted span stays
/// with the process that adopted it.
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
fn a_pipe_can_be_created_and_dropped() {
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

/// The victim creates a pipe and sends one end of it through another pipe.
#[test]
fn an_end_can_be_sent() {
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
            ensure!(end.is_ok() || diary.read(0) == 0, "the end was sent, but the receiver got {end:?}");
            if let Ok(end) = end {
                hears_of_the_end(&end)?;
            }
            ensure!(receiver.try_recv().is_err(), "the end was sent twice");
            Ok(())
        });
        assert_finished(&report);
        drop((receiver, sender));
        internals::recover(VICTIM);
        nothing_is_left(&before.0).unwrap();
    });
}

/// Main has the other end. Either the victim has created the pipe and frees its end itself, or it has
/// received its end and leaves freeing to the collector.
#[test]
fn an_end_can_be_dropped() {
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

/// Allocates memory that was freed, in every size that a pipe uses, and fills it with zeros.
fn occupy() -> Vec<u64> {
    let sizes = [16usize, 64, 1 << 10, 2 << 10, 3 << 10, 64 << 10];
    let block = |bytes: usize| internals::pack(&vec![0u8; bytes]).expect("a block");
    sizes.into_iter().flat_map(|bytes| (0..8).map(move |_| block(bytes))).collect()
}

/// Both ends are dropped, and the collector makes a pass while the victim frees the second end. Other
/// processes reuse the freed memory before the victim is recovered.
#[test]
fn closing_a_pipe_writes_to_no_reused_memory() {
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

/// Kills a collector in a supervisor at every instruction of freeing one end of a pipe, or both ends.
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
fn a_killed_collector_still_notifies_the_other_end() {
    isolated!(env = VECTORS, {
        kill_a_collector(false);
    });
}

#[test]
fn a_killed_collector_leaks_nothing_of_a_pipe() {
    isolated!(env = VECTORS, {
        kill_a_collector(true);
    });
}

/// The victim drops one end. At every instruction of that, main drops the other end.
#[test]
fn both_ends_can_be_dropped_at_the_same_time() {
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

/// A process is killed when it is about to notify its sleeping peer. Recovery must then wake the peer.
#[test]
fn a_dropper_killed_before_its_wake_leaves_no_peer_asleep() {
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
            // The victim no longer holds its end, and has not notified the peer yet.
            |_| internals::census().holdings.iter().all(|&(slot, _)| slot != VICTIM),
        );
        victim.kill();
        assert!(proc::is_parked(peer.pid));
        internals::recover(VICTIM);
        assert_eq!(peer.wait(), 0, "{}", peer.text());
    });
}
