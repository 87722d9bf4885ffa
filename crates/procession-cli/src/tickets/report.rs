//! The summary, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::board::Place;
use super::books::{Books, Buyer, Fate};
use super::observer::Landing;
use crate::screen::count;

/// The facts of a sale besides its books.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The file; `None` when the sale had one of its own.
    pub db: Option<String>,
    /// Whether the tickets were sold with the lock.
    pub locked: bool,
    pub buyers: u32,
    /// Tickets at the start.
    pub stock: u64,
    /// Tickets left at the end; `None` when the file cannot be read.
    pub left: Option<u64>,
    pub think_time_ms: u64,
    pub kill_rate: f64,
    pub seed: u64,
    /// How often a buyer, or main at the end, found the lock left by a dead buyer.
    pub locks_recovered: u32,
    pub seconds: f64,
    /// The signal that ended the sale early.
    pub interrupted_by: Option<i32>,
}

/// Where the kills hit.
#[derive(Clone, Debug, Default, Serialize)]
struct Kills {
    /// The number of buyers that the observer aimed at.
    aimed: u32,
    /// Victims that had ended, or left the lock, before the kill.
    escaped: u32,
    /// Victims that died holding the lock.
    inside_lock: u32,
    /// The number of victims that died in each place.
    landed: BTreeMap<Place, u32>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    facts: Facts,
    /// Buyers with a ticket, according to their report or the file.
    sold: usize,
    /// Of those, the buyers that were killed before they could report it.
    sold_but_killed: usize,
    refused: usize,
    killed: usize,
    failed: usize,
    not_started: usize,
    kills: Kills,
    balanced: bool,
    #[serde(flatten)]
    books: Books,
    failures: Vec<String>,
}

impl Report {
    pub fn new(facts: Facts, books: Books, buyers: &[Buyer], aimed: u32, landings: &[Landing]) -> Report {
        let number = |is: fn(&Fate) -> bool| buyers.iter().filter(|buyer| is(&buyer.fate)).count();
        let killed =
            |id: u32| buyers.iter().any(|buyer| buyer.buyer == id && matches!(buyer.fate, Fate::Killed(_)));
        let sold_but_killed = books.tickets.iter().filter(|ticket| !ticket.said && killed(ticket.buyer));
        let failure = |buyer: &Buyer| match &buyer.fate {
            Fate::Failed(why) => Some(format!("buyer {}: {why}", buyer.buyer)),
            _ => None,
        };
        Report {
            sold: books.tickets.len(),
            sold_but_killed: sold_but_killed.count(),
            refused: number(|fate| matches!(fate, Fate::Refused)),
            killed: number(|fate| matches!(fate, Fate::Killed(_))),
            failed: number(|fate| matches!(fate, Fate::Failed(_))),
            not_started: number(|fate| matches!(fate, Fate::NotStarted)),
            kills: Kills::new(aimed, landings, facts.locked),
            balanced: books.balance(),
            failures: buyers.iter().filter_map(failure).collect(),
            facts,
            books,
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps of them have a JSON form")
    }

    pub fn is_balanced(&self) -> bool {
        self.balanced
    }

    pub fn interrupted_by(&self) -> Option<i32> {
        self.facts.interrupted_by
    }

    /// Returns whether every buyer ran, and ended in one of the ways that a sale provides for.
    pub fn is_complete(&self) -> bool {
        self.failed + self.not_started == 0
    }

    /// Returns the messages for standard error: why the books do not balance, and what failed. The number is limited.
    pub fn complaints(&self) -> Vec<String> {
        const MOST: usize = 10;
        let all = self.books.problems.iter().chain(&self.failures);
        let mut shown: Vec<String> = all.clone().take(MOST).cloned().collect();
        match all.count().saturating_sub(MOST) {
            0 => {}
            more => shown.push(format!("... and {more} more; --json lists all")),
        }
        shown
    }
}

impl Kills {
    fn new(aimed: u32, landings: &[Landing], locked: bool) -> Kills {
        let mut kills = Kills { aimed, escaped: aimed - landings.len() as u32, ..Kills::default() };
        for &place in landings {
            *kills.landed.entry(place).or_default() += 1;
            kills.inside_lock += u32::from(locked && place.is_inside());
        }
        kills
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sold       {} of {}", self.sold, count(self.facts.stock, "ticket"))?;
        if let Some(more @ 1..) = (self.sold as u64).checked_sub(self.facts.stock) {
            write!(f, ", which is {more} too many")?;
        }
        if self.sold_but_killed > 0 {
            write!(f, ", {} to buyers who were killed before they could say so", self.sold_but_killed)?;
        }
        write!(f, "\nrefused    {}\nkilled     {}", self.refused, self.killed)?;
        self.kills.describe(&self.facts, f)?;
        if !self.is_complete() {
            write!(f, "\nfailed     {}\nnever ran  {}", self.failed, self.not_started)?;
        }
        write!(f, "\nrecovered  {}", count(self.facts.locks_recovered.into(), "lock"))?;
        write!(f, "\nseconds    {:.2}", self.facts.seconds)?;
        if let Some(signal) = self.facts.interrupted_by {
            write!(f, ", ended early by signal {signal}")?;
        }
        let books = if self.balanced { "balance" } else { "DO NOT BALANCE" };
        write!(f, "\nbooks      {books}")
    }
}

impl Kills {
    fn describe(&self, facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if facts.kill_rate == 0.0 {
            return Ok(());
        }
        write!(f, " ({} aimed at, {} escaped, seed {})", self.aimed, self.escaped, facts.seed)?;
        let places = self.landed.iter().map(|(place, number)| format!("{number} {}", place.name()));
        let places = places.collect::<Vec<_>>().join(", ");
        if !places.is_empty() {
            write!(f, "\nlanded     {places}")?;
        }
        match self.inside_lock {
            _ if !facts.locked => write!(f, "\n           there was no lock to die in"),
            0 => {
                write!(f, "\n           none of them inside the lock: this run shows nothing about recovery")
            }
            inside => write!(f, "\n           {inside} of them inside the lock"),
        }
    }
}
