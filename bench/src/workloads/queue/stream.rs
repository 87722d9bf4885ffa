//! Small messages in one direction.

use crossbeam_channel::{Receiver, Sender, bounded};
use procession::Queue;
use serde::{Deserialize, Serialize};

use super::messages::{Words, number_of, read, words, write};
use super::parties::{Place, in_processes, in_threads, rate, sum_below};
use crate::Result;
use crate::workload::{Better, Contender, Sample, Workload, ensure, if_built, structure, with_boost};

pub const ONE_TO_ONE: Workload = Workload {
    name: "queue_64_bytes",
    says: "messages of 64 bytes, one producer and one consumer on two CPUs, room for 1,024 (crossbeam: threads)",
    unit: "msg/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", one_to_one_procession),
        Contender::new("crossbeam", one_to_one_crossbeam).target(1.0),
        Contender::peer("iceoryx2", if_built!(super::iceoryx::small)),
        Contender::peer("ipc_channel", if_built!(super::ipc_channel::small)),
        Contender::boost(|| with_boost("queue_64_bytes")),
        Contender::python("python", || structure("queue_64_bytes")),
    ],
    most_pairs: usize::MAX,
};

pub const BATCHED: Workload = Workload {
    name: "queue_batched",
    says: "the same, 64 messages at a time: put_many_with and get_many_with (rtrb_singly: one by one, two threads; rtrb: in chunks)",
    unit: "msg/s",
    better: Better::Higher,
    target: Some(29e6),
    contenders: &[
        Contender::new("procession", batched_procession),
        Contender::new("rtrb_singly", words_rtrb),
        Contender::new("rtrb", batched_rtrb),
    ],
    most_pairs: usize::MAX,
};

pub const BATCHED_NUMBERS: Workload = Workload {
    name: "queue_numbers",
    says: "numbers of 8 bytes, 64 at a time: put_many and get_many (rtrb: one by one, two threads)",
    unit: "msg/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", numbers_procession),
        Contender::new("rtrb_singly", numbers_rtrb),
    ],
    most_pairs: usize::MAX,
};

pub const TYPED: Workload = Workload {
    name: "queue_typed",
    says: "a struct of three small fields, through serde (bytes: 64 bytes by the plain path)",
    unit: "msg/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", typed_procession),
        Contender::new("bytes", one_to_one_procession).target(0.8),
    ],
    most_pairs: usize::MAX,
};

pub const TWO_BY_TWO: Workload = Workload {
    name: "queue_two_by_two",
    says: "messages of 64 bytes, two producers and two consumers (crossbeam: four threads)",
    unit: "msg/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", two_by_two_procession),
        Contender::new("crossbeam", two_by_two_crossbeam).target(1.0),
    ],
    most_pairs: usize::MAX,
};

const ROOM: usize = 1024;
const MESSAGES: u64 = 4_000_000;
const BATCH: u64 = 64;
/// The number of messages of all producers together.
const BATCHED_MESSAGES: u64 = 16_000_000;

#[inline]
fn expect(number: u64, expected: u64) -> Result {
    if number == expected { Ok(()) } else { Err(format!("{number} came instead of {expected}").into()) }
}

fn one_to_one_procession() -> Result<Sample> {
    let queue = Queue::<Vec<u8>>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let mut sum = 0;
        for number in 0..MESSAGES {
            if which == 0 {
                queue.put_with(64, |bytes| write(number, bytes))?;
            } else {
                let got = queue.get_with(read)??;
                expect(got, number)?;
                sum += got;
            }
        }
        Ok(sum)
    })?;
    ensure(queue.is_empty(), "more messages came out than went in")?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}

fn one_to_one_crossbeam() -> Result<Sample> {
    let (sender, receiver) = bounded::<Words>(ROOM);
    let board = in_threads(
        Place::Pinned,
        vec![(sender.clone(), receiver.clone()); 2],
        |which, (sender, receiver)| {
            let mut sum = 0;
            for number in 0..MESSAGES {
                if which == 0 {
                    sender.send(words(number))?;
                } else {
                    let got = number_of(&receiver.recv()?)?;
                    expect(got, number)?;
                    sum += got;
                }
            }
            Ok(sum)
        },
    )?;
    ensure(receiver.is_empty(), "more messages came out than went in")?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}

fn batched_procession() -> Result<Sample> {
    let queue = Queue::<Vec<u8>>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let (mut next, mut sum) = (0, 0);
        while next < BATCHED_MESSAGES {
            if which == 0 {
                queue.put_many_with(BATCH as usize, 64, |at, bytes| write(next + at as u64, bytes))?;
                next += BATCH;
            } else {
                let mut done = Ok(());
                queue.get_many_with(BATCH as usize, |bytes| {
                    let came = read(bytes).and_then(|got| expect(got, next));
                    done = std::mem::replace(&mut done, Ok(())).and(came);
                    sum += next;
                    next += 1;
                })?;
                done?;
            }
        }
        Ok(sum)
    })?;
    rate(board, BATCHED_MESSAGES, sum_below(BATCHED_MESSAGES))
}

