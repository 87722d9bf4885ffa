//! `select` waits for the first ready object among several.

use crate::family;
use crate::support;
use std::time::{Duration, Instant};

use crate::family::{asleep, forever, kill, until};
use crate::support::{Diary, LONG, OTHER, VICTIM, arena, assert_finished, open, watched};
use procession::internals::{self, Rule};
use procession::queue::{
    Connection, GetError, Ready, SelectError, select_deadline, select_timeout, try_select,
};
use procession::{JoinableQueue, Process, Queue, pipe, select};
use procession_testkit::{Child, CrashStep, Gate, freeze, isolated, proc, run_until, spawn_parked};

const SOON: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);

type Work = JoinableQueue<u32>;
type End = Connection<u32, u32>;

/// One object of each kind, none of which is ready, and the other end of the pipe.
struct Kinds {
    queue: Queue<u32>,
    work: Work,
    end: End,
    other_end: End,
    process: Process<()>,
}

impl Kinds {
    fn new() -> Kinds {
        let (end, other_end) = pipe().unwrap();
        let (queue, work) = (Queue::unbounded().unwrap(), Work::unbounded().unwrap());
        Kinds { queue, work, end, other_end, process: asleep(forever, ()) }
    }

    fn all(&self) -> [&dyn Ready; 4] {
        [&self.queue, &self.work, &self.end, &self.process]
    }

    /// Returns a process that sleeps in one of the forms of `select` until an object is ready.
    fn chooser(&self, way: usize) -> Process<Result<usize, SelectError>> {
        let choose = |way: usize, queue: Queue<u32>, work: Work, end: End, process: Process<()>| {
            let all: [&dyn Ready; 4] = [&queue, &work, &end, &process];
            match way % 3 {
                0 => select(&all),
                1 => select_timeout(&all, HOUR),
                _ => select_deadline(&all, Instant::now() + HOUR),
            }
        };
        let Kinds { queue, work, end, process, .. } = self;
        asleep(choose, (way, queue.clone(), work.clone(), end.clone(), process.clone()))
    }
}

