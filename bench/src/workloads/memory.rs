//! The costs of idling: the memory of a process that waits, and the processor time of an idle family.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession::{Lock, Process};

use crate::Result;
use crate::board::Board;
use crate::machine::{activity_of, children_of, is_asleep, memory_kib, parent_of, ticks_of};
use crate::peers::fork::Forked;
use crate::peers::robust::RobustMutex;
use crate::stats::median;
use crate::workload::{Better, Contender, Sample, Workload, ensure};

pub const IDLE_CHILD_PSS: Workload = Workload {
    name: "idle_child_pss",
    says: "proportional memory of each of four processes that wait in user code",
    unit: "KiB",
    better: Better::Lower,
    target: Some(300.0),
    contenders: &[
        Contender::new("procession", procession_pss),
        Contender::new("fork", fork_pss),
        Contender::new("exec_self", exec_pss),
    ],
    most_pairs: 3,
};

pub const IDLE_CPU: Workload = Workload {
    name: "idle_cpu",
    says: "clock ticks (10 ms) that main, supervisor, spares and 4 waiting children use in 5 idle seconds",
    unit: "ticks",
    better: Better::Lower,
    target: Some(0.0),
    contenders: &[
        Contender::new("procession", procession_idle),
        Contender::new("pthread_robust", robust_idle),
    ],
    most_pairs: 2,
};

const IDLE: Duration = Duration::from_secs(5);
const WAITING: u32 = 4;

fn wait_forever(board: &Board) -> ! {
    board.arrive();
    loop {
        std::thread::park();
    }
}

