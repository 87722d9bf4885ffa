//! F21 to F26: helpers, parents, shared memory, process handles.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use procession::state::{Array, Value};
use procession::{Dict, Failure, Lock, Manager, Process, Queue, Result as Outcome};

use super::{Blocked, SECOND, doing, for_ever, ready, saw};
use crate::Result;
use crate::machine::{is_gone, parent_of};
use crate::peers::fork;

fn idle(path: String, _: ()) -> Outcome<()> {
    ready(&path);
    for_ever()
}

pub fn f21() -> Result {
    let dict = Dict::from_entries([("a".to_string(), 1)])?;
    let child = Blocked::spawn(idle, ())?;
    fork::kill(parent_of(child.1)?);
    saw("(there is no manager process: the supervisor was killed)");
    doing("a look at a dict");
    saw(format!("a look at a dict gives {:?}", dict.get("a")?));
    doing("join() of a child");
    let end = child.0.join().err().map(|e| e.failure().clone());
    saw(match end {
        Some(Failure::FamilyLost) => "children are gone, join() gives FamilyLost".into(),
        other => format!("join() of a child gives {other:?}"),
    });
    doing("the next spawn");
    let look = |dict: Dict<String, i32>| dict.get("a").ok().flatten();
    saw(format!("the next process starts, and sees {:?}", Process::spawn(look, (dict,))?.join()?));
    Ok(())
}

fn hold(path: String, lock: Lock) -> Outcome<()> {
    let _held = lock.lock()?;
    ready(&path);
    for_ever()
}

pub fn f22() -> Result {
    let lock = Manager::new()?.lock()?;
    Blocked::spawn(hold, lock.clone())?.kill()?;
    doing("lock()");
    saw(match lock.lock() {
        Ok(_) => "lock() takes it".into(),
        Err(error) => format!("lock() gives `{error}`"),
    });
    saw(format!("lock_or_recover() {}", if lock.lock_or_recover().is_ok() { "takes it" } else { "fails" }));
    Ok(())
}

/// A separate program. The first lines that it prints are process ids.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(name: &str) -> Result<Program> {
        let me = std::env::current_exe()?;
        let mut child = Command::new(me).args(["scenario", name]).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Program { child, lines: BufReader::new(output).lines() })
    }

    fn number(&mut self) -> Result<u32> {
        Ok(self.lines.next().ok_or("the program has ended")??.parse()?)
    }

    fn kill(mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Returns how long it took until none of these processes was left.
fn time_to_go(pids: &[u32], limit: Duration) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if pids.iter().all(|&pid| is_gone(pid)) {
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

fn gone_or_alive(pids: &[u32]) -> String {
    let limit = Duration::from_millis(1500);
    time_to_go(pids, limit)
        .map_or("alive 1.5 s later".into(), |after| format!("gone after {} ms", after.as_millis()))
}

/// Prints the process id of its child.
pub fn flat() -> Result {
    let child = Process::builder().daemon(true).spawn(|| -> () { for_ever() }, ())?;
    println!("{}", child.pid().ok_or("no pid")?);
    for_ever()
}

fn middle() -> Outcome<()> {
    let below = Process::spawn(|| -> () { for_ever() }, ())?;
    println!("{}", below.pid().unwrap_or(0));
    for_ever()
}

/// Prints the process ids of its child and of that child's child.
pub fn deep() -> Result {
    let child = Process::spawn(middle, ())?;
    println!("{}", child.pid().ok_or("no pid")?);
    for_ever()
}

pub fn f23() -> Result {
    let mut program = Program::start("flat")?;
    let child = program.number()?;
    program.kill()?;
    saw(format!("parent killed: the daemon child is {}", gone_or_alive(&[child])));
    let mut program = Program::start("deep")?;
    let (one, two) = (program.number()?, program.number()?);
    // The supervisor is the parent of both processes. The process that was spawned first has the lower
    // process id, unless process ids have just wrapped around.
    let (child, grandchild) = (one.min(two), one.max(two));
    fork::kill(child);
    saw(format!("child killed: the grandchild is {}", gone_or_alive(&[grandchild])));
    program.kill()?;
    saw(format!("then the parent too: the grandchild is {}", gone_or_alive(&[grandchild])));
    Ok(())
}

fn look_and_end(array: Array<u64>) -> Outcome<u64> {
    Ok(array.lock()?[0])
}

fn look_and_wait(path: String, array: Array<u64>) -> Outcome<u64> {
    let seen = array.lock()?[0];
    ready(&path);
    let _ = seen;
    for_ever()
}

pub fn f24() -> Result {
    let array = Array::from_slice(&[7u64; 8])?;
    Process::spawn(look_and_end, (array.clone(),))?.join()??;
    Blocked::spawn(look_and_wait, array.clone())?.kill()?;
    doing("lock()");
    saw(format!("one that ended and one that was killed had it; its owner still sees {}", array.lock()?[0]));
    Ok(())
}

/// Uses a bit of everything. Prints the process ids of its supervisor and its child.
pub fn leaky() -> Result {
    let dict = Dict::from_entries([(1u8, vec![1u8; 100_000])])?;
    let queue = Queue::<Vec<u8>>::unbounded()?;
    queue.put(vec![1; 1_000_000])?;
    let (lock, value, array) = (Lock::new()?, Value::new(1u64)?, Array::<u64>::new(1000)?);
    type Everything = (Dict<u8, Vec<u8>>, Queue<Vec<u8>>, Lock, Value<u64>, Array<u64>);
    let keep = |_: Everything| -> () { for_ever() };
    let child = Process::spawn(keep, ((dict, queue, lock, value, array),))?;
    let pid = child.pid().ok_or("no pid")?;
    println!("{}\n{pid}", parent_of(pid)?);
    for_ever()
}

/// Returns the names of shared memory of System V and POSIX.
fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

pub fn f25() -> Result {
    let before = names();
    let mut program = Program::start("leaky")?;
    let (supervisor, child) = (program.number()?, program.number()?);
    let had = names();
    fork::kill(supervisor);
    program.kill()?;
    saw(format!("their child is {}", gone_or_alive(&[child])));
    let more = names().difference(&before).filter(|name| had.contains(*name)).count();
    saw(format!("{more} names remain in /dev/shm"));
    Ok(())
}

pub fn f26() -> Result {
    saw("(there is no handle of a process that was not started: it is terminated at once)");
    let mut by_signal = 0;
    for _ in 0..20 {
        let process = Process::spawn(|| -> () { for_ever() }, ())?;
        doing("terminate()");
        process.terminate()?;
        let end = process.join_timeout(SECOND).err().map(|e| e.failure().clone());
        by_signal += usize::from(matches!(end, Some(Failure::Killed { signal: libc::SIGTERM, .. })));
        if let Err(error) = process.terminate() {
            saw(format!("terminate() of one that has ended gives {error:?}"));
        }
    }
    saw(format!("{by_signal} of 20 are ended by it"));
    Ok(())
}
