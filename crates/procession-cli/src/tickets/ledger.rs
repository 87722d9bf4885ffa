//! [`Ledger`]: the validated content of the file: how many tickets are left, and which buyers have the sold
//! ones.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The content of the file. Unknown fields are kept unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    object: Map<String, Value>,
    count: u64,
    sold: Vec<Sale>,
}

/// One sold ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// Tickets are numbered from 1 in the order in which they are sold.
    pub ticket: u64,
    /// The buyer's number in its sale, from 1.
    pub buyer: u32,
    /// The buyer's process.
    pub pid: i32,
}

impl Ledger {
    /// Returns a new ledger with `stock` tickets.
    pub fn new(stock: u64) -> Ledger {
        let object = [("count".to_string(), json!(stock))].into_iter().collect();
        Ledger { object, count: stock, sold: Vec::new() }
    }

    /// Parses and checks the bytes of a file. The error says what is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Ledger, String> {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(
                "begins with a byte order mark, which JSON does not have: save it as UTF-8 without one"
                    .into(),
            );
        }
        let value = serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
        let Value::Object(object) = value else {
            return Err("is not a JSON object such as {\"count\": 1}".into());
        };
        let count = match object.get("count") {
            Some(count) => whole_number(count)?,
            None => return Err("has no \"count\"".into()),
        };
        let sold: Vec<Sale> = match object.get("sold") {
            Some(sold) => serde_json::from_value(sold.clone())
                .map_err(|e| format!("its \"sold\" is not a list of this program's sales: {e}"))?,
            None => Vec::new(),
        };
        let ledger = Ledger { object, count, sold };
        match ledger.last_ticket().checked_add(count) {
            Some(_) => Ok(ledger),
            None => Err(format!("its \"count\" is too large: {count}")),
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Value::Object(self.object.clone()).to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// Returns how many tickets are left.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sold tickets, in the order of sale.
    pub fn sold(&self) -> &[Sale] {
        &self.sold
    }

    /// Returns the highest number of a sold ticket, 0 before the first.
    pub fn last_ticket(&self) -> u64 {
        self.sold.iter().map(|sale| sale.ticket).max().unwrap_or(0)
    }

    /// Takes one ticket from the stock and records its buyer. Returns the number of the ticket, or `None`
    /// when no ticket is left.
    pub fn sell(&mut self, buyer: u32, pid: i32) -> Option<u64> {
        let left = self.count.checked_sub(1)?;
        let sale = Sale { ticket: self.last_ticket() + 1, buyer, pid };
        let ticket = sale.ticket;
        self.count = left;
        self.object.insert("count".into(), json!(left));
        let entry = json!(sale);
        match self.object.get_mut("sold") {
            Some(Value::Array(list)) => list.push(entry),
            _ => drop(self.object.insert("sold".into(), json!([entry]))),
        }
        self.sold.push(sale);
        Some(ticket)
    }
}

fn whole_number(count: &Value) -> Result<u64, String> {
    let Value::Number(number) = count else {
        return Err(format!("its \"count\" is not a number: {count}"));
    };
    match number.as_u64() {
        Some(count) => Ok(count),
        None if number.as_f64().is_some_and(|count| count < 0.0) => {
            Err(format!("its \"count\" is negative: {number}"))
        }
        None => Err(format!("its \"count\" is not a whole number of tickets: {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_moves_one_ticket_from_the_count_to_the_list() {
        let mut ledger = Ledger::parse(br#"{"count": 2}"#).unwrap();
        assert_eq!(ledger.sell(7, 100), Some(1));
        assert_eq!(ledger.sell(8, 101), Some(2));
        assert_eq!(ledger.sell(9, 102), None);
        assert_eq!((ledger.count(), ledger.sold().len()), (0, 2));
        assert_eq!(Ledger::parse(&ledger.to_bytes()).unwrap(), ledger);
    }

    #[test]
    fn numbers_go_on_where_an_earlier_sale_stopped() {
        let text = br#"{"count": 1, "sold": [{"ticket": 41, "buyer": 1, "pid": 9}]}"#;
        assert_eq!(Ledger::parse(text).unwrap().sell(1, 10), Some(42));
    }

    #[test]
    fn fields_that_are_not_ours_are_kept_with_their_order_and_every_digit() {
        let text = br#"{"z":1.0000000000000000001,"count":1,"a":{"count":-3},"big":1e+999}"#;
        let mut ledger = Ledger::parse(text).unwrap();
        ledger.sell(1, 2);
        let kept = String::from_utf8(ledger.to_bytes()).unwrap();
        let expected = r#"{"z":1.0000000000000000001,"count":0,"a":{"count":-3},"big":1e+999,"sold":[{"ticket":1,"buyer":1,"pid":2}]}"#;
        assert_eq!(kept.trim_end(), expected);
    }

    #[test]
    fn what_is_not_a_stock_is_refused() {
        for (text, why) in [
            ("", "not JSON"),
            ("{\"count\": 1", "not JSON"),
            ("[1]", "not a JSON object"),
            ("{}", "no \"count\""),
            (r#"{"count": "1"}"#, "not a number"),
            (r#"{"count": -1}"#, "negative"),
            (r#"{"count": -99999999999999999999999}"#, "negative"),
            (r#"{"count": 1.5}"#, "not a whole number"),
            (r#"{"count": 99999999999999999999}"#, "not a whole number"),
            (r#"{"count": 1, "sold": 3}"#, "not a list of this program's sales"),
            (r#"{"count": 1, "sold": ["a"]}"#, "not a list of this program's sales"),
            (
                r#"{"count": 1, "sold": [{"ticket": 18446744073709551615, "buyer": 1, "pid": 1}]}"#,
                "too large",
            ),
        ] {
            let error = Ledger::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