fn await_sleep(pids: &[u32]) -> Result {
    for _ in 0..2000 {
        if pids.iter().all(|&pid| is_asleep(pid)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("a process that should wait does not sleep".into())
}

/// Returns the median memory of four waiting processes of a kind. Memory that several processes share counts
/// in part for each of them.
fn pss_of_four<P>(
    start: impl Fn() -> Result<P>,
    pid: impl Fn(&P) -> Result<u32>,
) -> Result<(Sample, Vec<P>)> {
    let one = start()?;
    await_sleep(&[pid(&one)?])?;
    let alone_kib = memory_kib(pid(&one)?, "Pss")?;
    let mut processes = vec![one];
    for _ in 1..WAITING {
        processes.push(start()?);
    }
    let pids = processes.iter().map(pid).collect::<Result<Vec<_>>>()?;
    await_sleep(&pids)?;
    let median_of = |what| -> Result<f64> {
        let each = pids.iter().map(|&pid| memory_kib(pid, what)).collect::<Result<Vec<_>>>()?;
        Ok(median(&each).unwrap_or(f64::NAN))
    };
    let sample = Sample::new(median_of("Pss")?).note("the first one alone, KiB", alone_kib);
    let sample = sample.note("private dirty, KiB", median_of("Private_Dirty")?);
    Ok((sample.note("resident, KiB", median_of("Rss")?), processes))
}

/// Measures the children, and the other processes of the family except main.
fn procession_pss() -> Result<Sample> {
    let (board, path) = Board::create()?;
    let child = |path: String| -> procession::Result<()> {
        wait_forever(Board::open(&path).map_err(std::io::Error::other)?)
    };
    let start = || {
        let before = board.ready.0.load(Ordering::SeqCst);
        let process = Process::spawn(child, (path.clone(),))?;
        board.await_arrivals(before + 1)?;
        Ok(process)
    };
    let pid = |process: &Process<_>| process.pid().ok_or_else(|| "no pid".into());
    let (sample, processes) = pss_of_four(start, pid)?;
    let pids = processes.iter().map(pid).collect::<Result<Vec<_>>>()?;
    // The pause lets the supervisor fork another spare.
    std::thread::sleep(Duration::from_millis(50));
    let supervisor = parent_of(pids[0])?;
    let spares: Vec<u32> =
        children_of(supervisor)?.into_iter().filter(|other| !pids.contains(other)).collect();
    await_sleep(&[&[supervisor], spares.as_slice()].concat())?;
    let spares_kib = spares.iter().map(|&spare| memory_kib(spare, "Pss")).collect::<Result<Vec<_>>>()?;
    let sample = sample
        .note("supervisor, KiB", memory_kib(supervisor, "Pss")?)
        .note("one spare, KiB", median(&spares_kib).unwrap_or(0.0))
        .note("spares", spares.len() as f64);
    for process in processes {
        process.kill()?;
        ensure(process.join().is_err(), "a killed process returned")?;
    }
    Ok(sample)
}

fn fork_pss() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let start = || {
        let before = board.ready.0.load(Ordering::SeqCst);
        let child = Forked::run(move || wait_forever(board))?;
        board.await_arrivals(before + 1)?;
        Ok(child)
    };
    Ok(pss_of_four(start, |child| Ok(child.pid))?.0)
}

/// Measures fresh executions of this program that wait. They read from a pipe that stays empty.
fn exec_pss() -> Result<Sample> {
    let start = || {
        let child = Command::new("/proc/self/exe").arg("wait").stdin(Stdio::piped()).spawn()?;
        // No event shows when the child has begun to wait. It sleeps nowhere else, so a check after this
        // pause shows whether it waits.
        std::thread::sleep(Duration::from_millis(20));
        Ok(child)
    };
    let (sample, children) = pss_of_four(start, |child| Ok(child.id()))?;
    for mut child in children {
        child.kill()?;
        child.wait()?;
    }
    Ok(sample)
}

/// Measures what a set of processes does while it idles. This process is the first of them.
fn idle(others: &[u32]) -> Result<Sample> {
    await_sleep(others)?;
    // Waiters may check once more after a while, so give them time to settle.
    std::thread::sleep(Duration::from_millis(200));
    let me = std::process::id();
    let read = |pid: u32| -> Result<[u64; 3]> {
        let (on_cpu_ns, sleeps) = activity_of(pid)?;
        Ok([ticks_of(pid)?, on_cpu_ns, sleeps])
    };
    let read_others = || others.iter().map(|&pid| read(pid)).collect::<Result<Vec<_>>>();
    let before = [read_others()?, vec![read(me)?]].concat();
    std::thread::sleep(IDLE);
    let own = read(me)?;
    let after = [read_others()?, vec![own]].concat();
    let spent = |what: usize| {
        before.iter().zip(&after).map(|(before, after)| after[what].saturating_sub(before[what])).sum::<u64>()
            as f64
    };
    let sample = Sample::new(spent(0)).note("on a CPU, us", spent(1) / 1e3);
    Ok(sample.note("processes", after.len() as f64).note("went to sleep, times", spent(2)))
}

fn procession_idle() -> Result<Sample> {
    let (board, path) = Board::create()?;
    let lock = Lock::new()?;
    let held = lock.lock()?;
    let child = |path: String, lock: Lock| -> procession::Result<()> {
        Board::open(&path).map_err(std::io::Error::other)?.arrive();
        lock.lock().map(drop)?;
        Ok(())
    };
    let spawn = || Process::spawn(child, (path.clone(), lock.clone()));
    let children = (0..WAITING).map(|_| spawn()).collect::<Result<Vec<_>, _>>()?;
    board.await_arrivals(WAITING)?;
    let supervisor = parent_of(children[0].pid().ok_or("no pid")?)?;
    let sample = idle(&[vec![supervisor], children_of(supervisor)?].concat())?;
    drop(held);
    for child in children {
        child.join()??;
    }
    Ok(sample)
}

fn robust_idle() -> Result<Sample> {
    let (board, _) = Board::create()?;
    let mutex = RobustMutex::new()?;
    mutex.lock()?;
    let child = || {
        Forked::run(move || {
            board.arrive();
            mutex.lock()?;
            mutex.unlock();
            Ok(())
        })
    };
    let children = (0..WAITING).map(|_| child()).collect::<Result<Vec<_>>>()?;
    board.await_arrivals(WAITING)?;
    let sample = idle(&children.iter().map(|c| c.pid).collect::<Vec<_>>())?;
    mutex.unlock();
    children.into_iter().try_for_each(Forked::join)?;
    Ok(sample)
}
