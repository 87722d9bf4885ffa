//! The life of a family. Its main spawns processes, uses locks, queues and a pool, and kills processes that
//! hold objects. Then it checks that nothing is left behind.

use std::collections::BTreeSet;
use std::fs;

use procession::internals;
use procession::pool::TaskError;
use procession::sync::LockError;
use procession::{Dict, JoinableQueue, Lock, Pool, Process, Queue, Semaphore};
use procession_testkit::proc;

use crate::family::*;

/// The last line that a program prints if its family left nothing behind.
pub const LAST_WORD: &str = "the life is over and nothing is left";

/// Runs two rounds, and compares the stock after the second with the stock after the first. The first round
/// also creates everything that a family keeps.
pub fn live() {
    round();
    let before = Stock::settled();
    round();
    before.wait_until_back();
    println!("{LAST_WORD}");
}

/// Runs rounds until `stop` is posted on the board, and posts the number of rounds there. Then it compares
/// the stock as [`live`] does.
pub fn live_until_told() {
    round();
    let before = Stock::settled();
    let mut rounds = 0;
    post(&my_board(), "rounds", rounds);
    while !posted(&my_board(), "stop") {
        round();
        rounds += 1;
        post(&my_board(), "rounds", rounds);
    }
    before.wait_until_back();
    println!("{LAST_WORD}");
}

/// Uses every kind of object once, and kills processes that hold them.
pub fn round() {
    a_killed_holder_loses_its_lock();
    a_killed_holder_loses_its_permit();
    items_cross_a_queue();
    a_killed_consumer_loses_its_item();
    processes_count_in_a_dict();
    a_pool_survives_its_workers();
    a_killed_process_leaves_no_process_behind();
}

fn kill_it(p: &Process<()>) {
    p.kill().expect("a process to kill");
    let error = p.join().expect_err("the process was killed");
    assert!(error.to_string().contains("signal 9"), "{error}");
}

fn a_killed_holder_loses_its_lock() {
    let (lock, held) = (Lock::new().unwrap(), Queue::bounded(1).unwrap());
    let hold = |lock: Lock, held: Queue<()>| {
        let _guard = lock.lock_or_recover().unwrap();
        held.put(()).unwrap();
        forever();
    };
    let p = Process::builder().name("holder").daemon(true).spawn(hold, (lock.clone(), held.clone())).unwrap();
    held.get().unwrap();
    let waits = |lock: Lock| matches!(lock.lock(), Err(LockError::OwnerDied(_)));
    let waiter = Process::spawn(waits, (lock.clone(),)).unwrap();
    until("it waits", || format!("{lock:?}").contains("waiters: 1"));
    kill_it(&p);
    assert_eq!(waiter.join(), Ok(true));
    assert!(lock.lock_or_recover().unwrap().recovered_from().is_some_and(|owner| owner.name == "holder"));
    assert!(lock.lock().is_ok());
}

fn a_killed_holder_loses_its_permit() {
    let (permits, held) = (Semaphore::new(1).unwrap(), Queue::bounded(1).unwrap());
    let hold = |permits: Semaphore, held: Queue<()>| {
        let _permit = permits.acquire().unwrap();
        held.put(()).unwrap();
        forever();
    };
    let p = Process::builder().daemon(true).spawn(hold, (permits.clone(), held.clone())).unwrap();
    held.get().unwrap();
    assert!(permits.try_acquire().is_err());
    kill_it(&p);
    drop(permits.acquire().unwrap());
}

fn items_cross_a_queue() {
    let queue = Queue::<String>::bounded(4).unwrap();
    let put = |queue: Queue<String>| (0..100).try_for_each(|n| queue.put(format!("item {n}"))).is_ok();
    let producers = [(); 2].map(|()| Process::spawn(put, (queue.clone(),)).unwrap());
    let mut got: Vec<String> = (0..200).map(|_| queue.get().unwrap()).collect();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 100);
    assert_eq!(producers.map(|p| p.join()), [Ok(true), Ok(true)]);
    let waits = |queue: Queue<String>| drop(queue.get());
    let p = Process::builder().daemon(true).spawn(waits, (queue.clone(),)).unwrap();
    kill_it(&p);
    queue.put("the last".into()).unwrap();
    assert_eq!(queue.get().unwrap(), "the last");
}

