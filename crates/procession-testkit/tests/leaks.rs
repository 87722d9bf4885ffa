//! The audit names what was leaked.
#![allow(unsafe_code, reason = "leaks on purpose")]

mod toy;

use std::fs::File;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use procession_testkit::{Audit, Child, CrashStep, isolated, spawn_parked};
use toy::{Bug, memory, toy};

const AT_ONCE: Duration = Duration::ZERO;

fn complaint(audit: &Audit) -> String {
    let look = std::panic::AssertUnwindSafe(|| audit.assert_back_within(AT_ONCE));
    let error = std::panic::catch_unwind(look).expect_err("the leak is detected");
    error.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn a_leaked_descriptor_is_named() {
    isolated!({
        let audit = Audit::start(None);
        let file = File::open("/dev/zero").unwrap();
        assert!(complaint(&audit).contains("-> /dev/zero"));
        drop(file);
        audit.assert_back();
    });
}

#[test]
fn a_leaked_child_is_named() {
    isolated!({
        let audit = Audit::start(None);
        let child = Child::spawn(|| {
            loop {
                std::thread::park()
            }
        });
        assert!(complaint(&audit).contains(&format!("1 processes: {}", child.pid)));
        drop(child);
        audit.assert_back();
    });
}

#[test]
fn leaked_memory_is_counted() {
    isolated!({
        let arena = memory();
        toy(arena).lock.store(0, SeqCst);
        let audit = Audit::start(Some(arena));
        // SAFETY: inside the mapping, and used by no other process.
        unsafe { arena.addr.add(1 << 20).write(1) };
        assert!(complaint(&audit).contains("4096 bytes of shared memory"));
        audit.allow_bytes(4096).assert_back();
        let audit = Audit::start(None);
        memory();
        let text = complaint(&audit);
        assert!(text.contains("memfd:toy") && text.contains("1 shared mappings"), "{text}");
    });
}

#[test]
fn a_leaked_file_is_named() {
    isolated!({
        let audit = Audit::start(None);
        let path = std::env::temp_dir().join("left behind");
        File::create(&path).unwrap();
        assert!(complaint(&audit).contains("left behind"));
        std::fs::remove_file(path).unwrap();
        audit.assert_back();
    });
}

#[test]
fn the_testkit_itself_leaks_nothing() {
    isolated!({
        let arena = memory();
        toy(arena).lock.store(0, SeqCst);
        let audit = Audit::start(Some(arena)).allow_bytes(8192);
        let put = |gate: &procession_testkit::Gate| {
            gate.begin();
            toy(arena).put(0, &[1, 2], Bug::None);
            gate.end();
        };
        CrashStep::new(arena).run(put, |_| toy(arena).recovered(0).map(drop)).assert_sound();
        let sleep = || {
            toy::futex_wait(&toy(arena).lock, 0);
        };
        drop(spawn_parked(sleep));
        audit.assert_back();
    });
}
