//! Acquires and releases a [`LockBody`]. Every kind of lock uses this code.

use std::fmt;
use std::sync::atomic::Ordering;

use super::error::{DeadlockMember, LockError, OwnerDied};
use super::guard_state::{self, GuardState};
use super::raw::lock::RawLock;
use super::raw::lock_body::{self, LockBody, PANICKED};
use super::raw::word::{self, Outcome, POISONED};
use super::rlock;
use crate::arena::member;
use crate::arena::objects::{Kind, Object};
use crate::arena::thread::with_me;
use crate::os::clock::Deadline;
use crate::os::process;

/// Acquires the lock at `offset`. Waits without a limit. The error is boxed, so that the fast path returns in
/// registers.
#[inline]
pub(crate) fn acquire(body: &'static LockBody, offset: u64) -> Result<GuardState, Box<LockError>> {
    match body.raw.try_acquire_fast(offset) {
        Some(entry) => Ok(GuardState::new(entry)),
        None => acquire_slow(body, false, Deadline::NEVER),
    }
}

/// Acquires the lock. If the lock is poisoned, acquires it only if `recover` is set.
#[cold]
pub(crate) fn acquire_slow(
    body: &'static LockBody,
    recover: bool,
    deadline: Deadline,
) -> Result<GuardState, Box<LockError>> {
    let unusable = |error: &crate::Error| match error {
        crate::Error::Lock(error) => Box::new(error.clone()), // found while waiting
        other => Box::new(LockError::unusable(other)),
    };
    let arena = member::arena().map_err(|e| unusable(&e))?;
    let offset = arena.offset_of(&raw const *body);
    match with_me(|me| body.raw.acquire(me, offset, recover, deadline)) {
        Ok(Ok((Outcome::Recovered, Some(entry)))) => Ok(GuardState::recovered(entry, body.read_poison().1)),
        Ok(Ok((_, Some(entry)))) => Ok(GuardState::new(entry)),
        Ok(Ok((outcome, None))) => Err(Box::new(refused(body, outcome))),
        Ok(Err(error)) | Err(error) => Err(unusable(&error)),
    }
}

#[cold]
fn refused(body: &'static LockBody, outcome: Outcome) -> LockError {
    match outcome {
        Outcome::Poisoned => poison_error(body),
        Outcome::Relocked => self_deadlock(body),
        _ => LockError::TimedOut,
    }
}

/// Returns the error of acquiring a poisoned lock.
pub(crate) fn poison_error(body: &LockBody) -> LockError {
    match body.read_poison() {
        (PANICKED, who) => LockError::Panicked(who),
        (_, who) => LockError::OwnerDied(who),
    }
}

/// Returns the error of a thread that acquires a lock that it already holds.
pub(crate) fn self_deadlock(body: &LockBody) -> LockError {
    self_deadlock_named(name(body))
}

/// Returns the error of [`self_deadlock`], for a lock with this name.
pub(crate) fn self_deadlock_named(lock: String) -> LockError {
    let (pid, thread) = (std::process::id(), process::thread_id().cast_unsigned());
    LockError::Deadlock { cycle: vec![DeadlockMember::new(pid, member::name(), thread, lock)] }
}

fn name(body: &LockBody) -> String {
    let object = member::mapped().and_then(|arena| arena.object_around(arena.offset_of(&raw const *body)));
    object.map_or_else(String::new, |(_, object)| object.name())
}

/// Releases the lock. Poisons the lock if the guard's state demands it, or if the thread began to panic while
/// it held the lock.
#[inline]
pub(crate) fn release(body: &'static LockBody, state: &mut GuardState) {
    match state.plain() {
        Some(entry) if !std::thread::panicking() => body.raw.release(entry),
        _ => release_slow(body, state),
    }
}

/// Returns whether the release must poison the lock.
pub(crate) fn must_poison(state: &GuardState) -> bool {
    state.is(guard_state::POISON_ON_RELEASE)
        || (std::thread::panicking() && !state.is(guard_state::WAS_PANICKING))
}

#[cold]
fn release_slow(body: &'static LockBody, state: &mut GuardState) {
    let poison = must_poison(state);
    let entry = state.take();
    if poison && !member::is_forked() && body.raw.is_still_held(entry) {
        body.write_poison(PANICKED, process::pid(), &member::name());
    }
    body.raw.release_slow(entry, poison);
}

/// Writes the name, the owner and the number of waiters, for `Debug`. The values may already have changed.
pub(crate) fn describe(f: &mut fmt::Formatter<'_>, kind: &str, object: &'static Object) -> fmt::Result {
    match lock_body::of(object).filter(|_| member::mapped().is_some()) {
        Some(body) => {
            let times = (object.kind() == Some(Kind::RLock)).then(|| rlock::times(body));
            describe_with(f, kind, &object.name(), &body.raw, times, || Some(body.read_poison().1))
        }
        None => f.debug_struct(kind).finish_non_exhaustive(),
    }
}

/// Writes the same as [`describe`], for a lock that is never poisoned.
pub(crate) fn describe_raw(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &str,
    lock: &'static RawLock,
) -> fmt::Result {
    describe_with(f, kind, name, lock, None, || None)
}

fn describe_with(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &str,
    lock: &'static RawLock,
    times: Option<u32>,
    poisoned_by: impl Fn() -> Option<OwnerDied>,
) -> fmt::Result {
    let mut out = f.debug_struct(kind);
    let Some(arena) = member::mapped() else { return out.finish_non_exhaustive() };
    out.field("name", &name);
    let now = lock.load();
    match (word::owner(now), poisoned_by().filter(|_| now & POISONED != 0)) {
        (0, Some(who)) => out.field("poisoned_by", &who),
        (0, None) => out.field("holder", &None::<()>),
        (owner, _) => {
            let slot = arena.slot_of_record(owner - 1).unwrap_or(u32::MAX);
            out.field("holder", &arena.describe_holder(slot))
        }
    };
    if let Some(times) = times.filter(|_| word::owner(now) != 0) {
        out.field("times", &times);
    }
    let offset = arena.offset_of(&raw const *lock);
    let waits = |id: &u32| arena.record(*id).waits_for.load(Ordering::Relaxed) == offset;
    out.field("waiters", &arena.records_in_use().filter(waits).count()).finish()
}
