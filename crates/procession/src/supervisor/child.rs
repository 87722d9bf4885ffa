//! A child from its fork to its end.
//!
//! ```text
//! fork ─▶ prepare ─▶ sleep as a spare ─▶ RUNNING ─▶ function ─▶ exit handlers ─▶ done word ─▶ gone
//! ```
//!
//! The child does as much as possible before it sleeps, so that its spawner does not wait for it.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::children::Inheritance;
use super::entrypoint::Returned;
use super::{crash_report, entrypoint, options, orphans, reexec};
use crate::arena::objects::{Id, NAME};
use crate::arena::process_body::{ProcessBody, ending};
use crate::arena::slots::Slot;
use crate::arena::{Arena, blocks, handle, member, payload, process_body, slots};
use crate::os::clock::Deadline;
use crate::os::{attributes, fd, image, process, signal, threads};
use crate::rules::Rule;
use crate::sync::raw::park::Wait;
use crate::unwind;
use crate::{Error, Result, codec, recovery, rules};

/// The exit code of a process whose function panicked: Rust's own.
const PANIC_CODE: i32 = 101;

/// The beginning of the default name of a process that runs a closure. The closure's file and line follow.
/// The title that `ps` shows omits this prefix, because a title has at most 15 bytes.
pub(crate) const CLOSURE: &str = "closure@";

/// Runs as the process of slot `index`, until the process exits.
pub(super) fn live(arena: &'static Arena, index: u32, inheritance: &Inheritance) -> ! {
    let parent = arena.header().supervisor_pid.load(Ordering::Relaxed) as i32;
    process::die_with_parent(libc::SIGKILL);
    if process::parent_pid() != parent {
        process::exit_now(1);
    }
    member::become_child(index);
    orphans::mark_child(arena, index);
    // Closes only these descriptors, because the child keeps those that the program's constructors have
    // opened.
    inheritance.private_fds.iter().copied().for_each(fd::close_raw);
    let slot = arena.slot(index);
    // Signals stay blocked until the process begins. So a signal that is sent to its process id after `spawn`
    // has returned is not lost.
    signal::restore_child_signal(inheritance.child_signal);
    slot.life.begin();
    wait_for_request(arena, index, slot);
    // The supervisor keeps the group alive, so this succeeds.
    let _ = attributes::join_group(inheritance.group);
    slot.pid.store(process::pid(), Ordering::SeqCst);
    let prepared = options::read(arena, slot).map(|options| {
        let options = options?;
        options::apply(arena, slot, &options)?;
        if options.fresh {
            reexec::execute(arena, index, &inheritance.memfd, inheritance.mask)
        } else {
            Ok(())
        }
    });
    fd::close_raw(inheritance.memfd.as_raw_fd());
    begin(arena, index, inheritance.mask, prepared)
}

/// Runs everything from a complete request up to the exit handlers, for the crash tests. The caller has
/// already become the process of slot `index`.
#[cfg(feature = "internals")]
pub(crate) fn run_to_last_act(arena: &'static Arena, index: u32) {
    let slot = arena.slot(index);
    let prepared = options::read(arena, slot).map(|options| options::apply(arena, slot, &options?));
    slot.state.store(slots::RUNNING, Ordering::SeqCst);
    deliver_early_signals(slot);
    run_request(arena, index, slot, prepared);
    last_act();
}

/// Continues as the process of slot `index` after it has executed the program again.
pub(super) fn go_on(arena: &'static Arena, index: u32, mask: signal::Mask) -> ! {
    process::die_with_parent(libc::SIGKILL);
    if process::parent_pid() != arena.header().supervisor_pid.load(Ordering::Relaxed) as i32 {
        process::exit_now(1);
    }
    crash_report::listen();
    arena.slot(index).life.begin();
    let prepared = options::read(arena, arena.slot(index)).unwrap_or_else(|| Ok(Default::default()));
    let prepared = prepared.and_then(|options| match &options.credentials {
        Some(credentials) => options::adopt(arena, credentials),
        None => Ok(()),
    });
    begin(arena, index, mask, Some(prepared))
}

