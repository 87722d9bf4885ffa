//! Waiting for the end of a process, and reading how it ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;

use super::failure::{Failure, ProcessError};
use crate::arena::handle::Handle;
use crate::arena::process_body::{ProcessBody, RESULT, TEXT, detail, ending};
use crate::arena::thread::with_me;
use crate::arena::{Arena, heap, member, payload};
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::supervisor::crash_report::{PanicText, UnsendableText};
use crate::sync::raw::deadlock::Watch;
use crate::sync::raw::park::Wait;
use crate::{Error, Result, codec};

/// Waits until the process has ended. Returns false if the wait times out.
pub(super) fn wait(handle: &Handle, deadline: Deadline) -> Result<bool> {
    let arena = member::arena()?;
    let body: &ProcessBody = handle.body();
    if body.is_done() {
        return Ok(true);
    }
    let own = body.slot.load(Ordering::Relaxed) == member::slot()
        && body.incarnation.load(Ordering::Relaxed) == arena.incarnation(member::slot());
    if own && deadline.as_ns().is_none() {
        return Err(Error::InvalidArgument("a process cannot join itself: it would wait for ever".into()));
    }
    with_me(|me| {
        let mut watch = None;
        while !body.is_done() {
            if deadline.passed() {
                return Ok(false);
            }
            let watch = watch.get_or_insert_with(|| Watch::begin(deadline));
            let wait = Wait::announce_since(arena, me.record(), &body.done, watch.stamp());
            wait.sleep(&body.done, 0, watch.until(arena, deadline));
            if let Some(error) = watch.check(arena, me.owner() - 1) {
                return Err(error.into());
            }
        }
        Ok(true)
    })?
}

/// Returns the value that the function of an ended process returned, or the error that says how the process
/// failed.
pub(super) fn outcome<R: Message>(handle: &Handle) -> Result<R, ProcessError> {
    let body: &ProcessBody = handle.body();
    body.observed.store(1, Ordering::Relaxed);
    let arena = member::arena().map_err(|e| error(handle, Failure::Unknown { why: e.to_string() }))?;
    match body.ending.load(Ordering::Acquire) {
        ending::RETURNED | ending::FAILED => {
            let block = handle.object().blocks[RESULT].load(Ordering::Acquire);
            codec::unpack(arena, block).map_err(|e| {
                let text = payload::contents(arena, block).map_or_else(|_| String::new(), in_bytes);
                error(handle, Failure::Undecodable { why: e.to_string(), text })
            })
        }
        other => Err(error(handle, failure(arena, handle, body, other))),
    }
}

/// Returns how an ended process failed, or `None` if it did not fail.
pub(super) fn failure_of(handle: &Handle) -> Option<ProcessError> {
    let body: &ProcessBody = handle.body();
    body.observed.store(1, Ordering::Relaxed);
    let arena = member::arena().ok()?;
    match body.ending.load(Ordering::Acquire) {
        ending::RETURNED | ending::FAILED => None,
        other => Some(error(handle, failure(arena, handle, body, other))),
    }
}

fn error(handle: &Handle, failure: Failure) -> ProcessError {
    let pid = handle.body::<ProcessBody>().pid.load(Ordering::Relaxed);
    ProcessError::new(handle.object().name(), (pid != 0).then_some(pid.cast_unsigned()), failure)
}

fn failure(arena: &Arena, handle: &Handle, body: &ProcessBody, ended: u32) -> Failure {
    let (code, details) = (body.code.load(Ordering::Relaxed), body.details.load(Ordering::Relaxed));
    let bytes = match handle.object().blocks[TEXT].load(Ordering::Acquire) {
        0 => &[][..],
        at => payload::contents(arena, at).unwrap_or_default(),
    };
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match ended {
        ending::PANICKED if bytes.is_empty() => Failure::Panicked {
            message: "the message is in the error of the pool's task".into(),
            location: String::new(),
            backtrace: String::new(),
        },
        ending::PANICKED => {
            let (message, location, backtrace) = codec::from_slice::<PanicText>(bytes).unwrap_or_default();
            Failure::Panicked { message, location, backtrace }
        }
        ending::EXITED => Failure::Exited { code },
        ending::KILLED => Failure::Killed {
            signal: code,
            core_dumped: details & detail::CORE_DUMPED != 0,
            out_of_memory: details & detail::OUT_OF_MEMORY != 0,
            stack_overflow: details & detail::STACK_OVERFLOW != 0,
        },
        ending::LOST => Failure::FamilyLost,
        ending::UNDECODABLE if bytes.is_empty() => Failure::Undecodable {
            why: heap::why_no_room("the result when the process ended, nor for saying more,"),
            text: String::new(),
        },
        ending::UNDECODABLE => {
            let (why, text) = codec::from_slice::<UnsendableText>(bytes).unwrap_or_default();
            Failure::Undecodable { why, text }
        }
        _ if bytes.is_empty() => Failure::NotStarted {
            why: match code {
                signal if signal < 0 => {
                    format!("its process was killed by signal {}, and no other could be forked", -signal)
                }
                code => format!("its process ended with code {code} before its function was called"),
            },
        },
        _ => Failure::NotStarted { why: text() },
    }
}

/// Returns the first bytes of a value that cannot be decoded, as text.
fn in_bytes(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let cut = if bytes.len() > MOST { "…" } else { "" };
    format!("b\"{}\"{cut}", bytes[..bytes.len().min(MOST)].escape_ascii())
}

/// Returns how an ended process ended, in the terms of the operating system.
pub(super) fn exit_status(handle: &Handle) -> Option<ExitStatus> {
    let body: &ProcessBody = handle.body();
    if !body.is_done() {
        return None;
    }
    let code = body.code.load(Ordering::Relaxed);
    let core = if body.details.load(Ordering::Relaxed) & detail::CORE_DUMPED != 0 { 0x80 } else { 0 };
    Some(ExitStatus::from_raw(match body.ending.load(Ordering::Acquire) {
        ending::KILLED => code | core,
        ending::LOST => libc::SIGKILL,
        ending::NOT_STARTED => 127 << 8,
        _ => code << 8,
    }))
}
