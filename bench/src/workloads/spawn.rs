//! Starting a process and waiting for its end.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;

use procession::Process;

use crate::Result;
use crate::machine::resident_gib;
use crate::peers::fork::fork_exit_wait;
use crate::workload::{Better, Contender, Sample, Workload, ensure, structure};

/// The number of spawns in a row in one run. All rounds together make more than 10,000 spawns.
const SPAWNS: usize = 3000;

pub const SPAWN_JOIN: Workload = Workload {
    name: "spawn_join",
    says: "starting a process that does nothing and waiting for it, again and again, from a small process",
    unit: "us",
    better: Better::Lower,
    target: None,
    contenders: &[
        Contender::new("procession", || time_each(SPAWNS, spawn_join)),
        Contender::new("fork", || time_each(SPAWNS, fork_exit_wait)).target(0.8),
        Contender::new("command", || time_each(1000, run_true)),
        Contender::new("procspawn", || time_each(300, procspawn_join)),
        Contender::python("python", || structure("spawn_join")),
    ],
    most_pairs: usize::MAX,
};

pub const SPAWN_JOIN_GIB: Workload = Workload {
    name: "spawn_join_gib",
    says: "the same from a process with 1 GiB resident",
    contenders: &[
        Contender::new("procession", || beside_a_gib(|| time_each(SPAWNS, spawn_join))),
        Contender::new("procession_small", || time_each(SPAWNS, spawn_join)).target(1.1),
        Contender::new("fork", || beside_a_gib(|| time_each(15, fork_exit_wait))),
        Contender::new("command", || beside_a_gib(|| time_each(500, run_true))),
    ],
    ..SPAWN_JOIN
};

pub const FIRST_SPAWN: Workload = Workload {
    name: "first_spawn",
    says: "the first process of a program, the start of its supervisor included",
    unit: "us",
    better: Better::Lower,
    target: Some(2500.0),
    contenders: &[
        Contender::new("procession", || time_once(spawn_join)).fresh(5),
        Contender::new("exec_self", || time_once(run_self)).fresh(5),
        Contender::new("procspawn", || time_once(procspawn_join)).fresh(5),
    ],
    most_pairs: usize::MAX,
};

pub const FIRST_SPAWN_GIB: Workload = Workload {
    name: "first_spawn_gib",
    says: "the same with 1 GiB resident",
    contenders: &[
        Contender::new("procession", || beside_a_gib(|| time_once(spawn_join))).fresh(2),
        Contender::new("exec_self", || beside_a_gib(|| time_once(run_self))).fresh(2),
    ],
    ..FIRST_SPAWN
};

/// Returns the mean of `count` calls in a row, after one call that does not count.
fn time_each(count: usize, mut start_and_wait: impl FnMut() -> Result) -> Result<Sample> {
    start_and_wait()?;
    let mut each_us = Vec::with_capacity(count);
    let started = Instant::now();
    for _ in 0..count {
        let before = Instant::now();
        start_and_wait()?;
        each_us.push(before.elapsed().as_secs_f64() * 1e6);
    }
    let mean = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    each_us.sort_by(f64::total_cmp);
    let at = |percent: usize| each_us[count * percent / 100];
    let sample = Sample::new(mean).note("10th percentile, us", at(10)).note("50th percentile, us", at(50));
    Ok(sample.note("90th percentile, us", at(90)).note("99th percentile, us", at(99)))
}

fn time_once(start_and_wait: impl FnOnce() -> Result) -> Result<Sample> {
    let started = Instant::now();
    start_and_wait()?;
    Ok(Sample::new(started.elapsed().as_secs_f64() * 1e6))
}

fn beside_a_gib(measure: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let memory = resident_gib();
    let sample = measure();
    drop(black_box(memory));
    sample
}

fn spawn_join() -> Result {
    Ok(Process::spawn(|| (), ())?.join()?)
}

fn procspawn_join() -> Result {
    Ok(procspawn::spawn((), |()| ()).join()?)
}

fn run_true() -> Result {
    run(&mut Command::new("/bin/true"))
}

/// Executes this program, which prints its version and ends: the minimum cost of a fresh start.
fn run_self() -> Result {
    run(Command::new("/proc/self/exe").arg("--version"))
}

fn run(command: &mut Command) -> Result {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure(status.success(), "a program failed")
}
