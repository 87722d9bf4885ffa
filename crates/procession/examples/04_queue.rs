//! A queue with room for three items. `put` waits for room and `get` waits for an item. Other forms do not
//! wait.

use std::thread::sleep;
use std::time::Duration;

use procession::queue::PutError;
use procession::{Process, Queue};

/// Takes the three items, and then waits for a fourth.
fn consumer(queue: Queue<String>) -> procession::Result<()> {
    for _ in 0..4 {
        println!("got {}", queue.get()?);
    }
    Ok(())
}

fn main() -> procession::Result<()> {
    let queue = Queue::bounded(3)?;
    queue.put("first".to_string())?;
    queue.put("second".to_string())?;
    queue.put("third".to_string())?;

    // The queue is full, so `put` would wait. `try_put` fails immediately, and `put_timeout` after 3 seconds.
    // Both return the item.
    if let Err(PutError::Full(item)) = queue.try_put("fourth".to_string()) {
        println!("no room for {item} now");
    }
    if let Err(PutError::Full(item)) = queue.put_timeout("fourth".to_string(), Duration::from_secs(3)) {
        println!("no room for {item} within 3 seconds");
    }

    let process = Process::spawn(consumer, (queue.clone(),))?;
    sleep(Duration::from_millis(100)); // it waits for the fourth
    queue.put("fourth".to_string())?;
    process.join()??;
    println!("{} left", queue.len());
    Ok(())
}
