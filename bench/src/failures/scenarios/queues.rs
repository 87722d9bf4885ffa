//! F5 to F9 and F27: the death of a process that puts, gets or sends.

use std::io;

use procession::{JoinableQueue, Process, Queue, Result as Outcome, pipe, queue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Blocked, SECOND, doing, for_ever, ready, saw};
use crate::Result;

const BYTES: usize = 50_000_000;

fn get(path: String, queue: Queue<u64>) -> Outcome<u64> {
    ready(&path);
    Ok(queue.get()?)
}

pub fn f5() -> Result {
    let queue = Queue::unbounded()?;
    Blocked::spawn(get, queue.clone())?.kill()?;
    queue.put(1)?;
    doing("get()");
    saw(format!("get() gives {:?}", queue.get_timeout(SECOND)));
    Ok(())
}

fn put_half(path: String, queue: Queue<Vec<u8>>) -> Outcome<()> {
    let half = |room: &mut [u8]| {
        room[..BYTES / 2].fill(1);
        ready(&path);
        for_ever()
    };
    queue.put_with(BYTES, half).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(())
}

pub fn f6() -> Result {
    let queue = Queue::<Vec<u8>>::unbounded()?;
    Blocked::spawn(put_half, queue.clone())?.kill()?;
    doing("put() and get() of the next item");
    saw(format!("{} items are in the queue", queue.len()));
    queue.put(vec![7])?;
    saw(format!("put() returns, the next get() gives {:?}", queue.get_timeout(SECOND)));
    Ok(())
}

fn put_three_and_die(queue: Queue<u64>) -> Outcome<()> {
    for i in 0..3 {
        queue.put(i)?;
    }
    // SAFETY: plain calls; the signal goes to this very process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    Ok(())
}

pub fn f7() -> Result {
    let mut lost = 0;
    for _ in 0..10 {
        let queue = Queue::unbounded()?;
        let died = Process::spawn(put_three_and_die, (queue.clone(),))?.join().is_err();
        if !died {
            return Err("a process that was to die did not".into());
        }
        lost += 3 - (0..3).filter(|_| queue.try_get().is_ok()).count();
    }
    saw(format!("{lost} of 30 items are lost"));
    Ok(())
}

fn consume(path: String, queue: JoinableQueue<u64>) -> Outcome<()> {
    let _lease = queue.get()?;
    ready(&path);
    for_ever()
}

pub fn f8() -> Result {
    let queue = JoinableQueue::unbounded()?;
    queue.put(1)?;
    Blocked::spawn(consume, queue.clone())?.kill()?;
    saw(format!("join_timeout(0) gives {:?}", queue.try_join()));
    doing("get()");
    let lease = queue.get_timeout(SECOND)?;
    saw(format!("the item comes back, for attempt {}", lease.attempt()));
    lease.done()?;
    doing("join()");
    queue.join()?;
    saw("join() returns when it is done");
    Ok(())
}

fn put_much(queue: Queue<Vec<u8>>) -> Outcome<()> {
    queue.put(vec![1; 10_000_000])?;
    Ok(())
}

pub fn f9() -> Result {
    let queue = Queue::unbounded()?;
    let process = Process::spawn(put_much, (queue.clone(),))?;
    doing("join() of the child");
    process.join()??;
    saw(format!("join() returns; get() gives {} bytes", queue.get()?.len()));
    Ok(())
}

/// A value that stops its process while it is being serialized.
struct Stalling(String);

impl Serialize for Stalling {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        let _encoded_so_far = vec![1u8; BYTES / 2];
        ready(&self.0);
        for_ever()
    }
}

impl<'de> Deserialize<'de> for Stalling {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Stalling, D::Error> {
        String::deserialize(from).map(Stalling)
    }
}

fn send(path: String, to: queue::Connection<Stalling, ()>) -> Outcome<()> {
    to.send(Stalling(path))?;
    Ok(())
}

pub fn f27() -> Result {
    let (here, there) = pipe::<(), Stalling>()?;
    let sender = Blocked::spawn(send, there)?;
    sender.kill()?;
    doing("recv()");
    saw(match here.recv() {
        Ok(_) => "recv() gives a message".into(),
        Err(error) => format!("recv() gives {error:?}"),
    });
    Ok(())
}
