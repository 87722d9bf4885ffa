//! Processes die while they use a queue. In these cases, Python's queues lose items or block for ever.

use crate::family::*;
use procession::internals::census;
use procession::process::Entry;
use procession::queue::GetError;
use procession::{Process, Queue};
use procession_testkit::{isolated, proc};

/// Returns a process that sleeps in an operation on the queue.
fn asleep(f: impl Entry<(Queue<Vec<u8>>,), Output = ()>, queue: &Queue<Vec<u8>>) -> Process<()> {
    let process = Process::builder().daemon(true).spawn(f, (queue.clone(),)).unwrap();
    until("the process sleeps in the queue", || {
        let text = format!("{queue:?}");
        !text.contains("getters_waiting: 0") || !text.contains("putters_waiting: 0")
    });
    process
}

#[test]
fn a_reader_killed_while_it_waits_blocks_no_other_reader() {
    let _dog = watched();
    let queue = Queue::bounded(2).unwrap();
    for _ in 0..10 {
        let reader = asleep(|queue: Queue<Vec<u8>>| drop(queue.get()), &queue);
        reader.kill().unwrap();
        queue.put(vec![1]).unwrap();
        reader.join().unwrap_err();
        // The reader may have been woken before it died, and may have taken the item.
        if queue.try_get() == Err(GetError::Empty) {
            assert!(queue.is_empty());
        }
        queue.put(vec![2]).unwrap();
        assert_eq!(queue.get(), Ok(vec![2]));
    }
}

#[test]
fn a_writer_killed_while_it_waits_blocks_no_other_writer() {
    let _dog = watched();
    let queue = Queue::bounded(1).unwrap();
    queue.put(vec![1]).unwrap();
    for _ in 0..10 {
        let writer = asleep(|queue: Queue<Vec<u8>>| queue.put(vec![2; 9000]).unwrap(), &queue);
        writer.kill().unwrap();
        writer.join().unwrap_err();
        assert_eq!(queue.get(), Ok(vec![1]));
        queue.put(vec![1]).unwrap();
    }
}

#[test]
fn a_writer_killed_in_the_middle_of_a_large_item_leaves_no_memory() {
    isolated!({
        let queue = Queue::<Vec<u8>>::bounded(2).unwrap();
        let board = Board::new();
        let write = |queue: Queue<Vec<u8>>, board: String| {
            let half = |buffer: &mut [u8]| {
                buffer[..25 << 20].fill(7);
                post(&board, "half", "");
                forever();
            };
            queue.put_with(50 << 20, half).unwrap();
        };
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let start = census().blocks.len();
        let writer = Process::spawn(write, (queue.clone(), board.path())).unwrap();
        board.wait("half");
        queue.put(vec![1]).unwrap();
        assert_eq!(queue.get(), Ok(vec![1]), "no reader waits for the dead writer");
        writer.kill().unwrap();
        writer.join().unwrap_err();
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        drop(writer);
        until("the writer's memory is freed", || census().blocks.len() <= start);
        let writer =
            Process::spawn(|queue: Queue<Vec<u8>>| queue.put(vec![9; 50 << 20]).unwrap(), (queue.clone(),));
        assert!(queue.get().is_ok_and(|item| item == vec![9; 50 << 20]));
        writer.unwrap().join().unwrap();
    });
}

#[test]
fn items_outlive_their_producer() {
    let _dog = watched();
    let queue = Queue::unbounded().unwrap();
    let put = |queue: Queue<(u32, Vec<u8>)>, run: u32| -> () {
        (0..3).for_each(|n| queue.put((3 * run + n, vec![n as u8; 1000 * n as usize])).unwrap());
        die(libc::SIGKILL);
    };
    for run in 0..10 {
        Process::spawn(put, (queue.clone(), run)).unwrap().join().unwrap_err();
    }
    assert_eq!(queue.len(), 30);
    for n in 0..30 {
        let (number, bytes) = queue.get().unwrap();
        assert_eq!((number, bytes), (n, vec![(n % 3) as u8; 1000 * (n % 3) as usize]));
    }
}

#[test]
fn a_stopped_reader_blocks_no_other() {
    let _dog = watched();
    let queue = Queue::bounded(2).unwrap();
    let reader = asleep(|queue: Queue<Vec<u8>>| drop(queue.get()), &queue);
    let pid = reader.pid().unwrap();
    send(pid, libc::SIGSTOP);
    until("the reader is stopped", || proc::state(pid) == Some('T'));
    for n in 0..10 {
        queue.put(vec![n]).unwrap();
        assert_eq!(queue.get(), Ok(vec![n]));
    }
    reader.kill().unwrap();
    reader.join().unwrap_err();
    queue.put(vec![1]).unwrap();
    assert_eq!(queue.get(), Ok(vec![1]));
}

/// Each process of a chain is killed after a single operation, and the queue still works.
#[test]
fn a_chain_of_deaths_passes_an_item_on() {
    let _dog = watched();
    let queue = Queue::bounded(1).unwrap();
    queue.put(vec![0]).unwrap();
    let step = |queue: Queue<Vec<u8>>| {
        let mut item = queue.get().unwrap();
        item.push(item.len() as u8);
        queue.put(item).unwrap();
        die(libc::SIGKILL);
    };
    let chain: Vec<Process<()>> = (0..40).map(|_| Process::spawn(step, (queue.clone(),)).unwrap()).collect();
    chain.iter().for_each(|process| drop(process.join().unwrap_err()));
    assert_eq!(queue.get(), Ok((0..=40).collect()));
}
