//! Recovery of locks, read-write locks, semaphores and barriers.

use super::{barrier_recover, lock_body, permits, readers};
use crate::arena::Arena;
use crate::arena::recover::{Dead, Found, Journaled, Recover};

/// Objects that consist of one lock: `Lock`, `RLock`, `Mutex`, `Once`, `Array`.
pub(crate) struct Locks;

impl Recover for Locks {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        lock_body::release(dead, found, entry);
    }
}

/// Read-write locks: the writers' lock and the readers' cells.
pub(crate) struct RwLocks;

impl Recover for RwLocks {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        lock_body::release(dead, found, entry);
        readers::release(dead, found, entry);
    }

    fn withdraw(&self, arena: &Arena, found: &Found, entry: Journaled) {
        lock_body::withdraw(arena, found.object, entry);
    }
}

/// Semaphores: the permits, and the lock under which blocks are added.
pub(crate) struct Semaphores;

impl Recover for Semaphores {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        permits::release_growing(dead, found, entry);
    }

    fn remove_process(&self, dead: &Dead<'_>, found: &Found) -> bool {
        permits::return_permits(dead, found)
    }
}

/// Barriers: the dead process's parties.
pub(crate) struct Barriers;

impl Recover for Barriers {
    fn remove_process(&self, dead: &Dead<'_>, found: &Found) -> bool {
        barrier_recover::remove_process(dead, found)
    }
}
