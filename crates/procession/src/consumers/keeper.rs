//! [`Keeper`]: the thread that starts the consumers of a fleet, and replaces those that die.

use std::sync::Arc;
use std::time::Duration;

use super::consumer::Exit;
use super::fleet::Fleet;
use crate::os::clock::now_ns;
use crate::process::Failure;
use crate::queue::{JoinError, Ready, SelectError, select_timeout};
use crate::{Process, Result};

/// After the k-th failed start in a row, the keeper waits k times this long, at most ten times.
const RETRY_NS: u64 = 10_000_000;
/// A fleet ends if this many starts in a row fail.
const MOST_FAILED_STARTS: u32 = 100;
/// How long the keeper sleeps if nothing happens.
const LONG: Duration = Duration::from_secs(3600);

/// Starts the consumer with this number.
pub(super) type Start = Box<dyn Fn(usize) -> Result<Process<Exit>> + Send>;

enum Place {
    /// A consumer is to be started.
    Vacant,
    Taken(Process<Exit>),
    /// The consumer has left, and is not replaced.
    Left,
}

pub(super) struct Keeper {
    fleet: Arc<Fleet>,
    start: Start,
    places: Vec<Place>,
    failed_starts: u32,
    /// No consumer is started before this time.
    start_ns: u64,
    /// Why the fleet has ended early.
    broken: Option<String>,
}

impl Keeper {
    /// Starts all consumers. If one cannot be started, the others leave again.
    pub(super) fn new(fleet: &Arc<Fleet>, consumers: usize, start: Start) -> Result<Keeper> {
        let places = (0..consumers).map(|number| start(number).map(Place::Taken));
        let places = places.collect::<Result<Vec<_>>>().inspect_err(|_| _ = fleet.ties.stop.close())?;
        let keeper =
            Keeper { fleet: fleet.clone(), start, places, failed_starts: 0, start_ns: 0, broken: None };
        keeper.list_consumers();
        Ok(keeper)
    }

    /// Replaces consumers until all have left.
    pub(super) fn keep(mut self) -> Result<(), JoinError> {
        loop {
            self.reap();
            self.fill();
            self.list_consumers();
            if self.places.iter().all(|place| matches!(place, Place::Left)) {
                return self.broken.map_or(Ok(()), |why| Err(JoinError::Broken(why)));
            }
            self.sleep();
        }
    }

    fn is_stopped(&self) -> bool {
        self.fleet.ties.stop.is_closed()
    }

    /// Vacates the places of consumers that have died.
    fn reap(&mut self) {
        for at in 0..self.places.len() {
            let Place::Taken(consumer) = &self.places[at] else { continue };
            if consumer.is_alive() {
                continue;
            }
            let ended = consumer.join();
            self.places[at] = if matches!(ended, Ok(Ok(()))) { Place::Left } else { Place::Vacant };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(why)) => self.start_failed(why),
                Err(error) => {
                    self.fleet.state().deaths += 1;
                    self.fleet.ties.record_failure(&error.to_string());
                    match error.failure() {
                        Failure::NotStarted { .. } => self.start_failed(error.to_string()),
                        _ => self.failed_starts = 0,
                    }
                }
            }
        }
    }

    /// Starts a consumer in each vacant place.
    fn fill(&mut self) {
        for at in 0..self.places.len() {
            if !matches!(self.places[at], Place::Vacant) {
                continue;
            }
            if self.is_stopped() {
                self.places[at] = Place::Left;
            } else if now_ns() >= self.start_ns {
                match (self.start)(at) {
                    Ok(consumer) => self.places[at] = Place::Taken(consumer),
                    Err(error) => self.start_failed(error.to_string()),
                }
            }
        }
    }

    /// Delays the next start. Ends the fleet if too many starts in a row have failed.
    fn start_failed(&mut self, why: String) {
        self.failed_starts += 1;
        self.start_ns = now_ns() + RETRY_NS * u64::from(self.failed_starts.min(10));
        self.fleet.ties.record_failure(&why);
        if self.failed_starts >= MOST_FAILED_STARTS {
            self.broken = Some(why);
            let _ = self.fleet.ties.stop.close();
        }
    }

    /// Publishes which consumers run.
    fn list_consumers(&self) {
        let taken = |place: &Place| if let Place::Taken(p) = place { Some(p.clone()) } else { None };
        self.fleet.state().consumers = self.places.iter().filter_map(taken).collect();
    }

    /// Waits until a consumer has ended, the fleet is stopped, or a consumer is to be started.
    fn sleep(&self) {
        let mut sources: Vec<&dyn Ready> = Vec::new();
        let mut limit = LONG;
        for place in &self.places {
            match place {
                Place::Taken(consumer) => sources.push(consumer),
                Place::Vacant => limit = Duration::from_nanos(self.start_ns.saturating_sub(now_ns())),
                Place::Left => {}
            }
        }
        if !self.is_stopped() {
            sources.push(&self.fleet.ties.stop);
        }
        match select_timeout(&sources, limit) {
            Ok(_) | Err(SelectError::TimedOut) => {}
            // The arena has no free record for this thread: look again later.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
