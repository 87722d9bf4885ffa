//! A child is killed at every instruction between its request and its exit. In a real family, a child is
//! killed at each of its system calls. The child's end is reported with its process id, its function never runs
//! twice, and nothing leaks.

use crate::family;
use crate::support;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;

use crate::support::{Before, VICTIM, arena, lock, open, pass_through};
use procession::internals::{self, Rule};
use procession::process::{Builder, Entry, StartMethod};
use procession::{Error, Failure, Lock, Message, Process, ProcessError};
use procession_testkit::{
    Audit, Child, CrashStep, Gate, Killed, Report, freeze, isolated, kill_at_syscall, proc, spawn_parked,
};

/// The slot of the child, and phases of slots.
const CHILD: u32 = 3;
const SPARE: u32 = 2;
const GO: u32 = 4;
const RUNNING: u32 = 5;
/// The outcome of a process whose function was never called.
const NOT_STARTED: u32 = 6;

type Args = (Lock, String);

fn args(lock: &Lock) -> Args {
    (lock.clone(), "Egon".to_owned())
}

fn returns(lock: Lock, name: String) -> (Lock, usize) {
    drop(lock.lock_or_recover());
    (lock, name.len())
}

fn fails(_: Lock, name: String) -> Result<(), String> {
    Err(name)
}

/// Returns a result that cannot be decoded.
fn confuses(_: Lock, name: String) -> serde_json::Value {
    name.into()
}

