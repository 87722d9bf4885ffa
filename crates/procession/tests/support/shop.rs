//! What the crash tests of pools share: a pool without workers, and a victim that acts as a worker.

#![allow(dead_code, reason = "each test file uses a part of it")]

use procession::Lock;
use procession::internals;
use procession::pool::manual_pool::ManualPool;
use procession_testkit::{CrashStep, Gate, Report};

use crate::support::*;

pub type Checked = Result<(), String>;

/// Creates an empty pool whose tasks are retried `retries` times. First performs each operation of the tests
/// once, so that this process already has the memory that they need.
pub fn workshop_with(retries: u32) -> ManualPool {
    arena();
    open([VICTIM, OTHER]);
    let shop = ManualPool::new(retries).expect("a workshop");
    for _ in 0..2 {
        drop(shop.submit(small, (1, 2)));
        drop(shop.submit(large, (1,)));
        drop(shop.submit(named, ("x".into(),)));
        let mut numbers = shop.map(small_item, vec![1, 2, 3]);
        let mut strings = shop.map(large_item, vec![1, 2, 3]);
        while shop.work_once() {}
        drop((numbers.results().expect("numbers"), strings.results().expect("strings")));
    }
    assert!(shop.is_empty());
    internals::collect_if_wanted();
    shop
}

pub fn workshop() -> ManualPool {
    workshop_with(1)
}

pub fn small(a: u32, b: u32) -> u32 {
    a + b
}

pub fn large(n: u32) -> Vec<u32> {
    vec![n; 20]
}

pub fn named(name: String) -> Lock {
    Lock::labeled(&name).expect("a lock")
}

pub fn small_item(n: u64) -> u64 {
    n + 1
}

pub fn large_item(n: u32) -> String {
    format!("{n} is a number of this length")
}

/// Opens spans of small blocks for this process, as if it had already run tasks. Other tests cover opening
/// spans.
pub fn warm_up() {
    internals::register_thread();
    for bytes in [16, 32, 48, 80, 112, 176, 240, 368] {
        internals::free(internals::reserve(bytes).expect("a small block"));
    }
}

/// Kills the victim at every instruction of `act`, and runs `check` after each death.
pub fn stepped(shop: &ManualPool, act: impl Fn(&ManualPool), check: impl Fn() -> Checked) -> Report {
    let victim = |gate: &Gate| {
        internals::become_member(VICTIM);
        let shop = shop.held_here().expect("its own handle");
        warm_up();
        gate.begin();
        act(&shop);
        gate.end();
        std::mem::forget(shop);
    };
    CrashStep::new(arena()).run(victim, |_| {
        internals::recover(VICTIM);
        nothing_in(VICTIM)?;
        check()
    })
}
