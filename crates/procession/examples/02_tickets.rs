//! Ten processes want the only ticket in a file, and a lock ensures that they buy one after the other.
//!
//! Each process looks first, without the lock. So most of them see the ticket that only one can buy. The
//! pauses simulate a slow database: half a second each in the original, and a twentieth of that here. The
//! program `procession tickets` does the same with your file, even if buyers are killed.
//!
//!     cargo run --example 02_tickets

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use procession::{Error, Lock, Process};

const LATENCY: Duration = Duration::from_millis(25);

fn load(db: &Path) -> procession::Result<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(db)?).map_err(Error::other)
}

fn get_ticket(db: &Path) -> procession::Result<()> {
    let mut stock = load(db)?;
    sleep(LATENCY);
    if let Some(left) = stock["count"].as_u64().and_then(|count| count.checked_sub(1)) {
        stock["count"] = left.into();
        sleep(LATENCY);
        // Writes a new file and renames it, so a process that looks without the lock never sees half a file.
        std::fs::write(db.with_extension("new"), stock.to_string())?;
        std::fs::rename(db.with_extension("new"), db)?;
        println!("[{}] bought a ticket", std::process::id());
    }
    Ok(())
}

fn task(db: PathBuf, lock: Lock) -> procession::Result<()> {
    println!("[{}] sees {} left", std::process::id(), load(&db)?["count"]);
    let _held = lock.lock()?;
    get_ticket(&db)
}

fn sell(db: &Path) -> procession::Result<()> {
    std::fs::write(db, r#"{"count": 1}"#)?;
    let lock = Lock::new()?;
    let buyers = (0..10).map(|_| Process::spawn(task, (db.to_owned(), lock.clone())));
    for buyer in buyers.collect::<procession::Result<Vec<_>>>()? {
        buyer.join()??;
    }
    println!("{}", load(db)?);
    Ok(())
}

fn main() -> procession::Result<()> {
    let home = std::env::temp_dir().join(format!("02_tickets-{}", std::process::id()));
    std::fs::create_dir(&home)?;
    let sold = sell(&home.join("db.json"));
    std::fs::remove_dir_all(&home)?;
    sold
}
