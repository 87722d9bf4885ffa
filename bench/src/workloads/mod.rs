//! What is measured.
//!
//! | file          | workloads                                          |
//! |---------------|----------------------------------------------------|
//! | `lock.rs`     | `lock_uncontended`, `lock_contended`               |
//! | `queue/`      | everything that queues are compared in             |
//! | `sync/`       | the other locks, semaphore, event, barrier, condvar |
//! | `dict.rs`     | `dict_get`, `dict_update`, each also by two; `dict_insert`, `dict_growth` |
//! | `lmdb.rs`     | what LMDB reaches at these                         |
//! | `spawn.rs`    | `spawn_join`, `first_spawn`, each also with 1 GiB  |
//! | `recovery.rs` | `recovery`, also with 1 GiB                        |
//! | `pool.rs`     | `pool_map`, `pool_submit`, `pool_round_trip`, `pool_restart`, `pool_speedup`, `pool_chunks` |
//! | `memory.rs`   | `idle_child_pss`, `idle_cpu`: what idling costs    |

mod dict;
#[cfg(feature = "peers")]
mod lmdb;
mod lock;
mod memory;
mod pool;
mod queue;
mod recovery;
mod spawn;
mod sync;

use serde_json::{Value, json};

use crate::Result;
use crate::peers::{boost, python};

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

/// One thing to measure, and who takes part.
pub struct Workload {
    /// As the command line calls it.
    pub name: &'static str,
    /// One line for people.
    pub says: &'static str,
    /// What the figures count.
    pub unit: &'static str,
    /// Which figures are good.
    pub better: Better,
    /// What ours must reach at least, whatever the others do.
    pub target: Option<f64>,
    /// Who takes part; the first is ours.
    pub contenders: &'static [Contender],
    /// More rounds tell nothing new.
    pub most_pairs: usize,
}

/// Which figures are good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Times, sizes.
    Lower,
    /// Rates.
    Higher,
}

/// One that takes part.
pub struct Contender {
    /// As the command line calls it.
    pub name: &'static str,
    /// Measures once, in this process.
    pub run: fn() -> Result<Sample>,
    /// How many fresh processes make one figure, by their median.
    pub fresh: usize,
    /// The ratio of our figure to this one's that ours must reach.
    pub target: Option<f64>,
    /// Whether it can take part on this machine.
    pub is_here: fn() -> bool,
}

impl Contender {
    const fn new(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { name, run, fresh: 1, target: None, is_here: || true }
    }

    /// Python's, where there is a Python.
    const fn python(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: || python::version().is_some(), ..Contender::new(name, run) }
    }

    /// loky, where a Python has it.
    const fn loky(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: python::has_loky, ..Contender::new("loky", run) }
    }

    /// Boost.Interprocess, where `scripts/peers` could compile it.
    const fn boost(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: boost::is_here, ..Contender::new("boost", run) }
    }

    /// A library that is built when the feature `peers` asks for it.
    const fn peer(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: || cfg!(feature = "peers"), ..Contender::new(name, run) }
    }

    const fn fresh(self, fresh: usize) -> Contender {
        Contender { fresh, ..self }
    }

    const fn target(self, ratio: f64) -> Contender {
        Contender { target: Some(ratio), ..self }
    }
}

/// Nanoseconds of one use of a primitive of Python's.
fn python(primitive: &str) -> Result<Sample> {
    Ok(Sample::new(python::primitive(primitive)?))
}

/// What Python reaches at a whole workload.
fn structure(name: &str) -> Result<Sample> {
    Ok(Sample::new(python::structure(name)?))
}

/// What Boost.Interprocess reaches.
fn with_boost(workload: &str) -> Result<Sample> {
    Ok(Sample::new(boost::reaches(workload)?))
}

/// This function of a peer, or one that says that it was not built.
macro_rules! if_built {
    ($run:path) => {{
        #[cfg(feature = "peers")]
        const RUN: fn() -> Result<Sample> = $run;
        #[cfg(not(feature = "peers"))]
        const RUN: fn() -> Result<Sample> = $crate::workloads::not_built;
        RUN
    }};
}
use if_built;

#[cfg(not(feature = "peers"))]
fn not_built() -> Result<Sample> {
    Err("it is built with `--features peers`".into())
}

/// What one run gives: its figure, and further ones that explain it.
pub struct Sample {
    /// In the workload's unit.
    pub value: f64,
    /// Name (with its unit) and figure.
    pub notes: Vec<(String, f64)>,
}

impl Sample {
    /// A figure that needs no explanation.
    pub fn new(value: f64) -> Sample {
        Sample { value, notes: vec![] }
    }

    fn note(mut self, name: &str, value: f64) -> Sample {
        self.notes.push((name.to_owned(), value));
        self
    }

    /// One line for `pairs.rs`.
    pub fn to_json(&self) -> Value {
        let notes: serde_json::Map<_, _> = self.notes.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        json!({ "value": self.value, "notes": notes })
    }

    /// The inverse of [`to_json`](Sample::to_json).
    pub fn from_json(line: &str) -> Result<Sample> {
        let json: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line:?}"))?;
        let notes = json["notes"].as_object().into_iter().flatten();
        let notes = notes.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        Ok(Sample { value: json["value"].as_f64().ok_or("a run without a figure")?, notes })
    }
}

impl Workload {
    /// The contender called `name`.
    pub fn contender(&self, name: &str) -> Result<&Contender> {
        let found = self.contenders.iter().find(|c| c.name == name);
        found.ok_or_else(|| format!("{} has no contender {name}", self.name).into())
    }

    /// Whether `figure` is at least as good as `target`.
    pub fn reaches(&self, figure: f64, target: f64) -> bool {
        match self.better {
            Better::Lower => figure <= target,
            Better::Higher => figure >= target,
        }
    }
}

/// The workload called `name`.
pub fn find(name: &str) -> Result<&'static Workload> {
    ALL.iter()
        .find(|w| w.name == name)
        .ok_or_else(|| format!("no workload is called {name}; see `list`").into())
}

/// Says what went wrong, if it did.
fn ensure(good: bool, what: &str) -> Result {
    if good { Ok(()) } else { Err(what.into()) }
}
