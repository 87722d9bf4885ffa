//! The roles of a round. A process plays its role until the round is over or the process is killed.
//!
//! Every wait has a timeout. Only a hang reaches it, so a timeout is a fault. A process records each step
//! outside the library, right after the step. So the records lack at most one step of each killed process.

use std::path::PathBuf;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession::Result;
use procession_testkit::Rng;
use serde::{Deserialize, Serialize};

use super::outside::Outside;
use super::shared::Shared;

/// The timeout of every wait. Even on a busy machine, an operation takes less time unless it hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// The maximum number of items that a round puts into queues and lists.
pub(super) const MOST_PUTS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Locker,
    Producer,
    Consumer,
    Giver,
    Worker,
    Lister,
    Popper,
    Counter,
    Writer,
    Meeter,
    Talker,
    Signaller,
    Boss,
}

/// The roles of a round. A role appears once for each process that plays it.
pub const ROLES: &[Role] = &[
    Role::Locker,
    Role::Locker,
    Role::Producer,
    Role::Producer,
    Role::Consumer,
    Role::Consumer,
    Role::Giver,
    Role::Worker,
    Role::Worker,
    Role::Lister,
    Role::Popper,
    Role::Counter,
    Role::Counter,
    Role::Writer,
    Role::Writer,
    Role::Meeter,
    Role::Meeter,
    Role::Talker,
    Role::Signaller,
    Role::Boss,
    Role::Boss,
];

/// A process of the round: its number, its random numbers, and the objects that it uses.
pub(super) struct Actor {
    pub(super) number: u64,
    pub(super) rng: Rng,
    pub(super) outside: Outside,
    pub(super) shared: Shared,
}

/// Plays a role until the round is over.
pub fn play(role: Role, number: u64, seed: u64, directory: PathBuf, shared: Shared) -> Result<()> {
    let outside = Outside::open(&directory).map_err(|e| std::io::Error::other(e.to_string()))?;
    let mut actor = Actor { number, rng: Rng::seeded(seed), outside, shared };
    while !actor.outside.is_over() {
        match role {
            Role::Locker => actor.lock(),
            Role::Producer => actor.put(),
            Role::Consumer => actor.get(),
            Role::Giver => actor.give(),
            Role::Worker => actor.work(),
            Role::Lister => actor.list(),
            Role::Popper => actor.pop(),
            Role::Counter => actor.count(),
            Role::Writer => actor.write(),
            Role::Meeter => actor.meet(),
            Role::Talker => actor.talk(),
            Role::Signaller => actor.signal(),
            Role::Boss => actor.use_pool(),
        }?;
        actor.outside.count(role as usize);
    }
    Ok(())
}

impl Actor {
    pub(super) fn fault(&self, what: impl std::fmt::Display) {
        self.outside.fault(&format!("process {}: {what}", self.number));
    }

    pub(super) fn told(&self) {
        self.outside.words.told.fetch_add(1, Relaxed);
    }
}
