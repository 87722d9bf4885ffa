//! How much of the processors other programs used during a measurement.

use std::fs;
use std::time::{Duration, Instant};

/// The processor times that have been used until now.
pub struct Load {
    busy: f64,
    total: f64,
    ours: f64,
}

impl Load {
    /// Returns the processor times until now.
    pub fn now() -> Load {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let cpu = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            cpu.split_ascii_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        let total: f64 = ticks.iter().sum();
        // SAFETY: a plain call.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let ours = cpu_seconds(libc::RUSAGE_SELF) + cpu_seconds(libc::RUSAGE_CHILDREN);
        Load { busy: (total - idle) / per_second, total: total / per_second, ours }
    }

    /// Returns the share of all processors, 0 to 1, that other programs have used since `self` was taken.
    pub fn others_since(&self) -> f64 {
        let now = Load::now();
        let total = now.total - self.total;
        let others = (now.busy - self.busy) - (now.ours - self.ours);
        if total > 0.0 { (others / total).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// How long the benchmark still waits, in total, for other programs to leave the processors alone.
pub struct QuietWait(pub Duration);

impl QuietWait {
    /// Returns when other programs use less than a tenth of the processors, or when the time is used up.
    pub fn await_quiet(&mut self) {
        const LOOK: Duration = Duration::from_millis(200);
        while self.0 > Duration::ZERO {
            let (before, started) = (Load::now(), Instant::now());
            std::thread::sleep(LOOK.min(self.0));
            if before.others_since() < 0.1 {
                return;
            }
            self.0 = self.0.saturating_sub(started.elapsed());
        }
    }
}

/// Returns the processor time of this process, or of its descendants that were waited for.
fn cpu_seconds(whose: i32) -> f64 {
    // SAFETY: an all-zero `rusage` is valid and the kernel writes no more than its size.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Returns the average number of runnable processes of the last minute.
pub fn average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}
