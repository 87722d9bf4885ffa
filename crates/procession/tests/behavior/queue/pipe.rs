//! `pipe`: two processes exchange messages, and each notices when the other end is gone.
#![allow(unsafe_code, reason = "a signal handler")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::*;
use procession::internals::{Census, census};
use procession::queue::{Connection, GetError, PutError};
use procession::{Lock, Process, pipe};
use procession_testkit::isolated;
use serde::{Deserialize, Serialize};

const SOON: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);

/// Eight messages of this length do not fit in a pipe.
const PIECE: usize = 9 << 10;

#[test]
fn messages_make_a_round_trip_through_a_child() {
    let _dog = watched();
    type Forth = (u32, Vec<u8>, Lock);
    type Back = (Lock, Vec<u8>, u32);
    let (here, there) = pipe::<Forth, Back>().unwrap();
    let turns = |end: Connection<Back, Forth>| {
        while let Ok((number, bytes, lock)) = end.recv() {
            end.send((lock, bytes, number)).unwrap();
        }
    };
    let child = Process::spawn(turns, (there,)).unwrap();
    for (number, len) in [0, 1, 511, 512, 513, 5000, 100_000].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        here.send((number as u32, bytes.clone(), Lock::labeled("passed on").unwrap())).unwrap();
        let (lock, same_bytes, same_number) = here.recv().unwrap();
        assert_eq!((lock.name().as_str(), same_number), ("passed on", number as u32));
        assert!(same_bytes == bytes);
    }
    drop(here);
    child.join().unwrap();
}

#[test]
fn a_large_message_passes() {
    let _dog = watched();
    let (here, there) = pipe::<Vec<u64>, Vec<u64>>().unwrap();
    let turns = |end: Connection<Vec<u64>, Vec<u64>>| {
        let mut numbers = end.recv().unwrap();
        numbers.reverse();
        end.send(numbers).unwrap();
    };
    let child = Process::spawn(turns, (there,)).unwrap();
    let numbers: Vec<u64> = (0..2 << 20).collect();
    here.send(numbers.clone()).unwrap();
    assert!(here.recv().unwrap().into_iter().rev().eq(numbers));
    child.join().unwrap();
}

#[test]
fn poll_reports_messages_without_taking_them() {
    let _dog = watched();
    let (a, b) = pipe::<String, u32>().unwrap();
    let before = Instant::now();
    let empty = Err(GetError::Empty);
    assert!(!b.poll());
    assert_eq!((b.poll_timeout(Duration::ZERO), b.poll_deadline(before)), (empty.clone(), empty.clone()));
    assert!(b.poll_timeout(SOON) == empty && before.elapsed() >= SOON);
    assert!(b.poll_deadline(before + 2 * SOON) == empty && before.elapsed() >= 2 * SOON);
    a.send(String::new()).unwrap();
    a.send("not empty".into()).unwrap();
    a.send(String::new()).unwrap();
    for expected in ["", "not empty", ""] {
        for _ in 0..3 {
            assert!(b.poll());
            assert_eq!((b.poll_timeout(HOUR), b.poll_deadline(before)), (Ok(()), Ok(())));
        }
        assert_eq!(b.recv().unwrap(), expected);
    }
    assert!(!b.poll() && !a.poll());
    let polls = asleep(|b: Connection<u32, String>| (b.poll_timeout(HOUR), b.recv()), (b.clone(),));
    a.send("late".into()).unwrap();
    assert_eq!(polls.join().unwrap(), (Ok(()), Ok("late".into())));
    drop(b);
    until("the other end is gone", || a.poll());
    assert_eq!(a.recv(), Err(GetError::Closed));
}

#[test]
fn an_empty_message_is_a_message() {
    let _dog = watched();
    let (a, b) = pipe::<(), Vec<u8>>().unwrap();
    (0..3).for_each(|_| a.send(()).unwrap());
    [&b""[..], b"x", b"", b"", b"yz"].iter().for_each(|bytes| b.send(bytes.to_vec()).unwrap());
    assert_eq!(std::iter::from_fn(|| b.try_recv().ok()).count(), 3);
    let came: Vec<Vec<u8>> = std::iter::from_fn(|| a.try_recv().ok()).collect();
    assert_eq!(came, [&b""[..], b"x", b"", b"", b"yz"]);
}

