//! How deaths are seen: who has not died altogether is not dead, and who is dying is no stranger.
#![allow(unsafe_code, reason = "maps memory, ends threads")]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use procession::internals;
use procession_testkit::{Child, isolated, proc, watchdog};

const LONG: Duration = Duration::from_secs(20);

/// As with threads of which the first is already gone while another still runs its last instructions.
#[test]
fn who_has_a_thread_left_is_not_dead() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(60));
        let mut child = Child::spawn(|| {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
            // SAFETY: ends this thread, and the process is killed later.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        proc::wait_until("the first thread has ended", LONG, || proc::state(child.pid) == Some('Z'));
        assert!(!internals::looks_dead(child.pid), "a thread of it is left");
        child.kill();
        assert!(internals::looks_dead(child.pid));
    });
}

#[test]
fn who_has_no_descriptor_left_sees_that_too() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 64)], {
        let _dog = watchdog(Duration::from_secs(60));
        let mut child = Child::spawn(|| {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        proc::wait_until("the first thread has ended", LONG, || proc::state(child.pid) == Some('Z'));
        // One is kept to look at /proc with, which a pidfd would need too.
        let mut taken: Vec<File> = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        assert!(!internals::looks_dead(child.pid), "it cannot be known");
        child.kill();
        assert!(internals::looks_dead(child.pid), "there is no such process");
    });
}

/// The list of what a process maps is read in pieces, and it dies between two of them.
#[test]
fn who_dies_while_it_is_looked_at_is_no_stranger() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(60));
        // SAFETY: a new descriptor.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"seen".as_ptr(), 0)) };
        file.set_len(4096).unwrap();
        let inode = file.metadata().unwrap().ino();
        for _ in 0..20 {
            let mut child = Child::spawn(|| {
                // SAFETY: fresh mappings. The kernel lays the next one below the last, so the file comes last
                // in the list, behind as many others as it takes some milliseconds to list.
                unsafe {
                    let at = libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_READ,
                        libc::MAP_SHARED,
                        file.as_raw_fd(),
                        0,
                    );
                    assert_ne!(at, libc::MAP_FAILED);
                    for i in 0..10_000 {
                        let protection = if i % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
                        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                        libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
                    }
                }
                loop {
                    std::thread::park();
                }
            });
            proc::wait_until("it sleeps", LONG, || proc::is_parked(child.pid));
            let seen = || internals::maps_memfd(child.pid, "seen", inode);
            assert_eq!(seen(), Some(true));
            let killer = std::thread::spawn({
                let pid = child.pid;
                // SAFETY: a child of ours that is not reaped yet.
                move || unsafe { libc::kill(pid, libc::SIGKILL) }
            });
            let end = std::iter::repeat_with(seen).find(|&seen| seen != Some(true));
            assert_eq!(end, Some(None), "it was ours until its end");
            killer.join().unwrap();
            child.wait();
        }
    });
}
