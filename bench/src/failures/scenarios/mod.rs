//! The scenarios of the failure matrix, with procession.
//!
//! | file        | what goes wrong                                             |
//! |-------------|-------------------------------------------------------------|
//! | `waits.rs`  | F1 to F4: locks, events, conditions, barriers                |
//! | `queues.rs` | F5 to F9, F27: queues, joinable queues, pipes                |
//! | `pools.rs`  | F10 to F20: pools                                            |
//! | `family.rs` | F21 to F26: helpers, parents, shared memory, process handles |

mod family;
mod pools;
mod queues;
mod waits;

use std::fmt::Display;
use std::time::{Duration, Instant};

use procession::{Message, Process, process};

use super::Scenario;
use crate::Result;
use crate::board::Board;
use crate::machine::is_asleep;

const fn scenario(name: &'static str, says: &'static str, run: fn() -> Result) -> Scenario {
    Scenario { name, says, run }
}

/// All scenarios, in order.
pub static ALL: &[Scenario] = &[
    scenario("F1", "kill the holder of a lock, of a re-entrant lock, of a semaphore's permit", waits::f1),
    scenario("F2", "kill a process that waits for an event", waits::f2),
    scenario("F3", "kill a process that waits for a condition", waits::f3),
    scenario("F4", "kill one that waits at a barrier of three, while another waits", waits::f4),
    scenario("F5", "kill a process in `get()` of an empty queue, then put an item", queues::f5),
    scenario("F6", "kill a process that is putting 50 MB, then put another item", queues::f6),
    scenario("F7", "ten times: kill a process right after it put three items", queues::f7),
    scenario("F8", "kill a consumer that has an item in its hands, then `join` the queue", queues::f8),
    scenario("F9", "join a process that has put 10 MB, then read them", queues::f9),
    scenario("F10", "a task of a pool kills its worker", pools::f10),
    scenario("F11", "a task of a pool calls `exit(3)`", pools::f11),
    scenario("F12", "kill one of two workers of a pool that have nothing to do", pools::f12),
    scenario("F13", "kill the other one of them", pools::f13),
    scenario("F14", "a task fails with an error that cannot be put together again", pools::f14),
    scenario("F15", "the callback of a task fails", pools::f15),
    scenario("F16", "the initializer of a pool's workers fails", pools::f16),
    scenario("F17", "map in chunks of 0, of -1", pools::f17),
    scenario("F18", "a task kills its worker while another runs (executor)", pools::f18),
    scenario("F19", "as F14 (executor)", pools::f14),
    scenario(
        "F20",
        "give up waiting for a task of 1.5 s after 0.2 s, cancel it, end the pool (executor)",
        pools::f20,
    ),
    scenario("F21", "kill the helper process (manager; supervisor)", family::f21),
    scenario("F22", "kill a process that holds a lock made by a manager", family::f22),
    scenario("F23", "kill a parent with a daemon child; kill a child that has a child", family::f23),
    scenario("F24", "let a second process open shared memory, close it and end", family::f24),
    scenario("F25", "kill a program and its helper process while they have shared memory", family::f25),
    scenario("F26", "terminate a process that has not begun", family::f26),
    scenario("F27", "kill a process in the middle of sending 50 MB through a pipe", queues::f27),
];

/// A name, and the function that performs it.
type Program = (&'static str, fn() -> Result);

/// The programs in which the scenarios happen.
pub static PROGRAMS: &[Program] = &[("flat", family::flat), ("deep", family::deep), ("leaky", family::leaky)];

const SECOND: Duration = Duration::from_secs(1);

fn saw(what: impl Display) {
    println!("saw: {what}");
}

/// Reports an action that may hang, before the action starts.
fn doing(what: impl Display) {
    println!("do: {what}");
}

/// Called in a child. Reports that the child has reached the place where it will be killed.
fn ready(path: &str) {
    if let Ok(board) = Board::open(path) {
        board.arrive();
    }
}

fn for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// A process that has reported that it is ready. It sleeps in the announced operation, or for ever.
struct Blocked<R>(Process<R>, u32);

impl<R: Message> Blocked<R> {
    /// Spawns `f` with the path of a board and `args`.
    fn spawn<F, A>(f: F, args: A) -> Result<Blocked<R>>
    where
        F: process::Entry<(String, A), Output = R>,
        A: Message,
    {
        let (board, path) = Board::create()?;
        let process = Process::spawn(f, (path, args))?;
        board.await_arrivals(1)?;
        let (pid, started) = (process.pid().ok_or("no pid")?, Instant::now());
        let mut asleep = 0;
        // The process must be asleep for longer than the time after which a waiter checks once more.
        while asleep < 5 {
            std::thread::sleep(Duration::from_millis(10));
            asleep = if is_asleep(pid) { asleep + 1 } else { 0 };
            if started.elapsed() > Duration::from_secs(3) {
                return Err("a process that was to sleep does not".into());
            }
        }
        Ok(Blocked(process, pid))
    }

    /// Kills the process by SIGKILL, and waits until it is known to be dead. Returns its process id.
    fn kill(self) -> Result<u32> {
        // SAFETY: a plain call; the process is a descendant, and its supervisor has not reaped it.
        unsafe { libc::kill(self.1.cast_signed(), libc::SIGKILL) };
        match self.0.join() {
            Ok(_) => Err("a process that was to be killed has returned".into()),
            Err(_) => Ok(self.1),
        }
    }
}
