//! How the library detects deaths: a process with a living thread is not dead, and a dying process is not
//! mistaken for a foreign one.
#![allow(unsafe_code, reason = "maps memory, ends threads")]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use procession::internals;
use procession_testkit::{Child, isolated, proc, watchdog};

const LONG: Duration = Duration::from_secs(20);

/// The first thread of a process may be gone while another thread runs its last instructions.
#[test]
fn a_process_with_a_living_thread_is_not_dead() {
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
        assert!(!internals::looks_dead(child.pid), "a thread of the process still runs");
        child.kill();
        assert!(internals::looks_dead(child.pid));
    });
}

#[test]
fn a_death_can_be_detected_without_descriptors() {
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
        // Takes every descriptor, so that none is left for reading /proc. A pidfd would need one too.
        let mut taken: Vec<File> = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        assert!(!internals::looks_dead(child.pid), "the death cannot be known");
        child.kill();
        assert!(internals::looks_dead(child.pid), "there is no such process");
    });
}

/// The list of a process's mappings is read in pieces, and the process dies between two pieces.
#[test]
fn a_process_that_dies_during_the_check_is_not_foreign() {
    isolated!({
        let _dog = watchdog(Duration::from_secs(60));
        // SAFETY: a new descriptor.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"seen".as_ptr(), 0)) };
        file.set_len(4096).unwrap();
        let inode = file.metadata().unwrap().ino();
        for _ in 0..20 {
            let mut child = Child::spawn(|| {
                // SAFETY: fresh mappings. The kernel places each mapping below the last, so the file comes last in the
                // list. It takes some milliseconds to list the others.
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
                // SAFETY: a child of this process that is not reaped yet.
                move || unsafe { libc::kill(pid, libc::SIGKILL) }
            });
            let end = std::iter::repeat_with(seen).find(|&seen| seen != Some(true));
            assert_eq!(end, Some(None), "the process was a member until its end");
            killer.join().unwrap();
            child.wait();
        }
    });
}
