//! [`Running`]: a command that runs, or has ended but may still have unread output.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};

use super::job::Job;
use super::kinship::Kinship;
use super::outlet::Target;
use super::tally::End;

pub struct Running {
    pub job: Job,
    pub words: Vec<Vec<u8>>,
    pub pid: i32,
    pub slot: usize,
    pub started: Duration,
    pub start_time: SystemTime,
    /// The read ends of the command's standard output and error, until they are closed.
    pub streams: [Option<File>; 2],
    pub feed: Option<Feed>,
    /// The time limit of the command.
    pub limit: Option<Duration>,
    /// The time at which the command is killed, if it was asked to end.
    pub kill_at: Option<Duration>,
    pub cut: Option<Cut>,
    /// Descendants of the command that are killed when it has ended, if it was killed or has timed out.
    pub doomed: Option<Vec<Kinship>>,
    /// How the command ended, and how long it took.
    pub end: Option<(End, Duration)>,
    /// Until this time, output of processes that the command left behind is still read.
    pub grace: Duration,
}

/// Why a command was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    TimedOut,
    /// The run stops. The command counts as not done.
    Stopped,
}

/// The standard input of a command.
pub struct Feed {
    pub pipe: File,
    block: Rc<[u8]>,
    written: usize,
}

impl Feed {
    pub fn new(pipe: OwnedFd, block: Rc<[u8]>) -> Feed {
        Feed { pipe: pipe.into(), block, written: 0 }
    }

    /// Writes until the pipe is full. Returns false when everything is written or the reader is gone.
    pub fn write(&mut self) -> bool {
        while self.written < self.block.len() {
            match self.pipe.write(&self.block[self.written..]) {
                Ok(length) => self.written += length,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }
}

impl Running {
    pub fn runs(&self) -> bool {
        self.end.is_none()
    }

    /// Sends a signal to the command's process group. The process id of the command is not reused until the
    /// command is reaped.
    pub fn signal(&self, signal: Signal) {
        if self.runs()
            && let Some(group) = Pid::from_raw(self.pid)
        {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Returns the time of the next action that is due.
    pub fn due(&self) -> Option<Duration> {
        match self.runs() {
            false => Some(self.grace),
            true => self.kill_at.or(self.limit.map(|limit| self.started + limit)),
        }
    }

    pub fn has_open_streams(&self) -> bool {
        self.streams.iter().any(Option::is_some)
    }

    /// Reads once from a stream. Returns an empty slice if nothing is available. Closes the stream at its
    /// end.
    pub fn read<'b>(&mut self, target: Target, buffer: &'b mut [u8]) -> &'b [u8] {
        let stream = &mut self.streams[target as usize];
        let Some(file) = stream else { return &[] };
        match file.read(buffer) {
            Ok(length @ 1..) => &buffer[..length],
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => &[],
            Ok(0) | Err(_) => {
                *stream = None;
                &[]
            }
        }
    }
}