/// Starts a spawner that fills the child's slot with a request. The child has not begun yet. Returns the
/// spawner if it waits for the child.
fn requested<F, R>(f: F, builder: Option<&Builder>, lock: &'static Lock) -> Option<Child>
where
    F: Entry<Args, Output = R> + Copy,
    R: Message,
{
    let spawn = move |builder: &Builder| {
        internals::become_member(VICTIM);
        std::mem::forget(builder.spawn(f, args(lock)));
    };
    match builder {
        // The spawner waits until the child has applied its options.
        Some(builder) => Some(spawn_parked(|| spawn(builder))),
        None => {
            let mut spawner = Child::spawn(|| spawn(&Process::builder()));
            assert_eq!(spawner.wait(), 0, "{}", spawner.text());
            None
        }
    }
}

/// Checks after the child's death at some instruction that the child's end is reported.
fn end_is_told(lock: &Lock, before: &Before) -> Result<(), String> {
    let (.., process) = internals::request(CHILD);
    match internals::slot_phase(CHILD) {
        GO | RUNNING => {
            let (ended_before, told) = internals::ending(process);
            internals::recover(CHILD);
            let (ended, told_now) = internals::ending(process);
            // A spawner that was notified may have dropped its handle. In that case the object is freed when
            // the child is recovered.
            ensure!(ended_before.or(ended).is_some(), "its joiners are not notified");
            ensure!(told || told_now, "its spawner is not notified");
        }
        other => return Err(format!("phase {other}")),
    }
    support::nothing_in(CHILD)?;
    pass_through(lock);
    internals::recover(VICTIM);
    before.is_back()
}

fn child_stepped<F, R>(f: F, builder: Option<Builder>) -> Report
where
    F: Entry<Args, Output = R> + Copy,
    R: Message,
{
    arena();
    let lock = lock();
    internals::free(internals::pack(lock).expect("a block"));
    open([VICTIM]);
    internals::open_spare(CHILD);
    internals::collect();
    // Determines where functions can be. The supervisor does this once for all its children.
    internals::resolve(0, 0).expect_err("there is none");
    let before = Before::now();
    let mut spawner = requested(f, builder.as_ref(), lock);
    assert_eq!(internals::slot_phase(CHILD), GO);
    let child = |gate: &Gate| {
        internals::become_member(CHILD);
        // Opens spans for the result and for the text of an error. Other tests cover that.
        support::own_a_span();
        internals::free(internals::pack(&"Err(..)".to_owned()).expect("a block"));
        gate.begin();
        internals::run_to_last_act(CHILD);
        gate.end();
    };
    // The spawner must not run when it is woken, because the memory is copied for the checker at that time. A
    // copy that mixes older and newer memory would show a state that never existed.
    let frozen = spawner.as_ref().map(|spawner| freeze(spawner.pid));
    let report = CrashStep::new(arena()).run(child, |_| end_is_told(lock, &before));
    println!("{report}");
    drop(frozen);
    if let Some(spawner) = &mut spawner {
        assert_eq!(spawner.wait(), 0, "{}", spawner.text());
    }
    report
}

fn small() -> Builder {
    Process::builder().name("small").env("A", "1").env_remove("B").current_dir("/").nice(3)
}

tests! {
    a_child_may_die_while_it_returns = support::assert_finished(&child_stepped(returns, None));
    a_child_may_die_while_it_fails = support::assert_finished(&child_stepped(fails, None));
    a_child_may_die_while_it_reports_an_undecodable_result = support::assert_finished(&child_stepped(confuses, None));
    a_child_with_options_may_die_at_each_instruction = support::assert_finished(&child_stepped(returns, Some(small())));
    a_child_that_cannot_have_its_options =
        support::assert_finished(&child_stepped(returns, Some(small().current_dir("/no/such"))));
    without_the_rule_a_dead_child_s_spawner_is_not_notified = {
        internals::break_rule(Rule::SpawnerNotified);
        let report = child_stepped(returns, Some(small()));
        report.assert_broken();
        assert!(report.failures.iter().any(|failure| failure.why.contains("spawner is not notified")), "{report}");
    };
}

/// Returns what the function finds in the process that runs it.
fn look() -> (i32, String, String) {
    println!("said");
    let here = std::env::current_dir().unwrap().display().to_string();
    let nice = std::fs::read_to_string("/proc/self/stat").unwrap();
    let nice = nice.rsplit(')').next().unwrap().split_ascii_whitespace().nth(16).unwrap().parse().unwrap();
    (nice, here, std::env::var("A").unwrap_or_default())
}

fn was_killed(error: &ProcessError) -> bool {
    matches!(error.failure(), Failure::Killed { signal: libc::SIGKILL, .. })
}

fn spares() -> Vec<i32> {
    (1..64).filter(|&slot| internals::slot_phase(slot) == SPARE).map(internals::slot_pid).collect()
}

fn phase_of(pid: i32) -> u32 {
    (1..64).find(|&slot| internals::slot_pid(slot) == pid).map_or(0, internals::slot_phase)
}

/// Spawns a process, and kills the first child that the spawn creates at the child's `n`-th system call.
/// Returns the outcome.
fn killed_at(builder: &Builder, n: u32) -> Killed {
    family::until("there are spares, asleep", || {
        let spares = spares();
        spares.len() >= 4 && spares.into_iter().all(proc::is_parked)
    });
    let (over, phase, pids) = (AtomicBool::new(false), AtomicU32::new(0), spares());
    let victim = AtomicI32::new(0);
    let (killed, spawned) = std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (over, phase, pids, victim) = (&over, &phase, &pids, &victim);
        let killer = scope.spawn(move || {
            let chosen = |pid| [GO, RUNNING].contains(&phase_of(pid));
            let killing = |pid| {
                phase.store(phase_of(pid), SeqCst);
                victim.store(pid, SeqCst);
            };
            kill_at_syscall(pids, n, || ready.send(()).unwrap(), chosen, killing, || over.load(SeqCst))
        });
        is_ready.recv().unwrap();
        let spawned = builder.spawn(look, ()).map(|p| (p.join(), p.take_stdout(), p.pid()));
        over.store(true, SeqCst);
        (killer.join().unwrap(), spawned)
    });
    let begun = phase.load(SeqCst) == RUNNING;
    match spawned {
        Ok((Ok(found), said, pid)) => {
            // Another child took the killed child's place. Only the second child's process id was ever
            // returned.
            assert!(
                begun || pid != Some(victim.load(SeqCst).cast_unsigned()),
                "call {n}: {pid:?} was killed, and ran"
            );
            assert_eq!(found, (1, "/".to_string(), "1".to_string()), "call {n}");
            let said = std::io::read_to_string(said.unwrap()).unwrap();
            assert!(said == "said\n" || (begun && said.is_empty()), "call {n}: {said}");
        }
        Ok((Err(e), ..)) | Err(Error::Process(e)) => assert!(was_killed(&e), "call {n}: {e}"),
        Err(e) => panic!("call {n}: {e}"),
    }
    killed
}

