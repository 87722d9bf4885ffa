//! [`Terminal`]: the terminal, for commands that want it and for questions.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use procession_launch::give_terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcgetpgrp;

use super::kinship::Kinship;
use super::signals::Signals;
use crate::screen::Failed;

pub struct Terminal {
    file: File,
    /// The process group to which the terminal belongs when no command has it. `None` if no command ever has it.
    owner: Option<Pid>,
}

impl Terminal {
    /// Opens the terminal of this session. If commands are to have it, this process's group is its owner.
    pub fn open(is_lent: bool) -> Result<Terminal, Failed> {
        let file = File::options().read(true).write(true).open("/dev/tty");
        let file = file.map_err(|e| format!("there is no terminal: /dev/tty: {e}"))?;
        let owner = if is_lent { Some(own_group()?) } else { None };
        Ok(Terminal { file, owner })
    }

    pub fn stream(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes the foreground back from a command.
    pub fn take_back(&self) -> io::Result<()> {
        match self.owner {
            Some(owner) => give_terminal(self.stream(), owner.as_raw_pid()),
            None => Ok(()),
        }
    }

    /// Returns the foreground to a command, if this run still has it.
    pub fn give(&self, group: i32) -> io::Result<()> {
        match self.owner == Some(tcgetpgrp(&self.file)?) {
            true => give_terminal(self.stream(), group),
            false => Ok(()),
        }
    }

    /// Stops every process in the owner's group, as Ctrl-Z would if no command had the foreground.
    pub fn stop_owner(&self) {
        if let Some(owner) = self.owner {
            let _ = kill_process_group(owner, Signal::TSTP);
        }
    }

    /// Asks the user whether a command is to run. Returns `None` if a signal came.
    pub fn ask(&self, command: &[u8], signals: &mut Signals) -> io::Result<Option<bool>> {
        let mut file = &self.file;
        file.write_all(&[command, b" ?..."].concat())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut fds = [
                PollFd::from_borrowed_fd(self.stream(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN),
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

/// Returns the group of this process. The terminal can be given to a group that has an id in this PID namespace.
fn own_group() -> Result<Pid, Failed> {
    let group = Kinship::own().and_then(|own| Pid::from_raw(own.group));
    group.ok_or_else(|| {
        "--tty: this process's group began outside this PID namespace, so the terminal could not be given back to it; \
         start the run in a group of its own, such as with setsid --ctty"
            .into()
    })
}
