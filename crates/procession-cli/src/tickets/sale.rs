//! The sale itself: opens the file, starts the buyers, waits for them, closes the books.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use procession::{Error, Failure, Lock, Process, ProcessError};

use super::board::Board;
use super::books::{Books, Buyer, Fate};
use super::buyer::{self, Answer, Order};
use super::claim::Claim;
use super::db::{Db, DbError};
use super::ledger::Ledger;
use super::observer::{Handle, Observer, Victim};
use super::plan::{self, Expected};
use super::report::{Facts, Report};
use crate::BAD_INPUT;
use crate::dice::Dice;
use crate::flags::Tickets;
use crate::interrupt::Interrupt;
use crate::screen::{Colour, Screen, complain, count, progress_bar};

/// The exit code when the books do not balance.
const UNBALANCED: u8 = 1;
type Failed = Box<dyn std::error::Error>;

/// Runs the sale that `flags` describe. Returns the exit code.
pub fn run(flags: &Tickets) -> Result<u8, Failed> {
    let interrupt = Interrupt::listen()?;
    let (_home, path) = match &flags.db {
        Some(path) => (None, path.clone()),
        None => {
            let home = tempfile::Builder::new().prefix("procession-tickets-").tempdir()?;
            let path = home.path().join("db.json");
            (Some(home), path)
        }
    };
    let db = Db::at(&path)?;
    let _claim = if flags.wait { Claim::wait_for(&db, &interrupt)? } else { Claim::of(&db)? };
    db.remove_asides()?;
    let before = open(&db, flags.stock)?;
    let report = Sale::new(flags, db, interrupt)?.run(before)?;
    tell(&report, flags.json)?;
    Ok(match report.interrupted_by() {
        _ if !report.is_balanced() => UNBALANCED,
        Some(signal) => 128 + signal as u8,
        None if !report.is_complete() => BAD_INPUT,
        None => 0,
    })
}

/// Reads the file, or creates it.
fn open(db: &Db, stock: Option<u64>) -> Result<Ledger, DbError> {
    if !db.exists() {
        let new = Ledger::new(stock.unwrap_or(1));
        return db.write(&new, None).map(|()| new);
    }
    let ledger = db.read()?;
    db.check_replaceable()?;
    if stock.is_some_and(|stock| stock != ledger.count()) {
        complain(&format!(
            "{}, so --stock does not count",
            db.error(format!("has a count of {}", ledger.count()))
        ));
    }
    Ok(ledger)
}

fn tell(report: &Report, json: bool) -> io::Result<()> {
    report.complaints().iter().for_each(|complaint| complain(complaint));
    let text = if json { report.to_json() } else { report.to_string() };
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}

struct Sale<'a> {
    flags: &'a Tickets,
    db: Db,
    interrupt: Interrupt,
    lock: Option<Lock>,
    board: Board,
    screen: Screen,
    seed: u64,
    bar: ProgressBar,
    /// Buyers that may still run, in the order of their start.
    running: VecDeque<(u32, Handle)>,
    ended: Vec<Buyer>,
}

