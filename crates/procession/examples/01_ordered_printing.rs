//! Two processes print two lines each, and a lock keeps the two lines of each process together.
//!
//! The scheduler decides which task runs first. Neither task prints between the two lines of the other. (The
//! original works for 2 seconds, and this program for a tenth of that.)
//!
//!     cargo run --example 01_ordered_printing

use std::thread::sleep;
use std::time::Duration;

use procession::{Lock, Process};

fn work(name: String, lock: Lock) -> procession::Result<()> {
    let _held = lock.lock()?;
    println!("task <{name}> is running");
    sleep(Duration::from_millis(200));
    println!("task <{name}> is done");
    Ok(())
}

fn main() -> procession::Result<()> {
    let lock = Lock::new()?;
    Process::spawn(work, ("Egon".to_string(), lock.clone()))?;
    Process::spawn(work, ("Alex".to_string(), lock))?;
    println!("main");
    Ok(()) // both processes finish first: main waits for them at its end
}
