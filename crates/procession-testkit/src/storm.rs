//! Random kills at random moments.
#![allow(unsafe_code, reason = "pidfds")]

use std::hint;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use crate::proc;
use crate::rng::Rng;

/// A storm of SIGKILLs.
pub struct Storm {
    rng: Rng,
    roots: Vec<i32>,
    longest_wait: Duration,
    kills: Vec<i32>,
}

impl Storm {
    /// Returns a storm that makes the same choices for the same seed. The moment of each kill still depends
    /// on the machine.
    pub fn seeded(seed: u64) -> Storm {
        Storm::with(Rng::seeded(seed))
    }

    /// Returns a storm that makes its choices with these random numbers. See [`Rng::fresh`].
    pub fn with(rng: Rng) -> Storm {
        let roots = vec![std::process::id() as i32];
        Storm { rng, roots, longest_wait: Duration::from_micros(500), kills: Vec::new() }
    }

    /// Allows kills of descendants of `pid`, such as a helper that is not a descendant of this process.
    pub fn also_below(mut self, pid: i32) -> Storm {
        self.roots.push(pid);
        self
    }

    /// Sets the maximum of the random time before each kill. The default is 500 µs.
    pub fn longest_wait(mut self, limit: Duration) -> Storm {
        self.longest_wait = limit;
        self
    }

    /// Kills one of `candidates` after a random time, and returns its process id. Returns `None` without a
    /// kill if the chosen process is gone, or is not below this process or an [added one](Storm::also_below).
    pub fn kill_one(&mut self, candidates: &[i32]) -> Option<i32> {
        let pid = self.rng.pick(candidates)?;
        self.pause();
        let pidfd = open(pid)?;
        // The ancestry is looked up after the descriptor is open, so the descriptor and `/proc` refer to the same
        // process while it lives.
        let allowed = self.roots.iter().any(|&root| proc::descends_from(pid, root));
        if !allowed || proc::gone(pid) || !kill(&pidfd) {
            return None;
        }
        self.kills.push(pid);
        Some(pid)
    }

    /// Kills `count` processes. Before each kill, `candidates` returns the processes to choose from.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    pub fn kill_many(&mut self, count: usize, deadline: Duration, mut candidates: impl FnMut() -> Vec<i32>) {
        let start = Instant::now();
        let enough = self.kills.len() + count;
        while self.kills.len() < enough {
            let missing = enough - self.kills.len();
            assert!(start.elapsed() < deadline, "{missing} kills of {count} are missing after {deadline:?}");
            if self.kill_one(&candidates()).is_none() {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }

    /// Returns the processes that were killed so far, in order.
    pub fn kills(&self) -> &[i32] {
        &self.kills
    }

    /// Returns the random numbers, so that a test's other decisions can depend on the same seed.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Spins, because a sleep would tend to end at a tick of the clock.
    fn pause(&mut self) {
        let wait = Duration::from_nanos(self.rng.below(self.longest_wait.as_nanos() as u64 + 1));
        let start = Instant::now();
        while start.elapsed() < wait {
            hint::spin_loop();
        }
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: just opened, and owned by no other value.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn kill(pidfd: &OwnedFd) -> bool {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: the null pointer asks for the usual information about the sender.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, no_info, 0) == 0 }
}
