//! Why a process that main launched ended before it became a supervisor.
//!
//! Until the process is a supervisor, its standard error is a file in memory: the transcript. The loader and
//! constructors write to this file. A new supervisor copies the transcript to main's standard error and seals
//! the file. If the process ends before that, main reads the file, and the text becomes part of the error.
//!
//! A library in `LD_PRELOAD` may refer to symbols that only some programs have. Such a library works if the
//! loader looks symbols up when they are first called. It fails with
//! [`BIND_NOW`](crate::os::launch::BIND_NOW), which a launch adds. So a launch that fails before the
//! program's own code has run is repeated once without `BIND_NOW`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::{hook, preload};
use crate::Error;
use crate::os::launch::Launched;
use crate::os::process::Ended;
use crate::os::{ended, fd, memory, process};

/// The maximum number of bytes from the end of the transcript that an error quotes.
const QUOTED: u64 = 700;

/// The standard error of the launched process until it is the supervisor.
pub(super) struct Transcript(File);

impl Transcript {
    /// Creates an empty transcript. Returns `None` if the kernel refuses to create it. The launched process
    /// then has main's standard error.
    pub(super) fn create() -> Option<Transcript> {
        memory::memfd(c"procession-stderr").ok().map(|file| Transcript(file.into()))
    }

    pub(super) fn from_fd(file: OwnedFd) -> Transcript {
        Transcript(file.into())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Replaces the transcript by main's standard error and copies the text there. Then seals the file, so
    /// that a process that has kept it open cannot fill memory.
    pub(super) fn end(self, stderr: &OwnedFd) {
        let _ = fd::duplicate_onto(stderr.as_fd(), 2);
        let (mut bytes, mut at) = ([0; 4096], 0);
        while let Ok(len @ 1..) = self.0.read_at(&mut bytes, at) {
            process::write_without_waiting(2, &bytes[..len]);
            at += len as u64;
        }
        let _ = self.0.set_len(0);
        let _ = memory::seal_length(self.fd());
    }

    /// Returns the end of the text in one line.
    fn text(&self) -> String {
        let len = self.0.metadata().map_or(0, |file| file.len());
        let mut bytes = vec![0; len.min(QUOTED) as usize];
        let _ = self.0.read_exact_at(&mut bytes, len.saturating_sub(QUOTED));
        let text = String::from_utf8_lossy(&bytes);
        let cut = if len > QUOTED { "..." } else { "" };
        format!("{cut}{}", text.trim().replace('\n', " / "))
    }
}

/// A launch, until it is known to have succeeded.
pub(super) struct Attempt {
    transcript: Option<Transcript>,
    pid: i32,
    pidfd: Option<OwnedFd>,
    /// Whether the launch added `BIND_NOW`, which makes the loader look up every symbol.
    bound_now: bool,
}

/// Why an attempt failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Whether another attempt may succeed if the loader looks symbols up when they are called.
    pub(super) may_be_binding: bool,
}

impl Attempt {
    pub(super) fn new(transcript: Option<Transcript>, launched: &Launched, bound_now: bool) -> Attempt {
        let pidfd = fd::above_stdio_too(launched.pidfd.as_fd()).ok();
        Attempt { transcript, pid: launched.pid, pidfd, bound_now }
    }

    /// Returns why the launched process has ended. `socket` was connected to it.
    pub(super) fn failed(&self, socket: BorrowedFd<'_>) -> Failed {
        let unread = preload::hello_was_unread(socket);
        if let Some(preload::TemplateFailure::Refused(error)) = preload::template_failure(socket) {
            return Failed { error, may_be_binding: false };
        }
        let ran = match &self.transcript {
            Some(transcript) => memory::has_sealed_length(transcript.fd()),
            None => !unread,
        };
        if ran {
            return Failed { error: Error::FamilyLost, may_be_binding: false };
        }
        let text = self.transcript.as_ref().map_or(String::new(), Transcript::text);
        let ended = self.pidfd.as_ref().and_then(|pidfd| ended::how(self.pid, pidfd.as_fd()));
        // The loader exits with 127 when it gives up. It may also crash in code that chooses an
        // implementation of a function.
        let by_loader = matches!(ended, None | Some(Ended::Exited(127) | Ended::Signaled { .. }));
        let may_be_binding = self.bound_now && unread && by_loader && !hook::found_nothing(&text);
        Failed { error: describe(ended, &text), may_be_binding }
    }
}

fn describe(ended: Option<Ended>, text: &str) -> Error {
    let how = match ended {
        Some(Ended::Exited(code)) => format!("exited with code {code}"),
        Some(Ended::Signaled { signal, .. }) => format!("was killed by signal {signal}"),
        None => "ended (this kernel does not show how)".to_owned(),
    };
    let said = match text {
        "" => "It wrote nothing to its standard error".to_owned(),
        text => format!("It wrote: \"{text}\""),
    };
    let what_to_do = match ended {
        Some(Ended::Signaled { signal: libc::SIGKILL, .. }) => {
            "Another process killed it, or the kernel did because memory ran out or a limit is too low (`ulimit -v`, `ulimit -s`, the control group)"
        }
        Some(Ended::Signaled { signal: libc::SIGSYS, .. }) => {
            "A seccomp filter forbids a system call that it needs: allow it"
        }
        _ => {
            "The loader and all constructors run in it as they do in the program, with the same LD_PRELOAD, limits and files: see which of them fails there"
        }
    };
    let message = format!(
        "starting the supervisor: the program, executed again to be the supervisor, {how} before it got that far. {said}. {what_to_do}."
    );
    Error::Os { kind: "Other".into(), code: None, message }
}
