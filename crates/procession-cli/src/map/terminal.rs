//! [`Terminal`]: the terminal, for commands that want it and for questions.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use procession_launch::give_terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use rustix::termios::tcgetpgrp;

use super::signals::Signals;
use crate::screen::Failed;

pub struct Terminal {
    file: File,
    /// The process group to which the terminal belongs when no command has it.
    owner: Pid,
}

impl Terminal {
    /// Opens the terminal of this session. This process's group is its owner.
    pub fn open() -> Result<Terminal, Failed> {
        let file = File::options().read(true).write(true).open("/dev/tty");
        let file = file.map_err(|e| format!("there is no terminal: /dev/tty: {e}"))?;
        Ok(Terminal { file, owner: getpgrp() })
    }

    pub fn stream(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes the foreground back from a command.
    pub fn take_back(&self) -> io::Result<()> {
        give_terminal(self.stream(), self.owner.as_raw_nonzero().get())
    }

    /// Returns the foreground to a command, if this run still has it.
    pub fn give(&self, group: i32) -> io::Result<()> {
        match tcgetpgrp(&self.file)? == self.owner {
            true => give_terminal(self.stream(), group),
            false => Ok(()),
        }
    }

    /// Stops every process in the owner's group, as Ctrl-Z would if no command had the foreground.
    pub fn stop_owner(&self) {
        let _ = kill_process_group(self.owner, Signal::TSTP);
    }

    /// Asks the user whether a command is to run. Returns `None` if a signal came.
    pub fn ask(&self, command: &[u8], signals: &mut Signals) -> io::Result<Option<bool>> {
        let mut file = &self.file;
        file.write_all(&[command, b" ?..."].concat())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut fds = [
                PollFd::from_borrowed_fd(self.stream(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.bell(), PollFlags::IN),
            ];
            let _ = poll(&mut fds, None);
            let is_answered = !fds[0].revents().is_empty();
            signals.read();
            if signals.has_request() {
                return Ok(None);
            }
            if !is_answered {
                continue;
            }
            let mut buffer = [0; 256];
            match file.read(&mut buffer)? {
                0 => break,
                length => answer.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(Some(answer.first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'y'))))
    }
}
