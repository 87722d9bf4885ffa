//! A round: its processes, the kills, and its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use procession::{Failure, Process, active_children, internals};
use procession_testkit::{Rng, proc};

use super::Result;
use super::books::{self, Books, Scene};
use super::outside::{NUMBERS, Outside, unmap};
use super::roles::{self, ROLES, Role};
use super::shared::Shared;

/// The number of processes that run at the same time.
pub const PROCESSES: usize = ROLES.len();

/// The number of kills in a round.
const KILLS: u64 = 150;
/// The longest time between two kills.
const PAUSE_US: u64 = 15_000;
/// Every process must end within this time after the round is over.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A process with its role.
struct Player {
    number: u64,
    role: Role,
    process: Process<procession::Result<()>>,
}

/// Starts the processes of a round. Each process gets the next number, so no two processes of a round share a
/// number.
struct Stage<'a> {
    seed: u64,
    started: u64,
    directory: &'a Path,
    shared: &'a Shared,
}

impl Stage<'_> {
    fn start(&mut self, role: Role) -> Result<Player> {
        let number = self.started;
        self.started += 1;
        assert!((number as usize) < NUMBERS, "as many as a round can have");
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9));
        let (directory, shared) = (self.directory.to_path_buf(), self.shared.clone());
        let builder = Process::builder().name(format!("{role:?}-{number}").to_lowercase());
        let process = builder.spawn(roles::play, (role, number, seed, directory, shared))?;
        Ok(Player { number, role, process })
    }
}

/// Runs round `number`. Returns its books, including the faults that were found.
pub fn run(seed: u64, number: u64) -> Result<Books> {
    let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
    let directory = Directory::new(number)?;
    let outside = Outside::create(&directory.0)?;
    let before = Holdings::now();
    let shared = Shared::new()?;
    shared.dict.insert(&0, 0)?;
    let mut rng = Rng::seeded(seed);
    let mut stage = Stage { seed, started: 0, directory: &directory.0, shared: &shared };
    let mut books = Books::default();
    let mut players = ROLES.iter().map(|role| stage.start(*role)).collect::<Result<Vec<_>>>()?;
    let mut killed: Vec<(u64, Role)> = Vec::new();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(rng.below(PAUSE_US)));
        let victim = rng.below(players.len() as u64) as usize;
        if rng.below(4) == 0 {
            books.workers_killed += u64::from(kill_worker(&shared, &mut rng)?);
            continue;
        }
        let player = &players[victim];
        player.process.kill()?;
        match player.process.join() {
            Err(error) if matches!(error.failure(), Failure::Killed { signal: libc::SIGKILL, .. }) => {
                killed.push((player.number, player.role));
            }
            other => books.fault(format!("{:?} {} ended: {other:?}", player.role, player.number)),
        }
        players[victim] = stage.start(players[victim].role)?;
    }
    end(players, &outside, &shared, &mut books)?;
    let started = stage.started;
    books::balance(&Scene { outside: &outside, shared: &shared, started, killed: &killed }, &mut books)?;
    drop(shared);
    unmap(outside);
    before.compare(&mut books);
    Ok(books)
}

/// Kills a worker of the pool, if there is one.
fn kill_worker(shared: &Shared, rng: &mut Rng) -> Result<bool> {
    let Some(pid) = rng.pick(&shared.pool.stats().pids) else { return Ok(false) };
    match active_children()?.into_iter().find(|child| child.pid() == pid) {
        Some(worker) => worker.kill().map(|()| true).map_err(Into::into),
        None => Ok(false),
    }
}

/// Ends the round: makes every process stop, takes the remaining items, and waits for all processes.
fn end(players: Vec<Player>, outside: &Outside, shared: &Shared, books: &mut Books) -> Result {
    outside.words.stop.store(1, SeqCst);
    shared.queue.close()?;
    shared.joinable.close()?;
    let pool_closed = shared.pool.close();
    let deadline = Instant::now() + END_TIMEOUT;
    for player in players {
        match player.process.join_deadline(deadline) {
            Ok(Some(Ok(()))) => {}
            Ok(None) => {
                books.fault(format!("{:?} {} hangs: {:?}", player.role, player.number, player.process));
                player.process.kill()?;
            }
            other => books.fault(format!("{:?} {} ended: {other:?}", player.role, player.number)),
        }
    }
    pool_closed?;
    if let Err(error) = shared.pool.join_timeout(END_TIMEOUT) {
        books.fault(format!("a closed pool cannot be joined: {error:?}"));
    }
    Ok(())
}

/// A directory. Dropping it removes the directory with its content.
struct Directory(PathBuf);

impl Directory {
    fn new(number: u64) -> Result<Directory> {
        let path = std::env::temp_dir().join(format!("soak-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Holdings that a round must give back.
struct Holdings {
    objects: u32,
    blocks: usize,
    records: u32,
    descriptors: usize,
}

impl Holdings {
    fn now() -> Holdings {
        // Creates the shared memory if this is the first object of the program.
        let _first = procession::Lock::new();
        let census = internals::census();
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Holdings {
            objects: census.objects,
            blocks: census.blocks.len(),
            records: census.records,
            descriptors,
        }
    }

    /// Waits until the holdings are no more than before. After a timeout, records the difference as leaked.
    fn compare(&self, books: &mut Books) {
        let started = Instant::now();
        loop {
            let now = Holdings::now();
            let me = std::process::id() as i32;
            let below = proc::descendants(me).len();
            // The supervisor and its spares stay alive between rounds.
            let spare = 16;
            let same = now.objects <= self.objects
                && now.blocks <= self.blocks
                && now.records <= self.records
                && now.descriptors <= self.descriptors
                && below <= spare;
            if same {
                return;
            }
            if started.elapsed() > Duration::from_secs(10) {
                let leaked = now.blocks.saturating_sub(self.blocks) as u64;
                books.leaked += leaked + u64::from(now.objects.saturating_sub(self.objects));
                books.fault(format!(
                    "leaked: objects {} -> {}, blocks {} -> {}, records {} -> {}, descriptors {} -> {}, {below} processes",
                    self.objects, now.objects, self.blocks, now.blocks, self.records, now.records,
                    self.descriptors, now.descriptors
                ));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
