//! `Mutex<T>` and `Array<T>`: plain data in shared memory, under a lock.

use std::thread;
use std::time::Duration;

use crate::family::*;
use bytemuck::{Pod, Zeroable};
use procession::state::Array;
use procession::sync::{Event, LockError, Mutex};
use procession::{Error, Process};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Point {
    x: f64,
    y: f32,
    n: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
struct Aligned([u64; 8]);

#[test]
fn values_of_all_sizes_keep_what_was_written() {
    let _dog = watched();
    let (byte, point) = (Mutex::new(7u8).unwrap(), Mutex::new(Point { x: 0.5, y: 2.0, n: 3 }).unwrap());
    let (aligned, nothing) = (Mutex::new(Aligned([1; 8])).unwrap(), Mutex::new([0u8; 0]).unwrap());
    let large = Mutex::new([5u64; 10_000]).unwrap();
    let double =
        |byte: Mutex<u8>, point: Mutex<Point>, aligned: Mutex<Aligned>, large: Mutex<[u64; 10_000]>| {
            *byte.lock().unwrap() *= 2;
            point.lock().unwrap().x *= 2.0;
            aligned.lock().unwrap().0[7] = 9;
            large.lock().unwrap()[9999] = 1;
        };
    let p = Process::spawn(double, (byte.clone(), point.clone(), aligned.clone(), large.clone())).unwrap();
    p.join().unwrap();
    assert_eq!(*byte.lock().unwrap(), 14);
    let copy = *point.lock().unwrap();
    point.lock().unwrap().n = 0;
    assert_eq!(copy, Point { x: 1.0, y: 2.0, n: 3 }, "a copy is independent");
    assert_eq!(*aligned.lock().unwrap(), Aligned([1, 1, 1, 1, 1, 1, 1, 9]));
    assert_eq!((&raw const *aligned.lock().unwrap()).addr() % 64, 0);
    assert_eq!(large.lock().unwrap().iter().sum::<u64>(), 5 * 9999 + 1);
    assert_eq!(nothing.lock().unwrap().len(), 0);
}

#[test]
fn no_increment_is_lost_between_processes_and_threads() {
    let _dog = watched();
    let count = Mutex::labeled("count", 0u64).unwrap();
    assert_eq!(count.name(), "count");
    let add = |count: Mutex<u64>| (0..5000).for_each(|_| *count.lock().unwrap() += 1);
    let processes: Vec<_> = (0..3).map(|_| Process::spawn(add, (count.clone(),)).unwrap()).collect();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let count = count.clone();
            thread::spawn(move || add(count))
        })
        .collect();
    processes.iter().for_each(|p| p.join().unwrap());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(*count.lock().unwrap(), 25_000);
}

#[test]
fn every_form_of_locking_a_held_mutex_fails() {
    let _dog = watched();
    let mutex = Mutex::new(1i16).unwrap();
    let held = mutex.lock().unwrap();
    assert!(format!("{held:?} {mutex:?}").contains("main (pid") && mutex.is_locked());
    let other = mutex.clone();
    let refusals = thread::spawn(move || {
        let now = std::time::Instant::now();
        [
            other.try_lock().err(),
            other.lock_timeout(Duration::from_millis(5)).err(),
            other.lock_deadline(now).err(),
            other.try_lock_or_recover().err(),
            other.lock_or_recover_timeout(Duration::ZERO).err(),
            other.lock_or_recover_deadline(now).err(),
        ]
    });
    let (would_block, late) = (Some(LockError::WouldBlock), Some(LockError::TimedOut));
    let expected = [would_block.clone(), late.clone(), late.clone(), would_block, late.clone(), late];
    assert_eq!(refusals.join().unwrap(), expected);
    assert!(matches!(mutex.lock().err(), Some(LockError::Deadlock { .. })));
}