#[test]
fn send_waits_while_the_pipe_is_full() {
    let _dog = watched();
    let (a, b) = pipe::<Vec<u8>, ()>().unwrap();
    let count = (0..).take_while(|_| a.try_send(vec![7; PIECE]).is_ok()).count();
    assert!(count > 1);
    let before = Instant::now();
    let full = |result| matches!(result, Err(PutError::Full(bytes)) if bytes == [7; PIECE]);
    assert!(full(a.send_timeout(vec![7; PIECE], SOON)) && before.elapsed() >= SOON);
    assert!(full(a.send_deadline(vec![7; PIECE], before)));
    assert!(full(a.try_send(vec![7; PIECE])));
    let sends = |a: Connection<Vec<u8>, ()>| a.send(vec![8; PIECE]).is_ok();
    let p = asleep(sends, (a.clone(),));
    for _ in 0..count {
        assert_eq!(b.recv().unwrap(), [7; PIECE]);
    }
    assert!(p.join().unwrap());
    assert_eq!(b.recv_timeout(HOUR).unwrap(), [8; PIECE]);
    assert_eq!(b.try_recv(), Err(GetError::Empty));
    assert_eq!(b.recv_timeout(SOON), Err(GetError::Empty));
    assert_eq!(b.recv_deadline(before), Err(GetError::Empty));
}

#[test]
fn messages_can_be_received_after_the_sender_is_gone() {
    let _dog = watched();
    let (a, b) = pipe::<u32, u32>().unwrap();
    let sends = |a: Connection<u32, u32>| (1..4).for_each(|n| a.send(n).unwrap());
    Process::spawn(sends, (a,)).unwrap().join().unwrap();
    until("the sender is gone", || b.is_closed());
    assert!(b.poll());
    let refused = b.send(9);
    assert!(matches!(refused, Err(PutError::Closed(9))), "{refused:?}");
    assert!(matches!(b.try_send(9), Err(PutError::Closed(9))));
    assert_eq!([b.recv(), b.try_recv(), b.recv_timeout(SOON)], [Ok(1), Ok(2), Ok(3)]);
    for _ in 0..3 {
        assert!(b.poll());
        assert_eq!(b.recv(), Err(GetError::Closed));
        assert_eq!(b.try_recv(), Err(GetError::Closed));
        assert_eq!(b.recv_timeout(HOUR), Err(GetError::Closed));
    }
}

#[test]
fn closing_ends_both_directions_for_every_process() {
    let _dog = watched();
    let (a, b) = pipe::<u32, u32>().unwrap();
    let (also_a, also_b) = (a.clone(), b.clone());
    a.send(1).unwrap();
    b.send(2).unwrap();
    also_a.close().unwrap();
    assert!([&a, &also_a].into_iter().chain([&b, &also_b]).all(Connection::is_closed));
    assert!(a.send(3).is_err() && b.send(3).is_err() && also_b.send(3).is_err());
    assert_eq!((also_b.recv(), b.recv()), (Ok(1), Err(GetError::Closed)));
    assert_eq!((a.recv(), a.recv()), (Ok(2), Err(GetError::Closed)));
    b.close().unwrap();
}

/// Holds one end until the test posts `go`, and then gives up the end in the way that `how` names.
fn peer(end: Connection<u32, Vec<u8>>, board: String, how: String) {
    post(&board, "has it", "");
    wait_for(&board, "go");
    match how.as_str() {
        "closes" => end.close().unwrap(),
        "drops" => {}
        "returns" => return,
        "exits" => std::process::exit(0),
        "panics" => panic!("at a peer's"),
        _ => forever(),
    }
    drop(end);
    forever();
}

