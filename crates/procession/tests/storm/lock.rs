//! Hundreds of workers that share locks are killed at random. A ledger outside the library records what each
//! worker had done.

use std::fs::File;
use std::hint::spin_loop;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::crew::{arena_is_empty, kill_and_replace, storm_below, supervisor};
use crate::support::{LONG, arena, owner};
use procession::internals::{self, Rule};
use procession::sync::{LockError, LockGuard};
use procession::{Lock, Process};
use procession_testkit::{Audit, Ledger, Rng, Storm, isolated, proc, watchdog};

const WORKERS: usize = 6;
const KILLS: usize = 600;

/// Entries of the ledger: which worker did what, with which lock, and which process had died there.
const ENTERED: u64 = 1;
const LEFT: u64 = 2;
const RECOVERED: u64 = 3;

/// A file that all processes map. It holds two numbers for each lock. The two are equal when no worker holds
/// the lock.
struct Books(&'static [AtomicU64; 64]);

const CLOSING: usize = 63;

impl Books {
    fn create(path: &Path) {
        File::create(path).and_then(|file| file.set_len(512)).expect("a file for the books");
    }

    #[allow(unsafe_code, reason = "a mapping shared between processes")]
    fn open(path: &Path) -> Books {
        let file = File::options().read(true).write(true).open(path).expect("the books");
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of a file of that length, which is never unmapped. Only atomics are in it.
        unsafe {
            let at = libc::mmap(ptr::null_mut(), 512, access, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert!(at != libc::MAP_FAILED, "mapping the books");
            Books(&*at.cast())
        }
    }

    fn pair(&self, which: usize) -> (&AtomicU64, &AtomicU64) {
        (&self.0[2 * which], &self.0[2 * which + 1])
    }

    fn closing(&self) -> bool {
        self.0[CLOSING].load(SeqCst) != 0
    }
}

/// Acquires a lock in one of several ways. Returns `None` if it was not available.
fn take<'a>(lock: &'a Lock, way: u64) -> Option<LockGuard<'a>> {
    let taken = match way {
        0 => lock.try_lock(),
        1 => lock.lock_timeout(Duration::from_micros(300)),
        2 => lock.lock_or_recover(),
        _ => lock.lock(),
    };
    match taken {
        Ok(held) => Some(held),
        Err(LockError::OwnerDied(_)) => {
            Some(lock.lock_or_recover().expect("a poisoned lock can be recovered"))
        }
        Err(LockError::WouldBlock | LockError::TimedOut) => None,
        Err(other) => panic!("{other}"),
    }
}

struct Worker {
    locks: Vec<Lock>,
    ledger: Ledger,
    books: Books,
    me: u64,
    rng: Rng,
}

impl Worker {
    /// Acquires a lock and releases it. Sometimes acquires the next lock in between.
    fn visit(&mut self, which: usize) {
        let locks = self.locks.clone();
        let Some(held) = take(&locks[which], self.rng.below(12)) else { return };
        let (first, second) = self.books.pair(which);
        match held.recovered_from() {
            Some(dead) => {
                self.ledger.record([RECOVERED, self.me, which as u64, dead.pid as u64]);
                second.store(first.load(SeqCst), SeqCst);
            }
            None => assert_eq!(first.load(SeqCst), second.load(SeqCst), "torn, although no process had died"),
        }
        self.ledger.record([ENTERED, self.me, which as u64, 0]);
        first.fetch_add(1, SeqCst);
        if which + 1 < locks.len() && self.rng.below(4) == 0 {
            self.visit(which + 1);
        }
        self.pause();
        let (_, second) = self.books.pair(which);
        second.fetch_add(1, SeqCst);
        self.ledger.record([LEFT, self.me, which as u64, 0]);
        drop(held);
        self.pause();
    }

    fn pause(&mut self) {
        (0..self.rng.below(2000)).for_each(|_| spin_loop());
    }
}

/// Visits the locks again and again, until the books are closed.
fn work(locks: Vec<Lock>, directory: String, seed: u64, with_journal: bool) {
    if !with_journal {
        internals::break_rule(Rule::Journal);
    }
    let ledger = Ledger::open(Path::new(&directory).join("ledger"));
    let books = Books::open(&Path::new(&directory).join("books"));
    let (me, rng) = (u64::from(std::process::id()), Rng::seeded(seed));
    let mut worker = Worker { locks, ledger, books, me, rng };
    for round in 0.. {
        if worker.books.closing() {
            return;
        }
        if round > 200 {
            // Slow down: a long-lived worker must not fill the ledger while the killing process waits for a
            // processor.
            std::thread::sleep(Duration::from_millis(1));
        }
        let which = worker.rng.below(worker.locks.len() as u64) as usize;
        worker.visit(which);
    }
}

/// The history of one lock.
#[derive(Default, Debug)]
struct Story {
    inside: Option<u64>,
    left: u64,
    recovered: usize,
    /// The number of workers that were killed between entering and leaving, according to the ledger.
    killed_inside: usize,
}