impl<'a> Sale<'a> {
    fn new(flags: &'a Tickets, db: Db, interrupt: Interrupt) -> Result<Sale<'a>, Failed> {
        let lock = if flags.no_lock { None } else { Some(Lock::labeled("stock")?) };
        Ok(Sale {
            flags,
            db,
            interrupt,
            lock,
            board: Board::new(flags.buyers)?,
            screen: Screen::new(flags.json),
            seed: flags.seed.unwrap_or_else(Dice::fresh_seed),
            bar: progress_bar(flags.buyers.into(), "buyers")?,
            running: VecDeque::new(),
            ended: Vec::new(),
        })
    }

    fn run(mut self, before: Ledger) -> Result<Report, Failed> {
        let stock = before.count();
        let locked = if self.flags.no_lock { "without the lock" } else { "with the lock" };
        let (tickets, buyers) = (count(stock, "ticket"), count(self.flags.buyers.into(), "buyer"));
        self.screen.say(Colour::None, &format!("{tickets} for {buyers}, {locked}"));

        let started = Instant::now();
        let observer = Observer::start(Board::open(&self.board.address())?, self.screen)?;
        let aimed = self.start_buyers(stock, &observer);
        while self.await_first() {}
        let landings = observer.finish().ok_or("the observer has panicked")?;
        let seconds = started.elapsed().as_millis() as f64 / 1000.0;
        self.bar.finish_and_clear();

        let locks_recovered = self.board.recoveries()? + self.recover_lock()?;
        self.db.remove_asides()?;
        let (left, books) = match self.db.read() {
            Ok(after) => (Some(after.count()), Books::close(&before, &after, &self.ended)),
            Err(e) => (None, Books::lost(e.to_string())),
        };
        let facts = Facts {
            db: self.flags.db.as_ref().map(|path| path.display().to_string()),
            locked: self.lock.is_some(),
            buyers: self.flags.buyers,
            stock,
            left,
            think_time_ms: self.flags.think_time,
            kill_rate: self.flags.kill_rate,
            seed: self.seed,
            locks_recovered,
            seconds,
            interrupted_by: self.interrupt.signal(),
        };
        Ok(Report::new(facts, books, &self.ended, aimed, &landings))
    }

    /// Starts every buyer, and passes the victims to the observer. Returns the number of victims.
    fn start_buyers(&mut self, stock: u64, observer: &Observer) -> u32 {
        let Tickets { buyers, kill_rate, .. } = *self.flags;
        let (think_time, locked) = (self.think_time(), self.lock.is_some());
        let aims = plan::plan(kill_rate, self.seed, &Expected { buyers, stock, think_time, locked });
        let mut aimed = 0;
        for (buyer, aim) in (1..).zip(aims) {
            let process = match self.start(buyer) {
                Ok(Some(process)) => process,
                outcome => {
                    if let Err(e) = outcome {
                        complain(&format!("cannot start buyer {buyer} nor any after: {e}"));
                    }
                    let absent = |buyer| Buyer { buyer, pid: 0, fate: Fate::NotStarted };
                    self.ended.extend((buyer..=buyers).map(absent));
                    break;
                }
            };
            if let Some(aim) = aim {
                aimed += 1;
                observer.aim_at(Victim { buyer, aim, process: process.clone(), started: Instant::now() });
            }
            self.running.push_back((buyer, process));
        }
        aimed
    }

    /// Starts one buyer. When there is no room for more processes, waits for other buyers to end. Returns `None` when
    /// the sale is interrupted.
    fn start(&mut self, buyer: u32) -> procession::Result<Option<Handle>> {
        let order = Order {
            buyer,
            db: self.db.clone(),
            lock: self.lock.clone(),
            board: self.board.address(),
            think_time: self.think_time(),
            screen: self.screen,
        };
        let builder = Process::builder().name(format!("buyer {buyer}"));
        while self.interrupt.signal().is_none() {
            match builder.spawn(buyer::buy, (order.clone(),)) {
                Err(Error::Full(_) | Error::Os { .. }) if self.await_first() => {}
                started => return started.map(Some),
            }
        }
        Ok(None)
    }

    fn think_time(&self) -> Duration {
        Duration::from_millis(self.flags.think_time)
    }

    /// Waits for the running buyer that was started first. Returns false when none runs.
    fn await_first(&mut self) -> bool {
        const LOOK_UP: Duration = Duration::from_millis(100);
        let Some((buyer, process)) = self.running.pop_front() else { return false };
        let said = loop {
            match process.join_timeout(LOOK_UP) {
                Ok(Some(said)) => break Ok(said),
                Ok(None) if self.interrupt.signal().is_some() => {
                    for process in self.running.iter().map(|(_, process)| process).chain([&process]) {
                        let _ = process.kill(); // one that cannot be killed is waited for
                    }
                }
                Ok(None) => {}
                Err(e) => break Err(e),
            }
            self.advance_bar();
        };
        let fate = self.fate(buyer, said);
        self.ended.push(Buyer { buyer, pid: process.pid().unwrap_or(0).cast_signed(), fate });
        true
    }

    /// Buyers end in the order in which they acquire the lock, which is not the order of their start.
    fn advance_bar(&self) {
        let ended = self.running.iter().filter(|(_, process)| !process.is_alive()).count();
        self.bar.set_position((self.ended.len() + ended) as u64);
    }

    fn fate(&self, buyer: u32, said: Result<procession::Result<Answer>, ProcessError>) -> Fate {
        let place = || self.board.places().map(|places| places[buyer as usize - 1]);
        match said {
            Ok(Ok(Answer::Sold(ticket))) => Fate::Sold(ticket),
            Ok(Ok(Answer::Refused)) => Fate::Refused,
            Ok(Err(e)) => Fate::Failed(e.to_string()),
            Err(e) => match (e.failure(), place()) {
                (Failure::Killed { .. }, Ok(place)) => Fate::Killed(place),
                _ => Fate::Failed(e.to_string()),
            },
        }
    }

    /// Acquires the lock at the end, when no other process wants it. Returns 1 if its last holder had died,
    /// and 0 otherwise.
    fn recover_lock(&self) -> procession::Result<u32> {
        let Some(lock) = &self.lock else { return Ok(0) };
        Ok(u32::from(lock.lock_or_recover()?.recovered_from().is_some()))
    }
}
