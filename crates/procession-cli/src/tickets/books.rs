//! The books, which compare the file with the reports of the buyers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::board::Place;
use super::ledger::{Ledger, Sale};

/// The end of a buyer.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// The buyer reported that it has this ticket.
    Sold(u64),
    /// The buyer reported that no ticket was left.
    Refused,
    /// A signal ended the buyer in this place.
    Killed(Place),
    /// The buyer failed in another way, for this reason.
    Failed(String),
    /// The buyer could not be started.
    NotStarted,
}

/// A buyer at the end of the sale.
#[derive(Clone, Debug)]
pub struct Buyer {
    /// The number of the buyer, from 1.
    pub buyer: u32,
    pub pid: i32,
    pub fate: Fate,
}

/// A ticket that was sold according to a buyer or to the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticket {
    pub ticket: u64,
    pub buyer: u32,
    pub pid: i32,
    /// Whether the buyer reported the purchase. A killed buyer could not report it.
    pub said: bool,
    /// Whether the file records the purchase.
    pub booked: bool,
}

/// The books of one sale.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Books {
    pub tickets: Vec<Ticket>,
    /// Tickets that more than one buyer has, with these buyers.
    pub oversold: BTreeMap<u64, Vec<u32>>,
    /// The reasons why the books do not balance. Empty when they do.
    pub problems: Vec<String>,
}

impl Books {
    /// Closes the books. `before` and `after` are the file at the sale's start and end.
    pub fn close(before: &Ledger, after: &Ledger, buyers: &[Buyer]) -> Books {
        let mut books = Books::default();
        let earlier = before.sold().len();
        let new = match after.sold().get(..earlier) {
            Some(kept) if kept == before.sold() => &after.sold()[earlier..],
            _ => {
                books.problem("sales from before this one are no longer in the file");
                after.sold()
            }
        };
        books.compare_counts(before, after, new);
        books.compare_words(new, buyers, after.count());
        books.find_oversold();
        books
    }

    /// Returns the books of a sale whose file cannot be read at the end.
    pub fn lost(why: String) -> Books {
        Books { problems: vec![why], ..Books::default() }
    }

    pub fn balance(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }

    /// Checks the file by itself: each ticket that left the stock is sold once, under its own number.
    fn compare_counts(&mut self, before: &Ledger, after: &Ledger, new: &[Sale]) {
        let (stock, left, sold) = (before.count(), after.count(), new.len() as u64);
        if left.checked_add(sold) != Some(stock) {
            self.problem(format!("of {stock} tickets the file counts {left} left and {sold} sold"));
        }
        let first = before.last_ticket() + 1;
        for (expected, sale) in (first..).zip(new) {
            if sale.ticket != expected {
                self.problem(format!("the file lists ticket {} where {expected} is due", sale.ticket));
            }
        }
    }

    /// Compares the file with the buyers. A buyer that reports a ticket must be listed with it. A listed
    /// buyer must have reported the ticket, unless it was unable to report.
    fn compare_words(&mut self, new: &[Sale], buyers: &[Buyer], left: u64) {
        let mut listed: BTreeMap<(u32, i32), Vec<u64>> = BTreeMap::new();
        for sale in new {
            listed.entry((sale.buyer, sale.pid)).or_default().push(sale.ticket);
        }
        for buyer in buyers {
            let booked = listed.remove(&(buyer.buyer, buyer.pid)).unwrap_or_default();
            self.compare_buyer(buyer, &booked);
        }
        let unlisted = self.tickets.iter().filter(|ticket| !ticket.booked).map(|ticket| ticket.buyer);
        if let Some(unlisted) = list(unlisted) {
            self.problem(format!("the file does not list the tickets of {unlisted}"));
        }
        let refused = buyers.iter().filter(|buyer| buyer.fate == Fate::Refused && left > 0);
        if let Some(refused) = list(refused.map(|buyer| buyer.buyer)) {
            self.problem(format!("there are tickets left ({left}), and none was had by {refused}"));
        }
        for ((buyer, pid), tickets) in listed {
            self.problem(format!("the file lists a buyer {buyer} (pid {pid}) who is not of this sale"));
            let ticket = |ticket| Ticket { ticket, buyer, pid, said: false, booked: true };
            self.tickets.extend(tickets.into_iter().map(ticket));
        }
        self.tickets.sort_by_key(|ticket| (ticket.ticket, ticket.buyer));
    }