impl Story {
    fn read(ledger: &Ledger, which: usize, killed: &[i32]) -> Story {
        let mut story = Story::default();
        let was_killed = |pid: u64| killed.contains(&(pid as i32));
        for [what, who, _, dead] in ledger.entries().into_iter().filter(|entry| entry[2] == which as u64) {
            match what {
                ENTERED => {
                    assert_eq!(story.inside, None, "{who} entered lock {which}");
                    story.inside = Some(who);
                }
                LEFT => {
                    assert_eq!(story.inside, Some(who), "{who} left lock {which}");
                    (story.inside, story.left) = (None, story.left + 1);
                }
                RECOVERED => {
                    assert!(was_killed(dead), "{who} saw the death of {dead}, which was not killed");
                    // `dead` may be another worker, which recovered the lock and was killed before it
                    // recorded that.
                    assert!(story.inside.is_none_or(was_killed), "{:?} was inside and alive", story.inside);
                    story.killed_inside += usize::from(story.inside.is_some());
                    (story.inside, story.recovered) = (None, story.recovered + 1);
                }
                _ => unreachable!("the ledger has a line of {what}"),
            }
        }
        story
    }
}

/// Everything around the locks: the ledger, the books, and the storm.
struct Office {
    directory: PathBuf,
    ledger: Ledger,
    books: Books,
    storm: Storm,
}

impl Office {
    /// Creates the ledger and the books, and starts the family.
    fn open() -> Office {
        let directory = std::env::temp_dir();
        let ledger = Ledger::create(directory.join("ledger"));
        Books::create(&directory.join("books"));
        let books = Books::open(&directory.join("books"));
        let storm = storm_below(supervisor());
        Office { directory, ledger, books, storm }
    }

    fn hire(&mut self, locks: &[Lock], with_journal: bool) -> Process<()> {
        hire(&mut self.storm, &self.directory, locks, with_journal)
    }
}

fn hire(storm: &mut Storm, directory: &Path, locks: &[Lock], with_journal: bool) -> Process<()> {
    let args = (locks.to_vec(), directory.display().to_string(), storm.rng().next_u64(), with_journal);
    Process::spawn(work, args).expect("a worker")
}

#[test]
fn no_lock_is_lost_although_random_workers_are_killed() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        let mut office = Office::open();
        // Pages of slots, records, objects and bitmaps stay allocated once they have been touched.
        let audit = Audit::start(Some(arena())).allow_bytes(1 << 20);
        let locks: Vec<Lock> = (0..2).map(|_| Lock::new().unwrap()).collect();
        let mut workers: Vec<Process<()>> = (0..WORKERS).map(|_| office.hire(&locks, true)).collect();
        let Office { storm, directory, .. } = &mut office;
        while storm.kills().len() < KILLS {
            kill_and_replace(storm, &mut workers, |storm| hire(storm, directory, &locks, true), || ());
        }
        office.books.0[CLOSING].store(1, SeqCst);
        for worker in workers {
            worker.join().expect("a worker returns");
        }

        let Office { ledger, books, storm, .. } = office;
        let (mut recovered, mut inside) = (0, 0);
        for (which, lock) in locks.iter().enumerate() {
            let held = lock.lock_or_recover().expect("the lock, at once");
            let last = held.recovered_from().map(|dead| dead.pid.cast_signed());
            assert!(last.is_none_or(|pid| storm.kills().contains(&pid)), "{last:?} was not killed");
            let (story, (first, second)) = (Story::read(&ledger, which, storm.kills()), books.pair(which));
            let (first, second) = (first.load(SeqCst), second.load(SeqCst));
            assert!(last.is_some() || first == second, "{first} and {second}");
            assert!((story.left..=story.left + KILLS as u64).contains(&first), "{first} entered: {story:?}");
            println!("lock {which}: {first} times, {story:?}");
            recovered += story.recovered;
            inside += story.killed_inside;
        }
        assert!(inside > 0 && recovered >= inside, "no kill has hit a worker inside");
        drop(locks);
        proc::wait_until("nothing is left in the arena", LONG, arena_is_empty);
        audit.assert_back();
    });
}

/// The control: without the rule, some kill must leave a lock with a dead owner.
#[test]
fn without_the_journal_a_lock_is_lost() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(110));
        arena();
        let mut office = Office::open();
        let locks: Vec<Lock> = (0..2).map(|_| Lock::new().unwrap()).collect();
        while locks.iter().all(|lock| owner(lock) == 0) {
            let workers: Vec<Process<()>> = (0..2).map(|_| office.hire(&locks, false)).collect();
            for worker in workers {
                let pid = worker.pid().expect("a number").cast_signed();
                let works = || office.ledger.entries().iter().any(|entry| entry[1] == pid as u64);
                proc::wait_until("it works, or waits", LONG, || works() || proc::is_parked(pid));
                assert_eq!(office.storm.kill_one(&[pid]), Some(pid));
                worker.join().expect_err("the worker was killed");
            }
            assert!(office.storm.kills().len() < KILLS, "no kill has made a difference");
        }
        println!("lost after {} kills", office.storm.kills().len());
    });
}
