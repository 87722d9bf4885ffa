//! Producers and consumers: if a consumer dies with an item, another consumer gets that item and finishes it.

use procession::{JoinableQueue, Process, Queue};

fn producer(name: String, what: String, kitchen: JoinableQueue<String>) -> procession::Result<()> {
    for n in 1..=3 {
        kitchen.put(format!("{what} {n} by {name}"))?;
    }
    Ok(())
}

fn consumer(kitchen: JoinableQueue<String>, eaten: Queue<String>) -> procession::Result<()> {
    for food in kitchen.iter() {
        let food = food?;
        if food.starts_with("fish 2") && food.attempt() == 1 {
            std::process::abort(); // a bone: another process gets the item
        }
        eaten.put(format!("{} (attempt {})", *food, food.attempt()))?;
        food.done()?;
    }
    Ok(())
}

fn main() -> procession::Result<()> {
    let (kitchen, eaten) = (JoinableQueue::bounded(5)?, Queue::unbounded()?);
    let consumers = (0..3)
        .map(|_| Process::spawn(consumer, (kitchen.clone(), eaten.clone())))
        .collect::<procession::Result<Vec<_>>>()?;
    let producers = [("Egon", "dumpling"), ("Alex", "fish")]
        .map(|(name, what)| Process::spawn(producer, (name.to_string(), what.to_string(), kitchen.clone())));
    for producer in producers {
        producer?.join()??;
    }
    kitchen.join()?; // everything is eaten
    kitchen.close()?;
    let died = consumers.into_iter().filter(|consumer| consumer.join().is_err()).count();
    eaten.close()?;
    let mut eaten = eaten.iter().collect::<Result<Vec<_>, _>>()?;
    eaten.sort();
    println!("{}\n{died} consumer died", eaten.join("\n"));
    Ok(())
}
