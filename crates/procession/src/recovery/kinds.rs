//! The table from an object's kind to the code that repairs it.

use crate::arena::objects::Kind;
use crate::arena::recover::{Nothing, Recover};
use crate::pool::cells::recover::Pools;
use crate::queue::ring::recover::{LeasedRings, Rings};
use crate::state::store::recover::{Dicts, Lists, Values};
use crate::sync::raw::recover::{Barriers, Locks, RwLocks, Semaphores};

/// Returns the code that repairs objects of this kind. A new kind is one line here and one in
/// `arena/kind.rs`.
pub(super) fn of(kind: Kind) -> &'static dyn Recover {
    match kind {
        Kind::Lock | Kind::RLock | Kind::Mutex | Kind::Once | Kind::Array => &Locks,
        Kind::RwLock => &RwLocks,
        Kind::Semaphore => &Semaphores,
        Kind::Barrier => &Barriers,
        Kind::Queue => &Rings,
        Kind::JoinableQueue => &LeasedRings,
        Kind::Dict => &Dicts,
        Kind::List => &Lists,
        Kind::Value => &Values,
        Kind::PoolShared => &Pools,
        Kind::Process | Kind::Connection | Kind::Pool | Kind::Event | Kind::Condvar | Kind::Latch => &Nothing,
    }
}
