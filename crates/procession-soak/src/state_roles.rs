//! Roles that use dicts, lists, values and arrays.

use std::time::Duration;

use procession::Result;
use procession::sync::LockError;

use super::outside::{DICT, LIST, POPPED, VALUE};
use super::roles::{Actor, LIMIT};

impl Actor {
    pub(super) fn list(&mut self) -> Result<()> {
        if self.shared.list.len() > 1000 {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        let Some(item) = self.item(LIST) else { return Ok(()) };
        let sequence = item.1;
        match self.rng.below(2) {
            0 => self.shared.list.push(item)?,
            _ => self.shared.list.push_front(item)?,
        }
        self.outside.acknowledge(LIST, self.number, sequence + 1);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<()> {
        let item = match self.rng.below(3) {
            0 => self.shared.list.pop()?,
            1 => self.shared.list.pop_front()?,
            _ => self.shared.list.remove(0)?,
        };
        match item {
            Some(item) => {
                self.outside.ledger.record([POPPED, item.0, item.1, self.number]);
                self.check(&item);
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        Ok(())
    }

    /// Increments the counter of this process in the dict. Then it either increments a shared counter, or
    /// inserts, removes or reads another key.
    pub(super) fn count(&mut self) -> Result<()> {
        let dict = &self.shared.dict;
        let mine = self.number + 1;
        if dict.get(&mine)?.is_none() {
            dict.insert(&mine, 0)?;
        }
        dict.update(&mine, |count| *count += 1)?;
        let done = self.outside.acknowledged(DICT, self.number) + 1;
        self.outside.acknowledge(DICT, self.number, done);
        let passing = 1_000_000 + self.rng.below(300);
        match self.rng.below(4) {
            0 => drop(dict.insert(&passing, passing)?),
            1 => drop(dict.remove(&passing)?),
            2 => {
                let wrong = |found: &Option<u64>| found.is_some_and(|found| found != passing);
                if Some(dict.get(&passing)?).as_ref().is_some_and(wrong) {
                    self.fault("a key has the value of another");
                }
            }
            _ => drop(dict.update(&0, |all| *all += 1)?),
        }
        Ok(())
    }

    /// Updates a value of two numbers that belong together. Then it reads or writes such a pair under a
    /// read-write lock.
    pub(super) fn write(&mut self) -> Result<()> {
        self.shared.value.update(|(n, not_n)| {
            *n += 1;
            *not_n = !*n;
        })?;
        let done = self.outside.acknowledged(VALUE, self.number) + 1;
        self.outside.acknowledge(VALUE, self.number, done);
        let (n, not_n) = self.shared.value.get()?;
        if n != !not_n {
            self.fault(format!("a value is torn: {n} and {not_n}"));
        }
        if self.rng.below(3) == 0 {
            return self.write_table();
        }
        match self.shared.table.read_timeout(LIMIT) {
            Ok(table) if table[0] != !table[1] => self.fault("a table is torn, and the lock is not poisoned"),
            Ok(_) => {}
            Err(LockError::OwnerDied(_)) => self.told(),
            Err(error) => self.fault(format!("a read fails with {error:?}")),
        }
        Ok(())
    }

    pub(super) fn write_table(&self) -> Result<()> {
        match self.shared.table.write_or_recover_timeout(LIMIT) {
            Ok(mut table) => {
                table[0] += 1;
                table[1] = !table[0];
            }
            Err(error) => self.fault(format!("a write fails with {error:?}")),
        }
        Ok(())
    }
}
