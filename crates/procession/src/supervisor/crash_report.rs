//! What a process records about its own end while it dies, in signal handlers and in the panic hook.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arena::slots::{self, Slot};
use crate::arena::{Arena, blocks, member, payload};
use crate::codec;
use crate::os::{fatal_signals, process};

/// Makes this process and its forks record that they die of a stack overflow or of refused memory. They also
/// keep the text of a panic in the arena, where it survives if the process aborts.
pub(super) fn listen() {
    fatal_signals::report(note_overflow, note_abort);
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The first thread runs the process's function, so a panic of that thread is a panic of the process.
        let first = process::thread_id() == process::pid();
        if first || cfg!(panic = "abort") {
            keep_panic_text(info);
        }
        print_process_name();
        print(info);
    }));
}

/// Begins the report of a panic on stderr with the name of this process. The hook that Rust installs, which
/// prints the rest, first ends this line.
fn print_process_name() {
    if member::mapped().is_some_and(|arena| !member::is_main() && member::slot() < arena.layout.slots) {
        let line = format!("process {} (pid {}) panicked:", member::name(), process::pid());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Notes that this process dies of a stack overflow. Called by a signal handler.
fn note_overflow() {
    note(slots::OVERFLOWED);
}

/// Notes that this process calls `abort`. With `no_memory`, the reason is that memory was refused. Called by
/// a signal handler.
fn note_abort(no_memory: bool) {
    if std::thread::panicking() {
        note(slots::PANICKING);
    } else if no_memory {
        note(slots::NO_MEMORY);
    }
}

fn note(what: u32) {
    if let Some(arena) = member::mapped().filter(|arena| member::slot() < arena.layout.slots) {
        arena.slot(member::slot()).flags.fetch_or(what, Ordering::Relaxed);
    }
}

/// The location of the last panic in a process without a slot.
static PLACE: Mutex<String> = Mutex::new(String::new());

pub(super) fn place_of_last_panic() -> String {
    PLACE.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

fn place_of(info: &panic::PanicHookInfo<'_>) -> String {
    info.location().map_or_else(String::new, ToString::to_string)
}

/// The reason why a value cannot be sent, and the text of the value.
pub(crate) type UnsendableText = (String, String);

/// The text of a panic: message, location, backtrace.
pub(crate) type PanicText = (String, String, String);

/// Returns the block with the text of the panic that has ended the function. Uses the text that the hook
/// kept, unless that text belongs to another panic (the user replaced the hook, or called `resume_unwind`).
pub(crate) fn panic_text(arena: &Arena, slot: &Slot, payload: &(dyn Any + Send)) -> u64 {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or(NO_MESSAGE);
    let kept = slot.panic_text.swap(0, Ordering::AcqRel);
    let same = kept != 0
        && payload::contents(arena, kept).is_ok_and(|bytes| {
            codec::from_slice::<PanicText>(bytes).is_ok_and(|(message, ..)| message == said)
        });
    if same {
        return kept;
    }
    let text: PanicText = (said.to_owned(), String::new(), String::new());
    payload::try_pack_bytes(&codec::to_vec(&text).unwrap_or_default()).unwrap_or(0)
}

const NO_MESSAGE: &str = "(a panic without a message)";

fn keep_panic_text(info: &panic::PanicHookInfo<'_>) {
    static BUSY: AtomicBool = AtomicBool::new(false);
    let Some(arena) = member::mapped().filter(|arena| member::slot() < arena.layout.slots) else {
        // The template of `preload.rs` is not a member of the family.
        *PLACE.lock().unwrap_or_else(|e| e.into_inner()) = place_of(info);
        return;
    };
    if BUSY.swap(true, Ordering::Acquire) {
        return; // a panic inside the panic hook
    }
    let message = info.payload_as_str().unwrap_or(NO_MESSAGE).to_owned();
    let location = place_of(info);
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = if captured { backtrace.to_string() } else { String::new() };
    let text: PanicText = (message, location, backtrace);
    let text = codec::to_vec(&text).unwrap_or_default();
    let slot = arena.slot(member::slot());
    if let Some(block) = payload::try_pack_bytes(&text) {
        let old = slot.panic_text.swap(block, Ordering::AcqRel);
        if old != 0 {
            blocks::free(arena, member::slot(), old, blocks::Tag::process(member::slot()));
        }
    }
    BUSY.store(false, Ordering::Release);
}