impl Drop for Kinds {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

#[test]
fn select_returns_the_first_ready_object() {
    let _dog = watched();
    let kinds = Kinds::new();
    assert_eq!(try_select(&kinds.all()), Err(SelectError::WouldBlock));
    kill(&kinds.process);
    assert_eq!(try_select(&kinds.all()), Ok(3));
    kinds.other_end.send(1).unwrap();
    assert_eq!(select_timeout(&kinds.all(), HOUR), Ok(2));
    kinds.work.put(1).unwrap();
    assert_eq!(select_deadline(&kinds.all(), Instant::now()), Ok(1));
    kinds.queue.put(1).unwrap();
    assert_eq!(select(&kinds.all()), Ok(0));
    assert_eq!(select(&kinds.all()), Ok(0), "select takes nothing");
    assert_eq!(select(&[&kinds.process, &kinds.end, &kinds.queue]), Ok(0));
    kinds.queue.get().unwrap();
    assert_eq!(select(&kinds.all()), Ok(1));
    kinds.work.get().unwrap().done().unwrap();
    assert_eq!(select(&kinds.all()), Ok(2));
    kinds.end.recv().unwrap();
    assert_eq!(select(&kinds.all()), Ok(3));
}

#[test]
fn an_ended_object_is_ready() {
    let _dog = watched();
    let kinds = Kinds::new();
    kinds.queue.close().unwrap();
    assert_eq!(try_select(&[&kinds.queue]), Ok(0));
    kinds.other_end.close().unwrap();
    assert_eq!(try_select(&[&kinds.end]), Ok(0));
    kinds.work.close().unwrap();
    assert_eq!(try_select(&[&kinds.work]), Ok(0));
    let (end, other_end) = pipe::<u32, u32>().unwrap();
    drop(other_end);
    assert_eq!(try_select(&[&end]), Ok(0));
}

#[test]
fn a_joinable_queue_is_ready_when_there_is_something_to_get() {
    let _dog = watched();
    let work = Work::unbounded().unwrap();
    work.put(1).unwrap();
    drop(work.get().unwrap());
    assert_eq!(try_select(&[&work]), Ok(0), "the item was queued again");
    let lease = work.get().unwrap();
    assert_eq!(try_select(&[&work]), Err(SelectError::WouldBlock), "the item is leased");
    lease.done().unwrap();
    assert_eq!(try_select(&[&work]), Err(SelectError::WouldBlock), "the item is done");
    let works = |work: Work| {
        let _lease = work.get().unwrap();
        forever();
    };
    work.put(2).unwrap();
    let p = asleep(works, (work.clone(),));
    until("it works", || work.is_empty());
    work.close().unwrap();
    assert_eq!(try_select(&[&work]), Err(SelectError::WouldBlock), "the item may be queued again");
    kill(&p);
    assert_eq!(try_select(&[&work]), Ok(0));
    work.get().unwrap().done().unwrap();
    assert_eq!(try_select(&[&work]), Ok(0), "no item will come");
    assert_eq!(work.get().unwrap_err(), GetError::Closed);
}

#[test]
fn select_accepts_any_number_of_objects_except_none() {
    let _dog = watched();
    let queues: Vec<Queue<u32>> = (0..400).map(|_| Queue::unbounded().unwrap()).collect();
    let all: Vec<&dyn Ready> = queues.iter().map(|queue| queue as &dyn Ready).collect();
    let refused = [try_select(&[]), select(&[]), select_timeout(&[], HOUR)];
    assert!(refused.iter().all(|e| matches!(e, Err(SelectError::InvalidArgument(_)))), "{refused:?}");
    let choose = |queues: Vec<Queue<u32>>, many: usize| {
        let all: Vec<&dyn Ready> = queues.iter().map(|queue| queue as &dyn Ready).collect();
        select(&all[..many])
    };
    // One system call waits for at most 127 words, and one of these is the count of deaths.
    for many in [126, 127, 128, 129, 399] {
        for last in [0, many / 2, many - 1] {
            assert_eq!(select_timeout(&all[..many], SOON), Err(SelectError::TimedOut));
            let chooser = asleep(choose, (queues.clone(), many));
            queues[many].put(1).unwrap();
            assert!(chooser.is_alive());
            queues[last].put(1).unwrap();
            assert_eq!(chooser.join().unwrap(), Ok(last));
            assert_eq!((queues[many].get(), queues[last].get()), (Ok(1), Ok(1)));
        }
    }
    queues[126].put(1).unwrap();
    let twice = [all[0], all[0], all[126], all[126]];
    assert_eq!(select(&twice), Ok(2));
}

#[test]
fn select_times_out() {
    let _dog = watched();
    let kinds = Kinds::new();
    let before = Instant::now();
    assert_eq!(select_timeout(&kinds.all(), Duration::ZERO), Err(SelectError::TimedOut));
    assert_eq!(select_deadline(&kinds.all(), before), Err(SelectError::TimedOut));
    assert_eq!(select_timeout(&kinds.all(), SOON), Err(SelectError::TimedOut));
    assert!(before.elapsed() >= SOON);
    assert_eq!(select_deadline(&kinds.all(), before + 3 * SOON), Err(SelectError::TimedOut));
    assert!(before.elapsed() >= 3 * SOON);
}

/// An event that makes one object ready, and the index of that object.
type Event = (&'static str, usize, fn(&mut Kinds));

const EVENTS: &[Event] = &[
    ("a put", 0, |kinds| kinds.queue.put(1).unwrap()),
    ("a close", 0, |kinds| kinds.queue.close().unwrap()),
    ("a put of work", 1, |kinds| kinds.work.put(1).unwrap()),
    ("a close with work", 1, |kinds| kinds.work.close().unwrap()),
    ("a message", 2, |kinds| kinds.other_end.send(1).unwrap()),
    ("a close of the pipe", 2, |kinds| kinds.other_end.close().unwrap()),
    ("the other end dropped", 2, |kinds| kinds.other_end = pipe().unwrap().0),
    ("a process killed", 3, |kinds| kill(&kinds.process)),
    ("a process that dies of a signal", 3, |kinds| family::send(kinds.process.pid().unwrap(), libc::SIGABRT)),
];

#[test]
fn every_event_wakes_the_selector() {
    let _dog = watched();
    for (way, (what, expected, event)) in EVENTS.iter().enumerate() {
        let mut kinds = Kinds::new();
        let chooser = kinds.chooser(way);
        event(&mut kinds);
        assert_eq!(chooser.join().unwrap(), Ok(*expected), "{what}");
    }
}

#[test]
fn the_death_of_a_worker_or_peer_wakes_the_selector() {
    let _dog = watched();
    let kinds = Kinds::new();
    kinds.work.put(1).unwrap();
    let works = |work: Work, end: End| {
        let _lease = work.get().unwrap();
        end.send(1).unwrap();
        forever();
    };
    let (end, other_end) = pipe::<u32, u32>().unwrap();
    let worker = asleep(works, (kinds.work.clone(), other_end));
    assert_eq!(end.recv(), Ok(1));
    let chooser = kinds.chooser(0);
    let peer_chooser = asleep(|end: End| select(&[&end]), (end.clone(),));
    kill(&worker);
    assert_eq!((chooser.join().unwrap(), peer_chooser.join().unwrap()), (Ok(1), Ok(0)));
    assert_eq!(end.recv(), Err(GetError::Closed));
    assert_eq!(kinds.work.get().unwrap().attempt(), 2);
}

#[test]
fn select_serves_several_queues_until_each_ends() {
    let _dog = watched();
    let writes = |end: Connection<u32, ()>, which: u32| {
        for n in 0..10 {
            end.send(which * 10 + n).unwrap();
            (0..which).for_each(|_| std::thread::yield_now());
        }
    };
    let mut ends: Vec<Connection<(), u32>> = (0..4)
        .map(|which| {
            let (here, there) = pipe().unwrap();
            Process::spawn(writes, (there, which)).unwrap();
            here
        })
        .collect();
    let mut got = Vec::new();
    while !ends.is_empty() {
        let all: Vec<&dyn Ready> = ends.iter().map(|end| end as &dyn Ready).collect();
        let which = select(&all).unwrap();
        match ends[which].try_recv() {
            Ok(number) => got.push(number),
            Err(GetError::Closed) => drop(ends.remove(which)),
            Err(other) => panic!("{other}"),
        }
    }
    got.sort_unstable();
    assert!(got.into_iter().eq(0..40));
}

/// If the kernel has no `futex_waitv`, `select` polls.
#[test]
fn select_works_without_futex_waitv() {
    isolated!({
        // This breaks the rule in every child too, because the supervisor is a fork of this process.
        internals::break_rule(Rule::WaitsForAny);
        let kinds = Kinds::new();
        let before = Instant::now();
        assert_eq!(select_timeout(&kinds.all(), 2 * SOON), Err(SelectError::TimedOut));
        assert!(before.elapsed() >= 2 * SOON);
        for (way, (what, expected, event)) in EVENTS.iter().enumerate() {
            let mut kinds = Kinds::new();
            let chooser = kinds.chooser(way);
            event(&mut kinds);
            assert_eq!(chooser.join().unwrap(), Ok(*expected), "{what}");
        }
    });
}

/// Creates a queue that this process and its forks use.
fn queue() -> &'static Queue<u32> {
    arena();
    open([VICTIM, OTHER]);
    Box::leak(Box::new(Queue::unbounded().expect("a queue")))
}

fn become_member(slot: u32) {
    internals::become_member(slot);
    internals::inherit_handles(0);
}

/// Returns a process that sleeps until it receives an item of the queue.
fn getter(queue: &'static Queue<u32>) -> Child {
    spawn_parked(|| {
        become_member(OTHER);
        assert_eq!(queue.get(), Ok(7));
    })
}

/// Reports whether a sleeping process was woken. If so, waits for its end. Otherwise, the process still
/// sleeps.
fn comes_through(mut sleeper: Child) -> bool {
    if proc::is_parked(sleeper.pid) {
        return false;
    }
    assert_eq!(sleeper.wait(), 0, "{}", sleeper.text());
    true
}

/// A selector falls asleep before a getter. The put wakes the selector instead of the getter, but the
/// selector takes no item. Returns whether the getter is woken later.
fn select_and_leave_it() -> bool {
    let (queue, other, diary) = (queue(), queue(), Diary::new());
    let mut selector = spawn_parked(|| {
        become_member(VICTIM);
        assert_eq!(select(&[other, queue]), Ok(1));
        diary.write(0, 1);
    });
    let getter = getter(queue);
    queue.put(7).unwrap();
    assert_eq!(selector.wait(), 0, "{}", selector.text());
    assert_eq!(diary.read(0), 1);
    comes_through(getter)
}

#[test]
fn a_selector_that_takes_no_item_passes_the_wake_on() {
    isolated!({
        assert!(select_and_leave_it());
    });
}

#[test]
fn without_the_rule_the_selector_s_wake_is_lost() {
    isolated!({
        internals::break_rule(Rule::WakePassedOn);
        assert!(!select_and_leave_it());
    });
}

/// A put wakes a selector instead of a getter, and the selector is killed before it runs. Returns whether the
/// getter is woken later.
fn kill_a_woken_selector() -> bool {
    let queue = queue();
    let mut selector = spawn_parked(|| {
        become_member(VICTIM);
        let _ = select(&[queue]);
    });
    let frozen = freeze(selector.pid);
    let getter = getter(queue);
    queue.put(7).unwrap();
    frozen.wait_until_woken();
    assert!(proc::is_parked(getter.pid), "one item wakes one process");
    frozen.kill();
    selector.wait();
    internals::recover(VICTIM);
    comes_through(getter)
}

#[test]
fn a_woken_selector_that_is_killed_takes_no_wake_with_it() {
    isolated!({
        assert!(kill_a_woken_selector());
    });
}

#[test]
fn without_the_sweep_a_killed_selector_takes_the_wake_with_it() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_woken_selector());
    });
}

