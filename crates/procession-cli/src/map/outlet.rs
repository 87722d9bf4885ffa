//! [`Outlet`]: standard output and standard error, written without waiting for their readers.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use procession_launch::was_closed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::progress::Bar;
use super::spool::Spool;

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Out = 0,
    Err = 1,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The output of a command.
    Output(Target),
    /// A message of this program, on standard error. It starts a line of its own.
    Message,
}

impl Kind {
    pub fn target(self) -> Target {
        match self {
            Kind::Output(target) => target,
            Kind::Message => Target::Err,
        }
    }
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
    queue: VecDeque<(Kind, Piece)>,
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

    pub fn push(&mut self, kind: Kind, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.is_closed(kind.target()) {
            self.waiting += bytes.len();
            self.queue.push_back((kind, Piece::Bytes(bytes)));
        }
    }

    pub fn push_spool(&mut self, kind: Kind, spool: Spool) {
        if spool.length() > 0 && !self.is_closed(kind.target()) {
            self.queue.push_back((kind, Piece::Spool(spool)));
        }
    }

    /// Returns whether output for this target is dropped.
    pub fn is_closed(&self, target: Target) -> bool {
        self.closed[target as usize]
    }

    /// Returns standard output if its reader can leave, which then shows as a hang-up or an error.
    pub fn readable_stdout(&self) -> Option<BorrowedFd<'_>> {
        let sink = &self.sinks[Target::Out as usize];
        (sink.has_reader && !self.is_closed(Target::Out)).then(|| sink.file.as_fd())
    }

    /// Returns whether standard output has lost its reader.
    pub fn has_lost_reader(&self) -> bool {
        self.readable_stdout().is_some_and(|stdout| is_ready(stdout, PollFlags::empty()))
    }

    /// Returns whether the reader is too slow.
    pub fn is_congested(&self) -> bool {
        self.waiting > ENOUGH
    }

    /// Returns the descriptor to wait for before the next [`write`](Self::write); `None` when all is written.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        let target = self.now.as_ref().map(|now| now.0).or(self.queue.front().map(|next| next.0.target()))?;
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
                Some((kind, Piece::Spool(spool))) => {
                    let (target, bytes) = (kind.target(), spool.take()?);
                    let starts_line = *kind == Kind::Message;
                    // The rest of a message continues its line.
                    *kind = Kind::Output(target);
                    match bytes.is_empty() {
                        true => drop(self.queue.pop_front()),
                        false => self.now = Some((target, self.placed(bytes, starts_line), 0)),
                    }
                }
                Some((kind, Piece::Bytes(bytes))) => {
                    let (kind, bytes) = (*kind, std::mem::take(bytes));
                    self.waiting -= bytes.len();
                    self.queue.pop_front();
                    self.now = Some((kind.target(), self.placed(bytes, kind == Kind::Message), 0));
                }
            }
        }
    }

    /// Returns the bytes, after a newline if they start a line and the terminal's last line is unfinished.
    fn placed(&self, mut bytes: Vec<u8>, starts_line: bool) -> Vec<u8> {
        if starts_line && self.sinks[Target::Err as usize].is_terminal && self.bar.is_line_open() {
            bytes.insert(0, b'\n');
        }
        bytes
    }

    /// Drops output that is not yet written, and all later output.
    pub fn close(&mut self, which: Target) {
        self.closed[which as usize] = true;
        self.now.take_if(|(target, ..)| *target == which);
        self.queue.retain(|(kind, _)| kind.target() != which);
        let bytes = |piece: &Piece| if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 };
        self.waiting = self.queue.iter().map(|(_, piece)| bytes(piece)).sum();
    }
}

struct Sink {
    file: File,
    /// The maximum number of bytes of one write.
    most: usize,
    is_terminal: bool,
    /// Whether this is a pipe or a socket.
    has_reader: bool,
    /// Whether the stream was closed when this program started. Another file has its number now.
    was_closed: bool,
}

impl Sink {
    fn new(stream: BorrowedFd<'_>) -> io::Result<Sink> {
        let file = File::from(stream.try_clone_to_owned()?);
        let (kind, is_terminal) = (file.metadata()?.file_type(), file.is_terminal());
        let has_reader = kind.is_fifo() || kind.is_socket();
        let was_closed = was_closed(stream.as_raw_fd());
        let sink = Sink { file, most: usize::MAX, is_terminal, has_reader, was_closed };
        if !has_reader && !is_terminal {
            return Ok(sink);
        }
        // Setting O_NONBLOCK here would set it for every process that shares the open file. Opening the file
        // again creates an open file that only this process has.
        Ok(match reopened(stream) {
            Ok(file) => Sink { file: file.into(), ..sink },
            Err(_) => Sink { most: PIPE_BYTES, ..sink },
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.was_closed {
            return Err(io::Error::new(ErrorKind::NotConnected, "it is closed"));
        }
        if self.most == PIPE_BYTES && !is_ready(self.file.as_fd(), PollFlags::OUT) {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.file.write(&bytes[..bytes.len().min(self.most)]) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

fn reopened(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
    Ok(OpenOptions::new().write(true).custom_flags(flags).open(path)?.into())
}

/// Returns whether one of these events, an error or a hang-up is pending.
fn is_ready(stream: BorrowedFd<'_>, events: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stream, events)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
