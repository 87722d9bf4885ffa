//! Kills processes at random while they use every kind of object, and starts new ones in their place. Records
//! outside the library account for every step that the processes acknowledged.
//!
//!     cargo run --release -p procession-soak -- [MINUTES] [--seed N] [--round N]
//!
//! A run consists of rounds. The seed and the round's number determine the random decisions: the steps of
//! each process, the victims, and the pauses between kills. So `--seed N --round K` repeats round K with the
//! same decisions. The instruction at which a kill hits still varies.
//!
//! | file         | what it holds                                                |
//! |--------------|--------------------------------------------------------------|
//! | `outside.rs` | what is written down outside of the library                  |
//! | `shared.rs`  | the objects that a round's processes share                   |
//! | `roles.rs`   | what the processes do: `queue_roles.rs`, `state_roles.rs`, `sync_roles.rs` |
//! | `round.rs`   | a round: processes, kills, and the end of it                 |
//! | `books.rs`   | what must be true when the round is over                     |

mod books;
mod outside;
mod queue_roles;
mod roles;
mod round;
mod shared;
mod state_roles;
mod sync_roles;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use books::Books;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

struct Flags {
    minutes: f64,
    seed: u64,
    only: Option<u64>,
}

fn flags() -> Result<Flags> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut flags = Flags { minutes: 1.0, seed: clock % 1_000_000_007, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().ok_or_else(|| format!("{word} wants a number"));
        match word.as_str() {
            "--seed" => flags.seed = number()?.parse()?,
            "--round" => flags.only = Some(number()?.parse()?),
            minutes => {
                flags.minutes = minutes.parse().map_err(|_| "usage: soak [MINUTES] [--seed N] [--round N]")?
            }
        }
    }
    Ok(flags)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let flags = flags()?;
    println!("seed {}, {} minutes, {} processes at a time", flags.seed, flags.minutes, round::PROCESSES);
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(60.0 * flags.minutes));
    // Before the first round, creates everything that a family keeps for its lifetime.
    procession::Process::spawn(|| (), ())?.join()?;
    let mut all = Books::default();
    for number in flags.only.unwrap_or(0).. {
        let books = round::run(flags.seed, number)?;
        for fault in &books.faults {
            println!("round {number}: {fault}");
        }
        all.add(books);
        if number % 20 == 19 {
            println!("round {number}, {:.0} s: {}", started.elapsed().as_secs_f64(), all.line());
        }
        if flags.only.is_some() || started.elapsed() > limit {
            break;
        }
    }
    println!("{}", all.report(started.elapsed()));
    if !all.faults.is_empty() {
        println!("again: scripts/soak {} --seed {}", flags.minutes, flags.seed);
    }
    Ok(all.faults.is_empty())
}
