//! A process that checks one crashed state and is thrown away.
#![allow(unsafe_code, reason = "an alarm against hangs")]

use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::child::{Child, PANIC_CODE, describe};
use crate::report::Point;
use crate::report_page::{ENDED, ReportPage};
use crate::snapshot::Snapshot;

pub(crate) struct Checker<P> {
    report_page: Arc<ReportPage>,
    limit: Duration,
    probe: P,
}

impl<P: Fn(&Snapshot, &Point) -> Result<(), String>> Checker<P> {
    pub(crate) fn new(limit: Duration, probe: P) -> Checker<P> {
        Checker { report_page: Arc::new(ReportPage::new()), limit, probe }
    }

    /// Forks a checker and returns its answer.
    pub(crate) fn ask(&self, snapshot: &Snapshot, point: &Point) -> Result<(), String> {
        self.report_page.clear();
        let mut run = Some(|| {
            die_after(self.limit);
            if let Err(why) = (self.probe)(snapshot, point) {
                self.report_page.say(&why);
            }
            self.report_page.enter(ENDED);
        });
        let status = Child::spawn_telling(&self.report_page, &mut run).wait_forever();
        let text = self.report_page.text();
        match status {
            0 if self.report_page.phase() == ENDED && text.is_empty() => Ok(()),
            0 if self.report_page.phase() == ENDED => Err(text),
            _ if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM => {
                Err(format!("the checker hangs for more than {:?} {text}", self.limit))
            }
            _ if status == PANIC_CODE << 8 => Err(format!("the checker {text}")),
            _ => Err(format!("the checker {} without an answer {text}", describe(status))),
        }
    }
}

/// Called in a checker. SIGALRM ends the checker after `limit`, so the test process need not watch the clock.
fn die_after(limit: Duration) {
    let it_value = libc::timeval {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(limit.subsec_micros()),
    };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: never, it_value };
    // SAFETY: sets the default disposition of one signal, unblocks it and starts a timer, all in this
    // process.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        let mut alarm = std::mem::zeroed();
        libc::sigemptyset(&mut alarm);
        libc::sigaddset(&mut alarm, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_UNBLOCK, &alarm, ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut());
    }
}
