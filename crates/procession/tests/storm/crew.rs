//! What the storms share: killing workers, replacing them, and the state that must remain at the end.

use crate::support::LONG;
use procession::internals::{self, Census};
use procession::{Failure, Message, Process};
use procession_testkit::{Rng, Storm, proc};

/// Starts the family. Returns its supervisor's process id.
pub fn supervisor() -> i32 {
    Process::spawn(std::os::unix::process::parent_id, ()).unwrap().join().unwrap() as i32
}

/// Returns a storm that kills children of `supervisor`. Prints the storm's seed. The same seed chooses the
/// same victims again.
pub fn storm_below(supervisor: i32) -> Storm {
    let mut storm = Storm::with(Rng::fresh()).also_below(supervisor);
    println!("seed {}", storm.rng().seed());
    storm
}

/// Returns the process ids of the workers, with 0 for a worker that has none yet.
pub fn pids<'a, R: Message + 'a>(workers: impl IntoIterator<Item = &'a Process<R>>) -> Vec<i32> {
    workers.into_iter().map(|worker| worker.pid().unwrap_or(0).cast_signed()).collect()
}

/// Kills a random worker, and replaces it with a worker that `hire` starts. Calls `meanwhile` repeatedly
/// until the killed worker is dead. Returns without a kill if the chosen worker has not started yet.
pub fn kill_and_replace<R: Message>(
    storm: &mut Storm,
    workers: &mut [Process<R>],
    hire: impl FnOnce(&mut Storm) -> Process<R>,
    mut meanwhile: impl FnMut(),
) {
    let candidates = pids(&*workers);
    let Some(pid) = storm.kill_one(&candidates) else { return };
    let place = candidates.iter().position(|&candidate| candidate == pid).expect("one of the workers");
    proc::wait_until("the worker is dead", LONG, || {
        meanwhile();
        !workers[place].is_alive()
    });
    let dead = std::mem::replace(&mut workers[place], hire(storm));
    assert_killed(dead, pid);
}

/// Joins a process, and asserts that it had this process id and that SIGKILL ended it.
pub fn assert_killed<R: Message>(dead: Process<R>, pid: i32) {
    let Err(failure) = dead.join() else { panic!("process {pid} was killed, but returned") };
    assert!(matches!(failure.failure(), Failure::Killed { signal: libc::SIGKILL, .. }), "{failure}");
    assert_eq!(failure.pid(), Some(pid.cast_unsigned()));
}

/// Returns true when the arena holds nothing but empty spans of blocks.
pub fn arena_is_empty() -> bool {
    let now = internals::census();
    now == Census { small_spans: now.small_spans.clone(), ..Census::default() }
}
