//! An async program receives a queue of other processes as a stream, and shuts down in order.

use procession::{Process, Queue};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// Sends readings until the queue is closed.
fn measure(sensor: u32, readings: Queue<(u32, u32)>) -> u32 {
    (1..).take_while(|n| readings.put((sensor, *n)).is_ok()).last().unwrap_or(0)
}

/// Forwards every reading. `get` blocks, so it runs on a thread for blocking calls.
fn stream_of(readings: Queue<(u32, u32)>) -> mpsc::Receiver<(u32, u32)> {
    let (sender, receiver) = mpsc::channel(1);
    spawn_blocking(move || {
        while let Ok(reading) = readings.get() {
            if sender.blocking_send(reading).is_err() {
                break; // the receiver is gone
            }
        }
    });
    receiver
}

#[tokio::main]
async fn main() -> procession::Result<()> {
    let readings = Queue::bounded(4)?;
    let sensors: Vec<_> = (0..3)
        .map(|sensor| Process::spawn(measure, (sensor, readings.clone())))
        .collect::<procession::Result<_>>()?;

    let mut stream = stream_of(readings.clone());
    let mut sums = [0; 3];
    while sums.contains(&0) {
        let (sensor, reading) = stream.recv().await.expect("the queue is open");
        sums[sensor as usize] += reading;
    }
    println!("every sensor has been heard");

    // Closing the queue ends the sensors and the thread behind the stream. The remaining readings still
    // arrive.
    readings.close()?;
    while stream.recv().await.is_some() {}
    for sensor in sensors {
        assert!(sensor.await? > 0);
    }
    println!("every sensor has ended");
    Ok(())
}