fn begin(arena: &'static Arena, index: u32, mask: signal::Mask, prepared: Option<Result<()>>) -> ! {
    let slot = arena.slot(index);
    // From here on the death of this process is the death of the user's process.
    // ORDERING: SeqCst, paired with the sender of an early signal: one of the two processes sees the other's
    // store.
    slot.state.store(slots::RUNNING, Ordering::SeqCst);
    if slot.flags.load(Ordering::Relaxed) & slots::IGNORES_INTERRUPTS != 0 {
        // The signal is still blocked. Ignoring it also discards one that is pending.
        signal::ignore_interrupts();
    }
    signal::set_mask(mask);
    deliver_early_signals(slot);
    let code = run_request(arena, index, slot, prepared);
    std::process::exit(code)
}

fn wait_for_request(arena: &Arena, index: u32, slot: &Slot) {
    loop {
        let state = slot.state.load(Ordering::Acquire);
        if slots::phase(state) == slots::GO {
            return;
        }
        if slots::phase(state) == slots::SPARE {
            // The supervisor wakes the spares when it has received a signal itself, because they may have
            // received it, too.
            signal::discard_pending();
        }
        // The wait is announced, because the spawner may be killed between its last store and its wake.
        let wait = Wait::announce_idle(arena, arena.record(index), &slot.state);
        wait.sleep(&slot.state, state, Deadline::NEVER);
    }
}

/// Sends this process the signals that arrived before it could take them.
fn deliver_early_signals(slot: &Slot) {
    let mut early = slot.take_early_signals();
    while early != 0 {
        process::signal_self(early.trailing_zeros() as i32);
        early &= early - 1;
    }
}

/// Runs the request of the slot, records its result, and returns the exit code.
fn run_request(arena: &'static Arena, index: u32, slot: &'static Slot, prepared: Option<Result<()>>) -> i32 {
    let Some((number, object, body)) = process_body::object_of(arena, slot) else { return 1 };
    handle::set_own_object(Id(slot.process.load(Ordering::Acquire)));
    body.name_pid(process::pid());
    let mut room = [0; NAME + 1];
    let name = object.name_bytes(&mut room);
    process::set_title(name.strip_prefix(CLOSURE.as_bytes()).unwrap_or(name));

    #[cfg(any(feature = "tracing", feature = "log"))]
    crate::events::forward(arena);

    let attach_text = |text: &[u8]| {
        let text = payload::try_pack_bytes(text).unwrap_or(0);
        process_body::attach(arena, index, object, number, process_body::TEXT, text);
    };
    let called = || {
        let called = unwind::catch(|| call(arena, index, slot));
        if !matches!(called, Ok(Ok(_))) {
            // CRASH: if we die here, the handles that are still in the arguments stay there, and recovery of
            // this process notifies their barriers again.
            recovery::notify_barriers(arena, index, false);
        }
        called
    };
    let result = match prepared {
        None => called(),
        Some(prepared) => match finish_preparation(arena, index, slot, body, prepared) {
            Ok(()) => called(),
            Err(error) => {
                // The spawner finds the error in the process object, and `spawn` returns it.
                let whole = codec::pack(&error).unwrap_or(0);
                process_body::attach(arena, index, object, number, process_body::RESULT, whole);
                Ok(Err(error))
            }
        },
    };
    if member::is_forked() {
        // The function called `fork`, and this is the forked process, which has returned from the function
        // too. It does not belong to the family, so it ends.
        return if result.is_ok() { 0 } else { PANIC_CODE };
    }
    let (ending, code, block) = match result {
        Ok(Ok(Returned::Value(block))) => (ending::RETURNED, 0, block),
        Ok(Ok(Returned::Err(block, text))) => {
            attach_text(text.as_bytes());
            (ending::FAILED, 1, block)
        }
        Ok(Ok(Returned::Unsendable(error, text))) => {
            let text: crash_report::UnsendableText = (error.to_string(), text);
            attach_text(&codec::to_vec(&text).unwrap_or_default());
            (ending::UNDECODABLE, 1, 0)
        }
        Ok(Err(error)) => {
            attach_text(error.to_string().as_bytes());
            (ending::NOT_STARTED, 1, 0)
        }
        Err(payload) => {
            let text = crash_report::panic_text(arena, slot, payload.as_any());
            process_body::attach(arena, index, object, number, process_body::TEXT, text);
            (ending::PANICKED, PANIC_CODE, 0)
        }
    };
    process_body::attach(arena, index, object, number, process_body::RESULT, block);
    body.ending.store(ending, Ordering::Relaxed);
    body.code.store(code, Ordering::Relaxed);
    if ending == ending::FAILED && !arena.is_held_by_others(number, index) {
        process_body::report_unobserved(arena, object);
    }
    slot.leaving.store(slots::RETURNED, Ordering::Release);
    code
}