#[test]
fn a_death_inside_poisons_the_data_and_keeps_what_was_written() {
    let _dog = watched();
    let (pair, array) = (Mutex::new([0u64; 2]).unwrap(), Array::from_slice(&[0u8; 2]).unwrap());
    let half = |pair: Mutex<[u64; 2]>, array: Array<u8>| -> () {
        let (mut pair, mut array) = (pair.lock().unwrap(), array.lock().unwrap());
        (pair[0], array[0]) = (1, 1);
        std::process::abort();
    };
    let p = Process::spawn(half, (pair.clone(), array.clone())).unwrap();
    p.join().unwrap_err();
    assert!(matches!(pair.lock().err(), Some(LockError::OwnerDied(who)) if Some(who.pid) == p.pid()));
    assert!(matches!(array.lock().err(), Some(LockError::OwnerDied(_))));
    let (mut torn, mut halves) = (pair.lock_or_recover().unwrap(), array.lock_or_recover().unwrap());
    assert!(torn.recovered_from().is_some() && halves.recovered_from().is_some());
    assert_eq!((*torn, halves.to_vec()), ([1, 0], vec![1, 0]));
    (torn[1], halves[1]) = (1, 1);
    drop((torn, halves));
    assert_eq!(*pair.lock().unwrap(), [1, 1]);
    array.lock().unwrap().poison();
    assert!(matches!(array.lock().err(), Some(LockError::Panicked(_))));
}

#[test]
fn an_array_can_be_used_as_a_slice() {
    let _dog = watched();
    let array = Array::from_slice(&[3i32, 1, 2]).unwrap();
    assert_eq!((array.len(), array.is_empty()), (3, false));
    let sums = |array: Array<i32>| {
        let mut array = array.lock().unwrap();
        for i in 1..array.len() {
            array[i] += array[i - 1];
        }
    };
    Process::spawn(sums, (array.clone(),)).unwrap().join().unwrap();
    let mut held = array.lock().unwrap();
    assert_eq!(*held, [3, 4, 6]);
    held[1..].copy_from_slice(&[0, 0]);
    held.sort();
    assert_eq!(format!("{held:?}"), "[0, 0, 3]");
    drop(held);
    assert!(Array::<u8>::new(0).unwrap().is_empty());
    assert!(matches!(Array::<[u8; 0]>::new(1), Err(Error::InvalidArgument(_))));
}

/// This holds even if the memory of the array was used before.
#[test]
fn an_array_created_by_length_is_zero() {
    let _dog = watched();
    for len in [10, 5000, 100_000] {
        for _ in 0..3 {
            let array = Array::<u64>::new(len).unwrap();
            assert!(array.lock().unwrap().iter().all(|&n| n == 0));
            array.lock().unwrap().fill(u64::MAX);
        }
    }
}

#[test]
fn an_array_that_does_not_fit_is_an_error() {
    let _dog = watched();
    for len in [1 << 40, usize::MAX] {
        assert!(matches!(Array::<u64>::new(len), Err(Error::Full(text)) if text.contains("MiB")));
    }
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem")).expect("the kernel counts it");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// The array has four GiB, of which the test touches a few pages. Skipped on machines with less than eight
/// GiB.
#[test]
fn a_huge_array_takes_only_the_pages_that_are_touched() {
    let _dog = watched();
    let before = resident_kb();
    let len = 4usize << 30;
    let array = match Array::<u8>::new(len) {
        Ok(array) => array,
        Err(Error::Full(why)) => return println!("skipped: {why}"),
        Err(other) => panic!("{other}"),
    };
    let ends = |array: Array<u8>| {
        let mut held = array.lock().unwrap();
        let last = held.len() - 1;
        (held[0], held[last]) = (1, 2);
    };
    Process::spawn(ends, (array.clone(),)).unwrap().join().unwrap();
    let held = array.lock().unwrap();
    assert_eq!((held[0], held[len / 2], held[len - 1]), (1, 0, 2));
    assert!(resident_kb() < before + (64 << 10), "{} KiB are resident", resident_kb());
}

#[test]
fn handles_can_be_sent_and_keep_the_data() {
    let _dog = watched();
    let make = || (Mutex::new(5u32).unwrap(), Array::from_slice(&[1u8, 2]).unwrap());
    let (mutex, array) = Process::spawn(make, ()).unwrap().join().unwrap();
    assert_eq!((*mutex.lock().unwrap(), array.lock().unwrap().to_vec()), (5, vec![1, 2]));
    let ready = Event::new().unwrap();
    let back = |handles: Vec<Mutex<u32>>, ready: Event| {
        *handles[0].lock().unwrap() = 6;
        ready.set().unwrap();
        handles
    };
    let p = Process::spawn(back, (vec![mutex.clone(), mutex.clone()], ready.clone())).unwrap();
    ready.wait().unwrap();
    drop(mutex);
    assert_eq!(*p.join().unwrap()[1].lock().unwrap(), 6);
}