fn batched_rtrb() -> Result<Sample> {
    let (producer, consumer) = rtrb::RingBuffer::<Words>::new(ROOM);
    let parts = vec![(Some(producer), None), (None, Some(consumer))];
    let board = in_threads(Place::Pinned, parts, |_, (producer, consumer)| {
        let (mut next, mut sum) = (0, 0);
        if let Some(mut producer) = producer {
            while next < BATCHED_MESSAGES {
                match producer.write_chunk_uninit(BATCH as usize) {
                    Ok(chunk) => next += chunk.fill_from_iter((next..next + BATCH).map(words)) as u64,
                    Err(_) => std::hint::spin_loop(),
                }
            }
        } else if let Some(mut consumer) = consumer {
            while next < BATCHED_MESSAGES {
                match consumer.read_chunk(BATCH as usize) {
                    Ok(chunk) => {
                        for message in chunk {
                            expect(number_of(&message)?, next)?;
                            sum += next;
                            next += 1;
                        }
                    }
                    Err(_) => std::hint::spin_loop(),
                }
            }
        }
        Ok(sum)
    })?;
    rate(board, BATCHED_MESSAGES, sum_below(BATCHED_MESSAGES))
}

fn numbers_procession() -> Result<Sample> {
    let queue = Queue::<u64>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let (mut next, mut sum) = (0, 0);
        while next < BATCHED_MESSAGES {
            if which == 0 {
                next += queue.put_many(next..next + BATCH)? as u64;
            } else {
                for got in queue.get_many(BATCH as usize)? {
                    expect(got?, next)?;
                    sum += next;
                    next += 1;
                }
            }
        }
        Ok(sum)
    })?;
    rate(board, BATCHED_MESSAGES, sum_below(BATCHED_MESSAGES))
}

fn numbers_rtrb() -> Result<Sample> {
    rtrb_singly(|number| number, Ok)
}

fn words_rtrb() -> Result<Sample> {
    rtrb_singly(words, |words| number_of(&words))
}

/// Sends messages that are made of numbers, one by one.
fn rtrb_singly<T: Send>(
    make: impl Fn(u64) -> T + Sync,
    number: impl Fn(T) -> Result<u64> + Sync,
) -> Result<Sample> {
    let (producer, consumer) = rtrb::RingBuffer::<T>::new(ROOM);
    let parts = vec![(Some(producer), None), (None, Some(consumer))];
    let board = in_threads(Place::Pinned, parts, |_, (producer, consumer)| {
        let (mut next, mut sum) = (0, 0);
        if let Some(mut producer) = producer {
            while next < BATCHED_MESSAGES {
                if producer.push(make(next)).is_ok() {
                    next += 1;
                } else {
                    std::hint::spin_loop();
                }
            }
        } else if let Some(mut consumer) = consumer {
            while next < BATCHED_MESSAGES {
                if let Ok(message) = consumer.pop() {
                    expect(number(message)?, next)?;
                    (sum, next) = (sum + next, next + 1);
                } else {
                    std::hint::spin_loop();
                }
            }
        }
        Ok(sum)
    })?;
    rate(board, BATCHED_MESSAGES, sum_below(BATCHED_MESSAGES))
}

/// An example of a small message of a program.
#[derive(Serialize, Deserialize)]
struct Job {
    number: u64,
    kind: u8,
    weight: f64,
}

fn typed_procession() -> Result<Sample> {
    let queue = Queue::<Job>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let mut sum = 0;
        for number in 0..MESSAGES {
            if which == 0 {
                queue.put(Job { number, kind: 7, weight: 0.5 })?;
            } else {
                let job = queue.get()?;
                expect(job.number, number)?;
                sum += job.number + u64::from(job.kind) - 7 + (job.weight * 2.0) as u64 - 1;
            }
        }
        Ok(sum)
    })?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}

/// Checks that the numbers of each producer grow: items are taken in the order in which they were put.
fn in_order(last: &mut [Option<u64>], number: u64) -> Result {
    let place = &mut last[(number % 2) as usize];
    let grows = place.is_none_or(|before| before < number);
    *place = Some(number);
    if grows { Ok(()) } else { Err(format!("{number} came too late").into()) }
}

/// Returns the numbers that producer `which` of two puts.
fn numbers_of(which: usize) -> impl Iterator<Item = u64> {
    (0..MESSAGES / 2).map(move |n| 2 * n + which as u64)
}

/// Parties 0 and 2 produce, and parties 1 and 3 consume.
fn two_by_two_procession() -> Result<Sample> {
    let queue = Queue::<Vec<u8>>::bounded(ROOM)?;
    let board = in_processes(4, Place::Anywhere, &queue, |which, queue| {
        if which % 2 == 0 {
            for number in numbers_of(which / 2) {
                queue.put_with(64, |bytes| write(number, bytes))?;
            }
            return Ok(0);
        }
        let (mut sum, mut last) = (0, [None; 2]);
        for _ in 0..MESSAGES / 2 {
            let number = queue.get_with(read)??;
            in_order(&mut last, number)?;
            sum += number;
        }
        Ok(sum)
    })?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}

fn two_by_two_crossbeam() -> Result<Sample> {
    let (sender, receiver) = bounded::<Words>(ROOM);
    let parts: Vec<(Sender<Words>, Receiver<Words>)> = vec![(sender, receiver); 4];
    let board = in_threads(Place::Anywhere, parts, |which, (sender, receiver)| {
        if which % 2 == 0 {
            for number in numbers_of(which / 2) {
                sender.send(words(number))?;
            }
            return Ok(0);
        }
        let (mut sum, mut last) = (0, [None; 2]);
        for _ in 0..MESSAGES / 2 {
            let number = number_of(&receiver.recv()?)?;
            in_order(&mut last, number)?;
            sum += number;
        }
        Ok(sum)
    })?;
    rate(board, MESSAGES, sum_below(MESSAGES))
}