/// Frees the options, and notifies the spawner if they have been applied.
fn finish_preparation(
    arena: &Arena,
    index: u32,
    slot: &Slot,
    body: &ProcessBody,
    prepared: Result<()>,
) -> Result<()> {
    for place in [&slot.request.options, &slot.request.cwd] {
        let block = place.swap(0, Ordering::AcqRel);
        if block != 0 {
            blocks::free(arena, index, block, blocks::Tag::process(index));
        }
    }
    prepared.inspect(|()| process_body::publish_ready(body, process_body::ready::APPLIED))
}

fn call(arena: &'static Arena, index: u32, slot: &Slot) -> Result<Returned> {
    let cwd = slot.request.cwd.swap(0, Ordering::AcqRel);
    if cwd != 0 {
        change_directory(arena, cwd)?;
        blocks::free(arena, index, cwd, blocks::Tag::process(index));
    }
    let request = &slot.request;
    let (entry, hash) = (request.entry.load(Ordering::Acquire), request.type_hash.load(Ordering::Acquire));
    let entry = entrypoint::resolve(entry, hash)?;
    let args = request.args.swap(0, Ordering::AcqRel);
    entry.run()(arena, args)
}

pub(super) fn change_directory(arena: &Arena, block: u64) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(payload::contents(arena, block)?);
    std::env::set_current_dir(path).map_err(|e| Error::os(&format!("entering {}", path.display()), &e))
}

/// Prepares, in the supervisor, state that its children inherit, so that no child has to prepare it.
pub(super) fn prepare_ancestor() {
    crash_report::listen();
    threads::find_flag();
    image::share_code_pages_with_forks();
}

/// Runs after every exit handler and destructor of the process, no matter where the process called `exit`.
#[used]
#[unsafe(link_section = ".fini_array")]
static LAST_ACT: extern "C" fn() = last_act;

extern "C" fn last_act() {
    if member::is_forked() {
        return;
    }
    let Some(arena) = member::mapped() else { return };
    if member::is_main() || member::slot() >= arena.layout.slots {
        return;
    }
    let slot = arena.slot(member::slot());
    if slot.leaving.load(Ordering::Acquire) == 0 {
        return; // the user's code called `exit`, and the supervisor reports the exit code
    }
    process::flush_c_streams();
    slot.life.clear();
    if threads::is_alone() {
        // CRASH: without this store the exit counts as a death, and recovery wakes every sleeper.
        slot.leaving.store(slots::ALONE, Ordering::Release);
    }
    if let Some((_, _, body)) = process_body::object_of(arena, slot) {
        if rules::holds(Rule::EndUninterrupted) {
            // Once `join` has returned, only SIGSTOP and SIGKILL can stop or kill this process before its
            // exit. (Any other thread that still runs takes signals until the exit.)
            signal::block_all();
        }
        ProcessBody::finish(body);
    }
}

/// Keeps the linker from dropping `LAST_ACT` together with this file.
pub(super) fn keep() -> usize {
    LAST_ACT as usize
}
