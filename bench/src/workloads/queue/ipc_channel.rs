//! The figures of ipc-channel with its channel of bytes, which is its fastest kind of channel.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};

use super::messages::{LEN, TURNS_OF_PEERS, in_mb, mean_ns, read, stamp, stamped, write};
use super::parties::{in_forks, rate, sum_below};

use crate::Result;
use crate::workload::{Sample, ensure};

const SMALL: u64 = 500_000;
const LARGE: u64 = 1_000;

/// Party 0 sends messages that `write` makes. Party 1 receives them, and `read` finds their numbers.
fn one_way(
    messages: u64,
    len: usize,
    write: impl Fn(u64, &mut [u8]),
    read: impl Fn(&[u8]) -> Result<u64>,
) -> Result<Sample> {
    let (sender, receiver) = ipc::bytes_channel()?;
    let work = |which, ()| {
        let (mut bytes, mut sum) = (vec![0; len], 0);
        for number in 0..messages {
            if which == 0 {
                write(number, &mut bytes);
                sender.send(&bytes)?;
            } else {
                sum += read(&receiver.recv()?)?;
            }
        }
        Ok(sum)
    };
    rate(in_forks(|_| Ok(()), work)?, messages, sum_below(messages))
}

pub fn small() -> Result<Sample> {
    one_way(SMALL, 64, write, read)
}

pub fn large() -> Result<Sample> {
    Ok(in_mb(one_way(LARGE, LEN, |number, bytes| stamp(bytes, number), stamped)?))
}

pub fn round_trip() -> Result<Sample> {
    let ((there, to_there), (back, to_here)) = (ipc::bytes_channel()?, ipc::bytes_channel()?);
    let number = |from: &IpcBytesReceiver| -> Result<u64> {
        Ok(u64::from_le_bytes(from.recv()?.as_slice().try_into()?))
    };
    let send = |to: &IpcBytesSender, turn: u64| to.send(&turn.to_le_bytes());
    let work = |which, ()| {
        for turn in 0..TURNS_OF_PEERS {
            if which == 0 {
                send(&there, turn)?;
                ensure(number(&to_here)? == turn, "a wrong answer")?;
            } else {
                send(&back, number(&to_there)?)?;
            }
        }
        Ok(if which == 0 { TURNS_OF_PEERS } else { 0 })
    };
    mean_ns(in_forks(|_| Ok(()), work)?, TURNS_OF_PEERS)
}
