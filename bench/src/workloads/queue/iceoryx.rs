//! The figures of iceoryx2 when its receivers poll, which is its fastest mode. Publishers wait until there is
//! room.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{BackpressureStrategy, NodeBuilder, ipc};
use iceoryx2::sample::Sample as Received;

use super::messages::{LEN, TURNS_OF_PEERS, in_mb, mean_ns, read, stamp, stamped, write};
use super::parties::{in_forks, rate, sum_below};

use crate::Result;
use crate::workload::{Sample, ensure};

const SMALL: u64 = 1_000_000;
const LARGE: u64 = 5_000;

/// One end of a service whose messages are bytes. The end keeps everything alive that it depends on.
struct End {
    publisher: Option<Publisher<ipc::Service, [u8], ()>>,
    subscriber: Option<Subscriber<ipc::Service, [u8], ()>>,
}

impl End {
    fn open(name: &str, publishes: bool, len: usize, room: usize) -> Result<End> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = format!("procession-bench/{}/{name}", std::os::unix::process::parent_id());
        let service = node
            .service_builder(&name.as_str().try_into()?)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(room)
            .open_or_create()?;
        let publisher = || {
            let builder = service.publisher_builder().initial_max_slice_len(len);
            builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()
        };
        let publisher = if publishes { Some(publisher()?) } else { None };
        let subscriber = if publishes { None } else { Some(service.subscriber_builder().create()?) };
        Ok(End { publisher, subscriber })
    }

    fn send(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result {
        let publisher = self.publisher.as_ref().ok_or("not a publisher")?;
        let mut sample = publisher.loan_slice(len)?;
        write(sample.payload_mut());
        sample.send()?;
        Ok(())
    }

    fn receive(&self) -> Result<Received<ipc::Service, [u8], ()>> {
        let subscriber = self.subscriber.as_ref().ok_or("not a subscriber")?;
        loop {
            match subscriber.receive()? {
                Some(sample) => return Ok(sample),
                None => std::hint::spin_loop(),
            }
        }
    }
}

fn one_way(
    (messages, len, room): (u64, usize, usize),
    write: impl Fn(u64, &mut [u8]),
    read: impl Fn(&[u8]) -> Result<u64>,
) -> Result<Sample> {
    let prepare = |which| End::open("way", which == 0, len, room);
    let work = |which, end: End| {
        let mut sum = 0;
        for number in 0..messages {
            if which == 0 {
                end.send(len, |bytes| write(number, bytes))?;
            } else {
                sum += read(end.receive()?.payload())?;
            }
        }
        Ok(sum)
    };
    rate(in_forks(prepare, work)?, messages, sum_below(messages))
}

pub fn small() -> Result<Sample> {
    one_way((SMALL, 64, 1024), write, read)
}

pub fn large() -> Result<Sample> {
    let fill = vec![7; LEN];
    let write = |number, bytes: &mut [u8]| {
        bytes.copy_from_slice(&fill);
        stamp(bytes, number);
    };
    Ok(in_mb(one_way((LARGE, LEN, 4), write, stamped)?))
}

pub fn round_trip() -> Result<Sample> {
    let prepare = |which| Ok((End::open("there", which == 0, 8, 16)?, End::open("back", which == 1, 8, 16)?));
    let number = |end: &End| -> Result<u64> { Ok(u64::from_le_bytes(end.receive()?.payload().try_into()?)) };
    let send = |end: &End, turn: u64| end.send(8, |bytes| bytes.copy_from_slice(&turn.to_le_bytes()));
    let work = |which, (there, back): (End, End)| {
        for turn in 0..TURNS_OF_PEERS {
            if which == 0 {
                send(&there, turn)?;
                ensure(number(&back)? == turn, "a wrong answer")?;
            } else {
                send(&back, number(&there)?)?;
            }
        }
        Ok(if which == 0 { TURNS_OF_PEERS } else { 0 })
    };
    mean_ns(in_forks(prepare, work)?, TURNS_OF_PEERS)
}
