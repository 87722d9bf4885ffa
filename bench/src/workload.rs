//! A workload, its contenders, and the figures of a run.

use serde_json::{Value, json};

use crate::Result;
use crate::peers::{boost, python};

/// A quantity to measure, and its contenders.
pub struct Workload {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub says: &'static str,
    /// The unit of the figures.
    pub unit: &'static str,
    /// Which figures are better.
    pub better: Better,
    /// The minimum that our figure must reach, independently of the peers.
    pub target: Option<f64>,
    /// The contenders. The first is ours.
    pub contenders: &'static [Contender],
    /// The maximum number of rounds. More rounds would add no information for this workload.
    pub most_pairs: usize,
}

/// Which figures are better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Lower figures are better: times, sizes.
    Lower,
    /// Higher figures are better: rates.
    Higher,
}

/// A contender.
pub struct Contender {
    /// The name on the command line.
    pub name: &'static str,
    /// Measures once, in this process.
    pub run: fn() -> Result<Sample>,
    /// How many fresh processes make one figure, which is the median of theirs.
    pub fresh: usize,
    /// The ratio of our figure to this contender's figure that we must reach.
    pub target: Option<f64>,
    /// Returns whether the contender can take part on this machine.
    pub is_here: fn() -> bool,
}

impl Contender {
    pub const fn new(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { name, run, fresh: 1, target: None, is_here: || true }
    }

    /// Returns Python's contender, for machines with Python.
    pub const fn python(name: &'static str, run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: || python::version().is_some(), ..Contender::new(name, run) }
    }

    /// Returns loky's contender, for machines whose Python has it.
    pub const fn loky(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: python::has_loky, ..Contender::new("loky", run) }
    }

    /// Returns the Boost.Interprocess contender, for machines where `scripts/peers` was able to compile it.
    pub const fn boost(run: fn() -> Result<Sample>) -> Contender {
        Contender { is_here: boost::is_here, ..Contender::new("boost", run) }
    }

    /// Returns the contender of a library that is only built with the feature `peers`.
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

/// Returns the nanoseconds of one use of a primitive of Python.
pub fn python(primitive: &str) -> Result<Sample> {
    Ok(Sample::new(python::primitive(primitive)?))
}

/// Returns Python's figure for a whole workload.
pub fn structure(name: &str) -> Result<Sample> {
    Ok(Sample::new(python::structure(name)?))
}

/// Returns Boost.Interprocess's figure.
pub fn with_boost(workload: &str) -> Result<Sample> {
    Ok(Sample::new(boost::reaches(workload)?))
}

/// Expands to this function of a peer, or to a function that reports that the peer was not built.
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

/// The result of one run: its figure, and further figures that explain it.
pub struct Sample {
    /// The figure, in the workload's unit.
    pub value: f64,
    /// Name (with its unit) and figure.
    pub notes: Vec<(String, f64)>,
}

impl Sample {
    /// Creates a sample whose figure needs no explanation.
    pub fn new(value: f64) -> Sample {
        Sample { value, notes: vec![] }
    }

    pub fn note(mut self, name: &str, value: f64) -> Sample {
        self.notes.push((name.to_owned(), value));
        self
    }

    /// Returns the line that `pairs.rs` reads.
    pub fn to_json(&self) -> Value {
        let notes: serde_json::Map<_, _> = self.notes.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        json!({ "value": self.value, "notes": notes })
    }

    /// Parses a line that [`to_json`](Sample::to_json) has returned.
    pub fn from_json(line: &str) -> Result<Sample> {
        let json: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line:?}"))?;
        let notes = json["notes"].as_object().into_iter().flatten();
        let notes = notes.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        Ok(Sample { value: json["value"].as_f64().ok_or("a run without a figure")?, notes })
    }
}

impl Workload {
    /// Returns the contender called `name`.
    pub fn contender(&self, name: &str) -> Result<&Contender> {
        let found = self.contenders.iter().find(|c| c.name == name);
        found.ok_or_else(|| format!("{} has no contender {name}", self.name).into())
    }

    /// Returns whether `figure` is at least as good as `target`.
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