/// A producer is killed after it has put an item, but before it wakes the selector.
fn kill_a_producer_before_its_wake() -> bool {
    let queue = queue();
    let selector = Child::spawn(|| {
        become_member(OTHER);
        assert_eq!(select(&[queue]), Ok(0));
    });
    let mut producer = run_until(
        |gate: &Gate| {
            become_member(VICTIM);
            proc::wait_until("the selector sleeps", LONG, || internals::waits_for(OTHER) != 0);
            procession_testkit::wait_until_parked(selector.pid);
            gate.begin();
            queue.put(7).unwrap();
            gate.end();
        },
        |_| queue.len() == 1,
    );
    producer.kill();
    assert!(proc::is_parked(selector.pid));
    internals::recover(VICTIM);
    comes_through(selector)
}

#[test]
fn a_producer_that_is_killed_before_its_wake_leaves_no_selector_asleep() {
    isolated!({
        assert!(kill_a_producer_before_its_wake());
    });
}

#[test]
fn without_the_sweep_the_selector_of_a_killed_producer_sleeps_on() {
    isolated!({
        internals::break_rule(Rule::SweepWakes);
        assert!(!kill_a_producer_before_its_wake());
    });
}

/// A selector is killed at every instruction, even while it sleeps. It leaves nothing behind and takes no
/// item.
#[test]
fn a_selector_may_be_killed_at_every_instruction() {
    isolated!({
        let (queue, other) = (queue(), queue());
        let victim = |gate: &Gate| {
            become_member(VICTIM);
            gate.begin();
            assert_eq!(try_select(&[other, queue]), Err(SelectError::WouldBlock));
            assert_eq!(select(&[other, queue]), Ok(1));
            gate.end();
        };
        let step = CrashStep::new(arena()).when_parked(|_| queue.put(7).expect("room"));
        let report = step.run(victim, |point| {
            internals::recover(VICTIM);
            support::nothing_in(VICTIM)?;
            let got = queue.try_get();
            ensure!(got == Ok(7) || (got == Err(GetError::Empty) && !point.finished), "got {got:?}");
            ensure!(queue.put(8).is_ok() && queue.try_get() == Ok(8), "the queue no longer works");
            Ok(())
        });
        println!("{report}");
        assert_finished(&report);
    });
}
