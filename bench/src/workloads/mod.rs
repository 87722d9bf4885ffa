//! The workloads.
//!
//! | file          | workloads                                          |
//! |---------------|----------------------------------------------------|
//! | `lock.rs`     | `lock_uncontended`, `lock_contended`               |
//! | `queue/`      | everything that queues are compared in             |
//! | `sync/`       | the other locks, semaphore, event, barrier, condvar |
//! | `dict.rs`     | `dict_get`, `dict_update`, each also by two; `dict_insert`, `dict_growth` |
//! | `entries.rs`  | the entries of a map, for every contender          |
//! | `lmdb.rs`     | what LMDB reaches at these                         |
//! | `spawn.rs`    | `spawn_join`, `first_spawn`, each also with 1 GiB  |
//! | `recovery.rs` | `recovery`, also with 1 GiB                        |
//! | `pool.rs`     | `pool_map`, `pool_submit`, `pool_round_trip`, `pool_restart`, `pool_speedup`, `pool_chunks` |
//! | `memory.rs`   | `idle_child_pss`, `idle_cpu`: what idling costs    |

mod dict;
mod entries;
#[cfg(feature = "peers")]
mod lmdb;
mod lock;
mod memory;
mod pool;
mod queue;
mod recovery;
mod spawn;
mod sync;

use crate::Result;
use crate::workload::Workload;

/// Every workload, in the order of the table.
pub static ALL: &[Workload] = &[
    lock::UNCONTENDED,
    lock::CONTENDED,
    queue::stream::ONE_TO_ONE,
    queue::stream::BATCHED,
    queue::stream::BATCHED_NUMBERS,
    queue::stream::TYPED,
    queue::stream::TWO_BY_TWO,
    queue::turns::ROUND_TRIP,
    queue::turns::ASLEEP,
    queue::large::IN_PLACE,
    queue::large::VECTORS,
    queue::flat::PROCESSES,
    queue::flat::ITEMS,
    queue::flat::BEHIND,
    queue::flat::BLOCKED_CPU,
    sync::alone::RLOCK,
    sync::alone::MUTEX,
    sync::alone::SEMAPHORE,
    sync::alone::READ,
    sync::alone::READ_SCALES,
    sync::alone::IS_SET,
    sync::turns::BARRIER,
    sync::turns::CONDVAR,
    dict::ALLOCATION,
    dict::GET,
    dict::GET_TWO,
    dict::UPDATE,
    dict::UPDATE_TWO,
    dict::INSERT,
    dict::GROWTH,
    spawn::SPAWN_JOIN,
    spawn::SPAWN_JOIN_GIB,
    spawn::FIRST_SPAWN,
    spawn::FIRST_SPAWN_GIB,
    memory::IDLE_CHILD_PSS,
    recovery::RECOVERY,
    recovery::RECOVERY_GIB,
    memory::IDLE_CPU,
    pool::MAP,
    pool::SUBMIT,
    pool::TRIP,
    pool::RESTART,
    pool::SPEEDUP,
    pool::CHUNKS,
];

/// Returns the workload called `name`.
pub fn find(name: &str) -> Result<&'static Workload> {
    ALL.iter()
        .find(|w| w.name == name)
        .ok_or_else(|| format!("no workload is called {name}; see `list`").into())
}
