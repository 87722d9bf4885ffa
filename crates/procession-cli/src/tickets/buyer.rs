//! A buyer, in a process of its own.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use procession::sync::OwnerDied;
use procession::{Error, Lock};
use serde::{Deserialize, Serialize};

use super::board::{Board, Place};
use super::db::{Db, DbError};
use crate::screen::{Colour, Screen, count};

/// The order of a buyer. The buyer shares nothing else with main.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The number of the buyer, from 1.
    pub buyer: u32,
    pub db: Db,
    /// The lock, or `None` in a sale without it.
    pub lock: Option<Lock>,
    /// The address of the board.
    pub board: String,
    pub think_time: Duration,
    pub screen: Screen,
}

/// The report of a buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It bought this ticket.
    Sold(u64),
    /// No ticket was left.
    Refused,
}

/// Looks at the stock, acquires the lock, and buys a ticket if there is one.
pub fn buy(order: Order) -> procession::Result<Answer> {
    Buyer::new(order)?.buy()
}

struct Buyer {
    order: Order,
    board: Board,
    pid: i32,
}

impl Buyer {
    fn new(order: Order) -> procession::Result<Buyer> {
        let board = Board::open(&order.board)?;
        Ok(Buyer { order, board, pid: std::process::id().cast_signed() })
    }

    fn buy(&self) -> procession::Result<Answer> {
        self.look()?;
        self.enter(Place::Waiting)?;
        let held = self.order.lock.as_ref().map(Lock::lock_or_recover).transpose()?;
        let dead = held.as_ref().and_then(|held| held.recovered_from());
        self.board.enter_reading(self.order.buyer, dead.is_some())?;
        if let Some(dead) = dead {
            self.clean_up_after(dead)?;
        }
        let answer = self.get_ticket()?;
        self.enter(Place::Leaving)?;
        drop(held);
        Ok(answer)
    }

    /// Reads the stock without the lock. The result may be outdated when the buyer buys, but never torn.
    fn look(&self) -> procession::Result<()> {
        self.enter(Place::Looking)?;
        let left = self.order.db.read().map_err(error)?.count();
        self.say(Colour::Green, &format!("sees {} left", count(left, "ticket")));
        Ok(())
    }

    /// Reads, waits, decides, waits, and writes. Only the holder of the lock may call this.
    fn get_ticket(&self) -> procession::Result<Answer> {
        let (mut ledger, stamp) = self.order.db.read_stamped().map_err(error)?;
        sleep(self.order.think_time);
        let Some(ticket) = ledger.sell(self.order.buyer, self.pid) else {
            self.say(Colour::None, "finds no ticket left");
            return Ok(Answer::Refused);
        };
        self.enter(Place::Deciding)?;
        sleep(self.order.think_time);
        self.enter(Place::Writing)?;
        // Without the lock, other buyers of this sale may write in the meantime. Such a sale demonstrates
        // exactly that.
        let unchanged = self.order.lock.is_some().then_some(stamp);
        self.order.db.write(&ledger, unchanged).map_err(error)?;
        self.say(Colour::Red, &format!("bought ticket {ticket}"));
        Ok(Answer::Sold(ticket))
    }

    /// Cleans up after a holder that died inside. The file itself is whole, because it is only ever replaced.
    /// The side file that the dead buyer was writing may be left.
    fn clean_up_after(&self, dead: &OwnerDied) -> io::Result<()> {
        self.say(
            Colour::Yellow,
            &format!("takes the lock over from {} (pid {}), who died holding it", dead.name, dead.pid),
        );
        self.order.db.remove_aside_of(dead.pid)
    }

    fn enter(&self, place: Place) -> io::Result<()> {
        self.board.enter(self.order.buyer, place)
    }

    fn say(&self, colour: Colour, text: &str) {
        self.order.screen.say(colour, &format!("[{}] {text}", self.pid));
    }
}

fn error(e: DbError) -> Error {
    Error::other(e)
}