#[test]
fn a_waiter_is_woken_when_the_peer_is_gone() {
    let _dog = watched();
    type End = Connection<Vec<u8>, u32>;
    let waits: [fn(&End) -> Process<bool>; 4] = [
        |end| asleep(|end: End| end.recv() == Err(GetError::Closed), (end.clone(),)),
        |end| asleep(|end: End| end.recv_timeout(HOUR) == Err(GetError::Closed), (end.clone(),)),
        |end| {
            asleep(
                |end: End| end.poll_timeout(HOUR).is_ok() && end.try_recv() == Err(GetError::Closed),
                (end.clone(),),
            )
        },
        |end| {
            let sends = |end: End| loop {
                if let Err(refused) = end.send(vec![7; PIECE]) {
                    break matches!(refused, PutError::Closed(piece) if piece == [7; PIECE]);
                }
            };
            asleep(sends, (end.clone(),))
        },
    ];
    for how in ["closes", "drops", "returns", "exits", "panics", "is killed"] {
        let (end, other) = pipe::<Vec<u8>, u32>().unwrap();
        let board = Board::new();
        let args = (other, board.path(), how.to_owned());
        let p = Process::builder().daemon(true).spawn(peer, args).unwrap();
        board.wait("has it");
        let waiting = waits.map(|wait| wait(&end));
        assert!(!end.is_closed());
        match how {
            "is killed" => kill(&p),
            _ => post(&board.path(), "go", ""),
        }
        for (which, process) in waiting.into_iter().enumerate() {
            assert!(process.join().unwrap(), "waiter {which} when the other {how}");
        }
        assert!(end.is_closed() && end.send(vec![]).is_err(), "{how}");
        if p.is_alive() {
            kill(&p);
        }
    }
}

#[test]
fn a_waiting_child_is_woken_when_main_drops_its_end() {
    let _dog = watched();
    let (here, there) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    let receives = |end: Connection<Vec<u8>, Vec<u8>>| end.recv();
    let sends = |end: Connection<Vec<u8>, Vec<u8>>| -> bool {
        while end.send(vec![7; PIECE]).is_ok() {}
        end.is_closed()
    };
    let (receiver, sender) = (asleep(receives, (there.clone(),)), asleep(sends, (there,)));
    let clone = here.clone();
    drop(here);
    assert!(!clone.is_closed() && receiver.is_alive() && sender.is_alive(), "a clone keeps the end alive");
    let elsewhere = asleep(|end: Connection<Vec<u8>, Vec<u8>>| forever_with(&end), (clone,));
    assert!(receiver.is_alive() && sender.is_alive(), "so does a clone in another process");
    kill(&elsewhere);
    assert_eq!(receiver.join().unwrap(), Err(GetError::Closed));
    assert!(sender.join().unwrap());
}

fn forever_with(_: &Connection<Vec<u8>, Vec<u8>>) {
    forever();
}

