//! [`give_terminal()`]: moves the foreground of a terminal.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::signals::AllBlocked;

/// Makes a process group of this session the foreground of its terminal.
///
/// A background process that does this would be stopped by SIGTTOU, so the signal is blocked meanwhile.
///
/// # Errors
///
/// The terminal does not belong to this session, or the group is not in this session.
pub fn give_terminal(terminal: BorrowedFd<'_>, group: i32) -> io::Result<()> {
    let _blocked = AllBlocked::enter();
    // SAFETY: a plain system call with integers.
    match unsafe { libc::tcsetpgrp(terminal.as_raw_fd(), group) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
