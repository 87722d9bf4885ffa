//! Messages of 1 MiB.

use std::hint::black_box;
use std::time::Instant;

use procession::Queue;

use super::messages::{LEN, in_mb, stamp, stamped};
use super::parties::{Place, in_processes, rate, sum_below};
use crate::Result;
use crate::machine::pin;
use crate::workload::{Better, Contender, Sample, Workload, ensure, if_built, structure, with_boost};

pub const IN_PLACE: Workload = Workload {
    name: "queue_1_mib",
    says: "messages of 1 MiB copied in once and read in place, two processes (memcpy: one thread, no queue)",
    unit: "MB/s",
    better: Better::Higher,
    target: None,
    contenders: &[
        Contender::new("procession", in_place_procession),
        Contender::new("memcpy", memcpy).target(0.9),
        Contender::peer("iceoryx2", if_built!(super::iceoryx::large)).target(1.0),
        Contender::peer("ipc_channel", if_built!(super::ipc_channel::large)),
        Contender::boost(|| with_boost("queue_1_mib")),
        Contender::python("python", || structure("queue_1_mib")),
    ],
    most_pairs: usize::MAX,
};

pub const VECTORS: Workload = Workload {
    name: "queue_1_mib_vectors",
    says: "the same as Vec<u8> by put and get: each side has a vector of its own",
    unit: "MB/s",
    better: Better::Higher,
    target: Some(5000.0),
    contenders: &[Contender::new("procession", vectors_procession)],
    most_pairs: usize::MAX,
};

const MESSAGES: u64 = 10_000;
/// The number of messages that are under way at a time. The memcpy contender cycles through as many buffers.
const ROOM: usize = 4;

fn in_place_procession() -> Result<Sample> {
    let queue = Queue::<Vec<u8>>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let (mut source, mut sum) = (vec![7u8; LEN], 0);
        for number in 0..MESSAGES {
            if which == 0 {
                stamp(&mut source, number);
                queue.put_with(LEN, |bytes| bytes.copy_from_slice(&source))?;
            } else {
                let got = queue.get_with(stamped)??;
                ensure(got == number, "out of order")?;
                sum += got;
            }
        }
        Ok(sum)
    })?;
    rate(board, MESSAGES, sum_below(MESSAGES)).map(in_mb)
}

fn memcpy() -> Result<Sample> {
    pin(0);
    let mut source = vec![7u8; LEN];
    let mut buffers = vec![vec![1u8; LEN]; ROOM];
    let (started, mut sum) = (Instant::now(), 0);
    for number in 0..MESSAGES {
        stamp(&mut source, number);
        let buffer = &mut buffers[number as usize % ROOM];
        black_box(&mut *buffer).copy_from_slice(black_box(&source));
        sum += stamped(buffer)?;
    }
    ensure(sum == sum_below(MESSAGES), "memory that forgets")?;
    Ok(in_mb(Sample::new(MESSAGES as f64 / started.elapsed().as_secs_f64())))
}

fn vectors_procession() -> Result<Sample> {
    let queue = Queue::<Vec<u8>>::bounded(ROOM)?;
    let board = in_processes(2, Place::Pinned, &queue, |which, queue| {
        let (mut source, mut sum) = (vec![7u8; LEN], 0);
        for number in 0..MESSAGES {
            if which == 0 {
                stamp(&mut source, number);
                queue.put(source.clone())?;
            } else {
                let got = stamped(&queue.get()?)?;
                ensure(got == number, "out of order")?;
                sum += got;
            }
        }
        Ok(sum)
    })?;
    rate(board, MESSAGES, sum_below(MESSAGES)).map(in_mb)
}