fn a_killed_consumer_loses_its_item() {
    let (queue, held) = (JoinableQueue::<u64>::bounded(4).unwrap(), Queue::bounded(1).unwrap());
    queue.put(7).unwrap();
    let hold = |queue: JoinableQueue<u64>, held: Queue<()>| {
        let _lease = queue.get().unwrap();
        held.put(()).unwrap();
        forever();
    };
    let p = Process::builder().daemon(true).spawn(hold, (queue.clone(), held.clone())).unwrap();
    held.get().unwrap();
    kill_it(&p);
    let lease = queue.get().unwrap();
    assert_eq!((*lease, lease.attempt()), (7, 2));
    lease.done().unwrap();
    queue.join().unwrap();
}

fn processes_count_in_a_dict() {
    let dict = Dict::from_entries([("count".to_string(), 0u32)]).unwrap();
    let count = |dict: Dict<String, u32>| (0..50).all(|_| dict.update("count", |n| *n += 1).is_ok());
    let all = [(); 3].map(|()| Process::spawn(count, (dict.clone(),)).unwrap());
    assert_eq!(all.map(|p| p.join()), [Ok(true), Ok(true), Ok(true)]);
    assert_eq!(dict.get("count").unwrap(), Some(150));
}

fn a_pool_survives_its_workers() {
    let pool = Pool::new(2).unwrap();
    let squares = || pool.map(|n: u64| n * n, 0..200).map(|all| all.into_iter().sum::<u64>());
    assert_eq!(squares(), Ok(2_646_700));
    let dies = pool.submit(|| send(std::process::id() as i32, libc::SIGKILL), ()).unwrap();
    let error = dies.get().unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { .. }), "{error}");
    let endless = pool.submit(forever, ()).unwrap();
    endless.cancel();
    assert!(endless.get().is_err());
    assert_eq!(squares(), Ok(2_646_700));
    pool.close().unwrap();
    pool.join().unwrap();
}

fn a_killed_process_leaves_no_process_behind() {
    let started = Queue::<i32>::bounded(1).unwrap();
    let fork = |started: Queue<i32>| {
        // SAFETY: the fork only sleeps.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            loop {
                // SAFETY: a system call without arguments.
                unsafe { libc::pause() };
            }
        }
        started.put(pid).unwrap();
        forever();
    };
    let p = Process::builder().daemon(true).spawn(fork, (started.clone(),)).unwrap();
    let pid = started.get().unwrap();
    kill_it(&p);
    until_gone(&[pid]);
    let nested = || Process::spawn(|| 7, ()).unwrap().join().unwrap();
    assert_eq!(Process::spawn(nested, ()).unwrap().join(), Ok(7));
}

/// The resources that a family uses.
#[derive(PartialEq, Debug)]
struct Stock {
    objects: u32,
    /// For each block, the kind of its owner.
    blocks: Vec<u32>,
    holdings: usize,
    records: u32,
    descriptors: BTreeSet<String>,
    /// The number of main's descendants, such as the supervisor and its spares.
    processes: usize,
    zombies: Vec<i32>,
}

impl Stock {
    fn now() -> Stock {
        internals::collect_if_wanted();
        let (census, processes) = (internals::census(), proc::descendants(std::process::id() as i32));
        let mut blocks: Vec<u32> = census.blocks.iter().map(|&(_, tag)| tag).collect();
        blocks.sort_unstable();
        Stock {
            objects: census.objects,
            blocks,
            holdings: census.holdings.len(),
            records: census.records,
            descriptors: descriptors(),
            zombies: processes.iter().copied().filter(|&pid| proc::state(pid) == Some('Z')).collect(),
            processes: processes.len(),
        }
    }

    /// Waits until every ended process is recovered, and returns the stock.
    fn settled() -> Stock {
        let mut stock = Stock::now();
        until("every ended process is recovered", || {
            let before = std::mem::replace(&mut stock, Stock::now());
            stock.zombies.is_empty() && stock.holdings == 0 && stock == before
        });
        stock
    }

    fn wait_until_back(&self) {
        let mut now = Stock::now();
        let is_back = proc::eventually(LONG, || {
            now = Stock::now();
            now.is_within(self)
        });
        assert!(is_back, "left behind: {now:#?}, where at first there was {self:#?}");
    }

    fn is_within(&self, before: &Stock) -> bool {
        self.objects <= before.objects
            && self.blocks.len() <= before.blocks.len()
            && self.holdings <= before.holdings
            && self.records <= before.records
            && self.descriptors.len() <= before.descriptors.len()
            && self.processes <= before.processes
            && self.zombies.is_empty()
    }
}

fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc/self/fd can be read").flatten();
    let named = entries.map(|entry| (entry.file_name(), fs::read_link(entry.path())));
    named.filter_map(|(name, to)| Some(format!("{} -> {}", name.display(), to.ok()?.display()))).collect()
}
