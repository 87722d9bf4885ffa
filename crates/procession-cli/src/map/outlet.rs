//! [`Outlet`]: standard output and standard error, written without waiting for their readers.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use rustix::fs::OFlags;

use super::progress::Bar;
use super::spool::Spool;

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Out = 0,
    Err = 1,
}

enum Piece {
    Bytes(Vec<u8>),
    Spool(Spool),
}

/// A pipe that is ready takes this much without blocking.
const PIPE_BYTES: usize = 4096;
/// While more bytes than this are in memory, no live output is read from commands.
const ENOUGH: usize = 1 << 20;

pub struct Outlet {
    sinks: [Sink; 2],
    queue: VecDeque<(Target, Piece)>,
    /// The piece that is being written, and how many of its bytes are written.
    now: Option<(Target, Vec<u8>, usize)>,
    /// Bytes of the queue that are in memory, without spools.
    waiting: usize,
    bar: Bar,
    /// Whether each target has lost its reader or had a write error.
    closed: [bool; 2],
}

impl Outlet {
    pub fn new(bar: Bar) -> io::Result<Outlet> {
        let sinks = [Sink::new(io::stdout().as_fd())?, Sink::new(io::stderr().as_fd())?];
        Ok(Outlet { sinks, queue: VecDeque::new(), now: None, waiting: 0, bar, closed: [false; 2] })
    }

    pub fn is_bar_enabled(&self) -> bool {
        self.bar.is_enabled()
    }

    pub fn bar(&mut self) -> &mut Bar {
        &mut self.bar
    }

    pub fn push(&mut self, target: Target, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.closed[target as usize] {
            self.waiting += bytes.len();
            self.queue.push_back((target, Piece::Bytes(bytes)));
        }
    }

    pub fn push_spool(&mut self, target: Target, spool: Spool) {
        if spool.length() > 0 && !self.closed[target as usize] {
            self.queue.push_back((target, Piece::Spool(spool)));
        }
    }

    /// Returns whether the reader is too slow.
    pub fn is_congested(&self) -> bool {
        self.waiting > ENOUGH
    }

    /// Returns the descriptor to wait for before the next [`write`](Self::write); `None` when all is written.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        let target = self.now.as_ref().map(|now| now.0).or(self.queue.front().map(|next| next.0))?;
        Some(self.sinks[target as usize].file.as_fd())
    }

    /// Writes what can be written without waiting.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written. Errors of standard error are ignored: there is no place to report them.
    pub fn write(&mut self) -> io::Result<()> {
        while self.load()? {
            let Some((target, bytes, written)) = &mut self.now else { break };
            let sink = &mut self.sinks[*target as usize];
            if sink.is_terminal {
                self.bar.hide();
            }
            match sink.write(&bytes[*written..]) {
                Ok(length) => {
                    *written += length;
                    if sink.is_terminal {
                        self.bar.note_end(bytes[*written - 1]);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if *target == Target::Out => return Err(e),
                Err(_) => *written = bytes.len(),
            }
        }
        Ok(())
    }

    /// Loads the next piece to be written. Returns false if there is none.
    fn load(&mut self) -> io::Result<bool> {
        loop {
            match &self.now {
                Some((_, bytes, written)) if *written < bytes.len() => return Ok(true),
                _ => self.now = None,
            }
            match self.queue.front_mut() {
                None => return Ok(false),
                Some((target, Piece::Spool(spool))) => {
                    let (target, bytes) = (*target, spool.take()?);
                    match bytes.is_empty() {
                        true => drop(self.queue.pop_front()),
                        false => self.now = Some((target, bytes, 0)),
                    }
                }
                Some((target, Piece::Bytes(bytes))) => {
                    let (target, bytes) = (*target, std::mem::take(bytes));
                    self.waiting -= bytes.len();
                    self.queue.pop_front();
                    self.now = Some((target, bytes, 0));
                }
            }
        }
    }

    /// Drops output that is not yet written, and all later output.
    pub fn close(&mut self, which: Target) {
        self.closed[which as usize] = true;
        self.now.take_if(|(target, ..)| *target == which);
        self.queue.retain(|(target, _)| *target != which);
        let bytes = |piece: &Piece| if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 };
        self.waiting = self.queue.iter().map(|(_, piece)| bytes(piece)).sum();
    }
}

struct Sink {
    file: File,
    /// The maximum number of bytes of one write.
    most: usize,
    is_terminal: bool,
}

impl Sink {
    fn new(stream: BorrowedFd<'_>) -> io::Result<Sink> {
        let file = File::from(stream.try_clone_to_owned()?);
        let (kind, is_terminal) = (file.metadata()?.file_type(), file.is_terminal());
        if !(kind.is_fifo() || kind.is_socket() || is_terminal) {
            return Ok(Sink { file, most: usize::MAX, is_terminal });
        }
        // Setting O_NONBLOCK here would set it for every process that shares the open file. Opening the file
        // again creates an open file that only this process has.
        Ok(match reopened(stream) {
            Ok(file) => Sink { file: file.into(), most: usize::MAX, is_terminal },
            Err(_) => Sink { file, most: PIPE_BYTES, is_terminal },
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.most == PIPE_BYTES && !is_writable(self.file.as_fd()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.file.write(&bytes[..bytes.len().min(self.most)]) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

fn reopened(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
    Ok(OpenOptions::new().write(true).custom_flags(flags).open(path)?.into())
}

fn is_writable(stream: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
