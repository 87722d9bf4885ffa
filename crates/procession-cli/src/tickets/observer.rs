//! The observer: a thread of main that kills buyers, and reports where each of them was.
//!
//! The buyers do not know of the observer, and the observer uses only the board. It reads the place of a
//! victim after the victim has died. So it reports where the kill hit, not where it was aimed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use procession::{Failure, Process};

use super::board::{Board, Place};
use super::buyer::Answer;
use super::plan::Aim;
use crate::screen::{Colour, Screen};

/// A buyer's process.
pub type Handle = Process<procession::Result<Answer>>;

/// How often the observer reads the board: often enough to catch most buyers that write.
const TICK: Duration = Duration::from_micros(200);

/// Where a kill hit: the place of the buyer when it died.
pub type Landing = Place;

/// A buyer that is to be killed.
pub struct Victim {
    pub buyer: u32,
    pub aim: Aim,
    pub process: Handle,
    pub started: Instant,
}

/// The running observer. It ends once it is dropped or finished and all its victims are dead.
pub struct Observer {
    victims: Sender<Victim>,
    thread: JoinHandle<Vec<Landing>>,
}

impl Observer {
    pub fn start(board: Board, screen: Screen) -> std::io::Result<Observer> {
        let (victims, incoming) = channel();
        let watch =
            Watch { board, screen, incoming, pending: Vec::new(), dying: Vec::new(), landings: Vec::new() };
        let thread = thread::Builder::new().name("observer".into()).spawn(move || watch.run())?;
        Ok(Observer { victims, thread })
    }

    pub fn aim_at(&self, victim: Victim) {
        // Fails only when the observer has panicked, which `finish` reports.
        let _ = self.victims.send(victim);
    }

    /// Waits for the last victim's end. Returns `None` if the observer itself has failed.
    pub fn finish(self) -> Option<Vec<Landing>> {
        drop(self.victims);
        self.thread.join().ok()
    }
}

struct Watch {
    board: Board,
    screen: Screen,
    incoming: Receiver<Victim>,
    /// Victims, each with the time of its kill, once that is known.
    pending: Vec<(Victim, Option<Instant>)>,
    /// Victims that have been sent the signal and may not be dead yet.
    dying: Vec<Victim>,
    landings: Vec<Landing>,
}

impl Watch {
    fn run(mut self) -> Vec<Landing> {
        while self.receive() {
            let places =
                self.board.places().expect("INVARIANT: the board is a file as long as its buyers need");
            self.fire(&places);
            thread::sleep(TICK);
            self.record_dead();
        }
        self.landings
    }

    /// Takes in new victims. Returns false when no victims are left and no more can come.
    fn receive(&mut self) -> bool {
        if self.pending.is_empty() && self.dying.is_empty() {
            match self.incoming.recv() {
                Ok(victim) => self.pending.push((victim, None)),
                Err(_) => return false,
            }
        }
        self.pending.extend(self.incoming.try_iter().map(|victim| (victim, None)));
        true
    }

    /// Kills the victims that are due, and drops those for which it is too late.
    fn fire(&mut self, places: &[Place]) {
        let now = Instant::now();
        for (victim, due) in std::mem::take(&mut self.pending) {
            let place = places[victim.buyer as usize - 1];
            let due = victim.due(due, now, place);
            match due {
                _ if victim.is_too_late(place) => {}
                Some(due) if due <= now => {
                    if victim.process.kill().is_ok() {
                        self.dying.push(victim);
                    }
                }
                due => self.pending.push((victim, due)),
            }
        }
    }

    /// Records where the kills hit, for victims that are dead.
    fn record_dead(&mut self) {
        for victim in std::mem::take(&mut self.dying) {
            match victim.process.try_join() {
                Ok(None) => self.dying.push(victim),
                Err(e) if is_kill(e.failure()) => self.land(&victim),
                _ => {} // it had ended before
            }
        }
    }

    fn land(&mut self, victim: &Victim) {
        let Ok(places) = self.board.places() else { return };
        let (place, pid) = (places[victim.buyer as usize - 1], victim.process.pid().unwrap_or(0));
        self.screen.say(Colour::Yellow, &format!("[{pid}] was killed while {}", place.name()));
        self.landings.push(place);
    }
}

fn is_kill(failure: &Failure) -> bool {
    matches!(failure, Failure::Killed { signal: 9, .. })
}

impl Victim {
    /// Returns when to kill the buyer, if its current place or an earlier one determines that.
    fn due(&self, known: Option<Instant>, now: Instant, place: Place) -> Option<Instant> {
        match self.aim {
            Aim::Moment(alive, inside) => {
                let due = known.unwrap_or(self.started + alive);
                Some(if place.is_inside() { due.min(now + inside) } else { due })
            }
            Aim::Inside(target, after) => known.or_else(|| (place >= target).then(|| now + after)),
        }
    }

    fn is_too_late(&self, place: Place) -> bool {
        let left = matches!(self.aim, Aim::Inside(..)) && place == Place::Leaving;
        left || !self.process.is_alive()
    }
}