#[test]
fn a_waiting_main_is_woken_when_a_child_is_killed() {
    let _dog = watched();
    let (here, there) = pipe::<Vec<u8>, u32>().unwrap();
    let board = Board::new();
    let p =
        Process::builder().daemon(true).spawn(peer, (there, board.path(), "is killed".to_owned())).unwrap();
    board.wait("has it");
    let threads = [
        thread::spawn({
            let here = here.clone();
            move || here.recv() == Err(GetError::Closed)
        }),
        thread::spawn({
            let here = here.clone();
            move || (0..).find_map(|_| here.send(vec![7; PIECE]).err()).is_some()
        }),
    ];
    until("both wait", || {
        let told = format!("{here:?}");
        told.contains("sent: 7") || told.contains("sent: 8")
    });
    kill(&p);
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn connections_can_be_sent_through_connections() {
    let _dog = watched();
    type Inner = Connection<u32, u32>;
    let (here, there) = pipe::<Inner, Inner>().unwrap();
    let serves = |end: Connection<Inner, Inner>| {
        while let Ok(inner) = end.recv() {
            let number = inner.recv().unwrap();
            inner.send(number + 1).unwrap();
            let (mine, theirs) = pipe().unwrap();
            end.send(theirs).unwrap();
            mine.send(number + 2).unwrap();
            assert_eq!(mine.recv(), Err(GetError::Closed));
        }
    };
    let server = Process::spawn(serves, (there,)).unwrap();
    for number in 0..5 {
        let (mine, theirs) = pipe().unwrap();
        here.send(theirs).unwrap();
        mine.send(number).unwrap();
        assert_eq!(mine.recv(), Ok(number + 1));
        let another = here.recv().unwrap();
        assert_eq!(another.recv(), Ok(number + 2));
        drop(another);
        until("the server has dropped its end", || mine.is_closed());
    }
    drop(here);
    server.join().unwrap();
}

/// An end that can be sent through its own pipe.
#[derive(Serialize, Deserialize)]
struct Own(Box<Connection<Own, Own>>);

fn own() -> (Own, Own) {
    let (a, b) = pipe().unwrap();
    (Own(Box::new(a)), Own(Box::new(b)))
}

/// Counts objects and blocks.
fn living(census: &Census) -> (u32, usize) {
    (census.objects, census.blocks.len())
}

#[track_caller]
fn until_as_before(before: &Census) {
    until(&format!("{:?} is left, not {:?}", living(before), living(&census())), || {
        living(&census()) == living(before)
    });
}

#[test]
fn pipes_without_reachable_ends_are_freed() {
    isolated!({
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        until("only main is left", || census().objects == 0 && census().blocks.is_empty());
        let start = census();

        drop((0..20).map(|_| pipe::<u32, String>().unwrap()).collect::<Vec<_>>());
        until_as_before(&start);

        let (a, b) = pipe::<Vec<u8>, u32>().unwrap();
        a.send(vec![1; 5 << 20]).unwrap();
        b.send(5).unwrap();
        drop((a, b));
        until_as_before(&start);

        // An end travels through its own pipe: first the sending end, then the receiving end.
        for other in [false, true] {
            let (a, b) = own();
            let sent = Own(if other { b.0.clone() } else { a.0.clone() });
            a.0.send(sent).map_err(drop).unwrap();
            assert!(census().objects > start.objects);
            drop((a, b));
            until_as_before(&start);
        }
        let (a, b) = own();
        a.0.send(Own(a.0.clone())).map_err(drop).unwrap();
        drop(a);
        let again = b.0.recv().unwrap();
        assert!(!b.0.is_closed(), "the end was in transit");
        drop(again);
        until("the end is gone", || b.0.is_closed());
        drop(b);
        until_as_before(&start);

        // Two pipes that hold each other.
        let ((a, b), (c, d)) = (own(), own());
        a.0.send(c).map_err(drop).unwrap();
        d.0.send(b).map_err(drop).unwrap();
        drop((a, d));
        until_as_before(&start);

        // Does the same in processes that are killed.
        for _ in 0..10 {
            let (here, there) = own();
            let holds = |end: Own| {
                let (mine, theirs) = own();
                let _ = end.0.send(theirs);
                let _ = end.0.send(Own(end.0.clone()));
                forever();
                drop((end, mine));
            };
            let p = Process::builder().daemon(true).spawn(holds, (there,)).unwrap();
            let received = here.0.recv().unwrap();
            kill(&p);
            drop(p);
            until("the end is gone", || received.0.is_closed());
            drop((here, received));
            until_as_before(&start);
        }
    });
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Makes SIGUSR1 interrupt system calls.
fn be_interrupted() {
    // SAFETY: a zeroed action is a valid one, with no flags; the handler adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_interrupt_no_operation() {
    let _dog = watched();
    type End = Connection<Vec<u8>, u32>;
    let (here, there) = pipe::<u32, Vec<u8>>().unwrap();
    let receives = |end: End| {
        be_interrupted();
        (end.recv(), SIGNALS.load(Ordering::SeqCst))
    };
    let sends = |end: End| {
        be_interrupted();
        let sent = (0..20).filter(|_| end.send(vec![7; PIECE]).is_ok()).count();
        (sent, SIGNALS.load(Ordering::SeqCst))
    };
    let joins = |p: Process<()>| {
        be_interrupted();
        (p.join().is_err(), SIGNALS.load(Ordering::SeqCst))
    };
    let sleeper = sleeper();
    let (receiver, sender) = (asleep(receives, (there.clone(),)), asleep(sends, (there,)));
    let joiner = asleep(joins, (sleeper.clone(),));
    for _ in 0..20 {
        for pid in [receiver.pid(), sender.pid(), joiner.pid()] {
            send(pid.unwrap(), libc::SIGUSR1);
            procession_testkit::wait_until_parked(pid.unwrap());
        }
    }
    here.send(5).unwrap();
    let (received, signals) = receiver.join().unwrap();
    assert!(received == Ok(5) && signals > 0, "{received:?} after {signals}");
    assert!((0..20).all(|_| here.recv().unwrap() == [7; PIECE]));
    let (sent, signals) = sender.join().unwrap();
    assert!(sent == 20 && signals > 0);
    kill(&sleeper);
    let (joined, signals) = joiner.join().unwrap();
    assert!(joined && signals > 0);
}