/// Kills children of real families at every `step`-th system call.
fn killed_at_every(builder: &Builder, step: usize) {
    family::supervisor();
    assert_eq!(killed_at(builder, u32::MAX), Killed::Never);
    let (audit, objects, calls) = (Audit::start(None), internals::census().objects, Cell::new(0));
    for n in (0..2000).step_by(step) {
        match killed_at(builder, n) {
            Killed::Here => calls.set(n),
            Killed::Never => break,
            Killed::NotAllowed => return println!("not allowed to try"),
        }
    }
    println!("{} system calls", calls.get());
    assert!(calls.get() > 20);
    audit.assert_back();
    family::until("every object is freed", || internals::census().objects <= objects);
}

#[test]
fn a_child_with_options_may_die_at_each_system_call() {
    isolated!({
        killed_at_every(&family::everything(), 1);
    });
}

#[test]
fn a_fresh_child_may_die_at_each_system_call() {
    isolated!({
        killed_at_every(&family::everything().start_method(StartMethod::Spawn), 1);
    });
}

/// A child reports that it waits for descriptors, and then dies. Its socket disappears before the process
/// does.
#[test]
fn a_dying_child_is_not_taken_for_one_in_another_namespace() {
    isolated!({
        arena();
        let lock = lock();
        open([VICTIM]);
        internals::open_spare(CHILD);
        let builder = Process::builder().stdout(procession::process::Stdio::piped());
        let mut dying = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mut spawner = spawn_parked(|| {
            internals::become_member(VICTIM);
            let error = builder.spawn(returns, args(lock)).map(drop).unwrap_err();
            assert!(was_killed_error(&error), "{error}");
        });
        internals::say_pid(CHILD, dying.id() as i32);
        let before = proc::times_slept(spawner.pid);
        internals::say_listening(CHILD, 0xfffff);
        proc::wait_until("the spawner has looked for the child", support::LONG, || {
            spawner.try_wait().is_some()
                || (proc::times_slept(spawner.pid) > before && proc::is_parked(spawner.pid))
        });
        dying.kill().and_then(|()| dying.wait()).unwrap();
        proc::wait_until("the spawner waits for another child", support::LONG, || {
            spawner.try_wait().is_some() || proc::is_parked(spawner.pid)
        });
        internals::recover(CHILD);
        assert_eq!(spawner.wait(), 0, "{}", spawner.text());
    });
}

fn was_killed_error(error: &Error) -> bool {
    matches!(error, Error::Process(e) if was_killed(e))
}

/// A child asks for descriptors, and its spawner cannot send them.
#[test]
fn a_child_does_not_wait_for_descriptors_of_a_dead_spawner() {
    isolated!({
        arena();
        let lock = lock();
        open([VICTIM]);
        internals::open_spare(CHILD);
        let builder = Process::builder().stdout(procession::process::Stdio::piped());
        let mut spawner = requested(returns, Some(&builder), lock).unwrap();
        let (.., process) = internals::request(CHILD);
        // The spawner is frozen here, and cannot send the descriptors.
        let frozen = freeze(spawner.pid);
        let mut child = Child::spawn(|| {
            internals::become_member(CHILD);
            internals::run_to_last_act(CHILD);
        });
        proc::wait_until("the child listens", support::LONG, || {
            child.try_wait().is_some() || internals::listens(CHILD)
        });
        internals::say_withdrawn(CHILD);
        assert_eq!(child.wait(), 0, "{}", child.text());
        assert_eq!(internals::ending(process), (Some(NOT_STARTED), true));
        internals::recover(CHILD);
        drop(frozen);
        assert_eq!(spawner.wait(), 0, "{}", spawner.text());
    });
}