    fn compare_buyer(&mut self, who: &Buyer, booked: &[u64]) {
        let Buyer { buyer, pid, .. } = *who;
        let said = if let Fate::Sold(ticket) = who.fate { Some(ticket) } else { None };
        if booked.len() > 1 {
            self.problem(format!("buyer {buyer} is listed with {} tickets", booked.len()));
        }
        if let Some(ticket) = said.filter(|ticket| !booked.contains(ticket)) {
            self.tickets.push(Ticket { ticket, buyer, pid, said: true, booked: false });
        }
        for &ticket in booked {
            self.tickets.push(Ticket { ticket, buyer, pid, said: said == Some(ticket), booked: true });
            match who.fate {
                Fate::Sold(told) if told == ticket => {}
                Fate::Killed(_) | Fate::Failed(_) => {} // it could not say so
                _ => self.problem(format!("the file lists ticket {ticket} for buyer {buyer}, who denies it")),
            }
        }
    }

    fn find_oversold(&mut self) {
        for ticket in &self.tickets {
            self.oversold.entry(ticket.ticket).or_default().push(ticket.buyer);
        }
        self.oversold.retain(|_, buyers| buyers.len() > 1);
        for (ticket, buyers) in self.oversold.iter().rev() {
            let list = list(buyers.iter().copied()).unwrap_or_default();
            self.problems.insert(0, format!("ticket {ticket} was sold {} times: to {list}", buyers.len()));
        }
    }
}

/// Returns `buyer 1`, `the buyers 1, 2`, or for many buyers the first ten and the number of the others.
/// Returns `None` for no buyer.
fn list(buyers: impl Iterator<Item = u32>) -> Option<String> {
    const MOST: usize = 10;
    let buyers: Vec<String> = buyers.map(|buyer| buyer.to_string()).collect();
    match buyers.len() {
        0 => None,
        1 => Some(format!("buyer {}", buyers[0])),
        2..=MOST => Some(format!("the buyers {}", buyers.join(", "))),
        all => Some(format!("the buyers {} and {} more", buyers[..MOST].join(", "), all - MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(text: &str) -> Ledger {
        Ledger::parse(text.as_bytes()).unwrap()
    }

    fn buyer(buyer: u32, fate: Fate) -> Buyer {
        Buyer { buyer, pid: 100 + buyer as i32, fate }
    }

    fn problems(after: &str, buyers: &[Buyer]) -> Vec<String> {
        Books::close(&ledger(r#"{"count":2}"#), &ledger(after), buyers).problems
    }

    const ONE: &str = r#"{"count":1,"sold":[{"ticket":1,"buyer":1,"pid":101}]}"#;

    #[test]
    fn one_sold_and_one_left_balance() {
        assert_eq!(problems(ONE, &[buyer(1, Fate::Sold(1))]), [""; 0]);
        assert_eq!(problems(r#"{"count":2}"#, &[buyer(1, Fate::Killed(Place::Waiting))]), [""; 0]);
    }

    #[test]
    fn a_ticket_of_a_buyer_who_could_not_say_so_is_accounted_for() {
        for fate in [Fate::Killed(Place::Writing), Fate::Failed("directory not synced".into())] {
            let books = Books::close(&ledger(r#"{"count":2}"#), &ledger(ONE), &[buyer(1, fate)]);
            assert!(books.balance(), "{:?}", books.problems);
            assert_eq!(books.tickets, [Ticket { ticket: 1, buyer: 1, pid: 101, said: false, booked: true }]);
        }
    }

    #[test]
    fn a_ticket_that_two_buyers_have_is_oversold() {
        let buyers = [buyer(1, Fate::Sold(1)), buyer(2, Fate::Sold(1))];
        let books = Books::close(&ledger(r#"{"count":2}"#), &ledger(ONE), &buyers);
        assert_eq!(books.oversold, BTreeMap::from([(1, vec![1, 2])]));
        assert_eq!(books.problems[0], "ticket 1 was sold 2 times: to the buyers 1, 2");
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        for (after, buyers, what) in [
            (r#"{"count":1}"#, vec![], "counts 1 left and 0 sold"),
            (ONE, vec![], "who is not of this sale"),
            (ONE, vec![buyer(1, Fate::Refused)], "who denies it"),
            (
                ONE,
                vec![buyer(1, Fate::Sold(1)), buyer(2, Fate::Refused)],
                "there are tickets left (1), and none was had by buyer 2",
            ),
            (r#"{"count":2}"#, vec![buyer(1, Fate::Sold(1))], "does not list the tickets of buyer 1"),
            (
                r#"{"count":1,"sold":[{"ticket":2,"buyer":1,"pid":101}]}"#,
                vec![buyer(1, Fate::Sold(2))],
                "ticket 2 where 1 is due",
            ),
        ] {
            let problems = problems(after, &buyers);
            assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
        }
    }

    #[test]
    fn earlier_sales_must_stay_in_the_file() {
        let books = Books::close(&ledger(ONE), &ledger(r#"{"count":1}"#), &[]);
        assert!(books.problems[0].contains("from before this one"), "{:?}", books.problems);
    }
}
