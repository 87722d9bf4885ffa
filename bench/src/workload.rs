//! One workload, its contenders, and the figures that a run of one gives.

use serde_json::{Value, json};

use crate::Result;
use crate::peers::{boost, python};

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
    pub const fn new(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { name, run, fresh: 1, target: None, is_here: || true }
    }

    /// Python's, where there is a Python.
    pub const fn python(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: || python::version().is_some(), ..Contender::new(name, run) }
    }

    /// loky, where a Python has it.
    pub const fn loky(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: python::has_loky, ..Contender::new("loky", run) }
    }

    /// Boost.Interprocess, where `scripts/peers` could compile it.
    pub const fn boost(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: boost::is_here, ..Contender::new("boost", run) }
    }

    /// A library that is built when the feature `peers` asks for it.
    pub const fn peer(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: || cfg!(feature = "peers"), ..Contender::new(name, run) }
    }

    pub const fn fresh(self, fresh: usize) -> Contender {
        Contender { fresh, ..self }
    }

    pub const fn target(self, ratio: f64) -> Contender {
        Contender { target: Some(ratio), ..self }
    }
}

/// Nanoseconds of one use of a primitive of Python's.
pub fn python(primitive: &str) -> Result<Sample> {
    Ok(Sample::new(python::primitive(primitive)?))
}

/// What Python reaches at a whole workload.
pub fn structure(name: &str) -> Result<Sample> {
    Ok(Sample::new(python::structure(name)?))
}

/// What Boost.Interprocess reaches.
pub fn with_boost(workload: &str) -> Result<Sample> {
    Ok(Sample::new(boost::reaches(workload)?))
}

/// This function of a peer, or one that says that it was not built.
macro_rules! if_built {
    ($run:path) => {{
        #[cfg(feature = "peers")]
        const RUN: fn() -> Result<Sample> = $run;
        #[cfg(not(feature = "peers"))]
        const RUN: fn() -> Result<Sample> = $crate::workload::not_built;
        RUN
    }};
}
pub(crate) use if_built;

#[cfg(not(feature = "peers"))]
pub fn not_built() -> Result<Sample> {
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

    pub fn note(mut self, name: &str, value: f64) -> Sample {
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

/// Returns an error with `what` unless `good`.
pub fn ensure(good: bool, what: &str) -> Result {
    if good { Ok(()) } else { Err(what.into()) }
}
