//! A fleet of consumers: processes that work on the items of a queue, and that are replaced when they die. An
//! item that fails twice becomes a dead letter.

use procession::{JoinableQueue, Queue};

/// A number, and where its square goes.
type Item = (u64, Queue<u64>);

fn square((n, squares): Item) -> procession::Result<()> {
    match n {
        3 => return Err(procession::Error::other("three cannot be squared")),
        5 => std::process::abort(), // as a bug in native code would
        n => squares.put(n * n)?,
    }
    Ok(())
}

fn main() -> procession::Result<()> {
    let (work, squares) = (JoinableQueue::bounded(5)?.with_max_attempts(2)?, Queue::unbounded()?);
    let consumers = work.consumers(2, square)?;
    for n in 0..8 {
        work.put((n, squares.clone()))?;
    }
    work.close()?;
    consumers.join()?; // every item is done, or is a dead letter

    squares.close()?;
    let mut squares = squares.iter().collect::<Result<Vec<_>, _>>()?;
    squares.sort();
    println!("squares: {squares:?}");

    let mut letters = work.dead_letters().collect::<Result<Vec<_>, _>>()?;
    letters.sort_by_key(|letter| letter.item.0);
    for letter in letters {
        println!("{}: given up after {} attempts", letter.item.0, letter.attempts);
    }
    println!("{} consumers died", consumers.deaths());
    Ok(())
}
