//! Runs the contenders of a workload in turns, each time in a fresh process.
//!
//! The machine is noisy, and the noise changes from minute to minute. So only the ratio of two figures that
//! were taken one after the other counts. Contenders take turns, in an order that is reversed each time, and
//! every round yields one ratio.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{self, Load, QuietWait};
use crate::peers::fork;
use crate::stats::median;
use crate::workload::{Contender, Sample, Workload};
use crate::workloads;
use crate::{Result, machine};

/// A run that takes longer counts as hanging.
const RUN_TIMEOUT: Duration = Duration::from_secs(90);
/// A contender that fails this often does not run again.
const FAILURES: usize = 2;

/// The figures of one contender, one for each round. A figure is missing where the run failed.
pub struct Series {
    /// The contender.
    pub contender: &'static Contender,
    /// One figure for each round.
    pub values: Vec<Option<f64>>,
    /// Further figures that its runs returned.
    pub notes: BTreeMap<String, Vec<f64>>,
    /// Why runs failed.
    pub failures: Vec<String>,
}

/// The figures of a workload.
pub struct Comparison {
    /// The workload that was measured.
    pub workload: &'static Workload,
    /// One series for each contender on this machine. The first is ours.
    pub series: Vec<Series>,
    /// Contenders that are not available on this machine.
    pub absent: Vec<&'static Contender>,
    /// The share of the processors that other programs used, for each round.
    pub others: Vec<f64>,
    /// Load average at the end.
    pub load: f64,
}

/// Measures a workload in `pairs` rounds. Each round begins when the machine is quiet or `quiet_wait` is used up.
pub fn compare(workload: &'static Workload, pairs: usize, quiet_wait: &mut QuietWait) -> Result<Comparison> {
    let fresh = |contender| Series { contender, values: vec![], notes: BTreeMap::new(), failures: vec![] };
    let (here, absent): (Vec<_>, _) = workload.contenders.iter().partition(|one| (one.is_here)());
    let mut series: Vec<Series> = here.into_iter().map(fresh).collect();
    let mut others = Vec::new();
    for round in 0..pairs.min(workload.most_pairs) {
        quiet_wait.await_quiet();
        let before = Load::now();
        let forth = 0..series.len();
        let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        order.into_iter().for_each(|at| series[at].measure(workload));
        others.push(before.others_since());
    }
    Ok(Comparison { workload, series, absent, others, load: load::average() })
}

impl Comparison {
    /// Returns a comparison whose values `Report::json` has saved.
    pub fn from_json(kept: &Value) -> Result<Comparison> {
        let workload = workloads::find(kept["name"].as_str().ok_or("a workload without a name")?)?;
        let mut series = Vec::new();
        for one in kept["contenders"].as_array().into_iter().flatten() {
            let contender = workload.contender(one["name"].as_str().unwrap_or_default())?;
            let values = one["values"].as_array().into_iter().flatten().map(Value::as_f64).collect();
            series.push(Series { contender, values, notes: BTreeMap::new(), failures: vec![] });
        }
        Ok(Comparison { workload, series, absent: vec![], others: vec![], load: 0.0 })
    }
}

impl Series {
    /// Measures the next figure: the median of as many fresh processes as the contender needs.
    fn measure(&mut self, workload: &Workload) {
        let mut samples = Vec::new();
        while samples.len() < self.contender.fresh && self.failures.len() < FAILURES {
            match run_fresh(workload.name, self.contender.name) {
                Ok(sample) => samples.push(sample),
                Err(error) => {
                    eprintln!("  {} failed: {error}", self.contender.name);
                    self.failures.push(error.to_string());
                }
            }
        }
        for (name, value) in samples.iter().flat_map(|s| &s.notes) {
            self.notes.entry(name.clone()).or_default().push(*value);
        }
        let values: Vec<f64> = samples.iter().map(|s| s.value).collect();
        self.values.push(median(&values).filter(|_| values.len() == self.contender.fresh));
    }

    /// Returns the existing figures.
    pub fn present(&self) -> Vec<f64> {
        self.values.iter().flatten().copied().collect()
    }

    /// Returns the ratios of this contender's figures to `peer`'s of the same rounds.
    pub fn ratios(&self, peer: &Series) -> Vec<f64> {
        let both = self.values.iter().zip(&peer.values);
        both.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).filter(|r| r.is_finite()).collect()
    }
}

/// Runs a contender in a fresh process of this program.
fn run_fresh(workload: &str, contender: &str) -> Result<Sample> {
    run_fresh_as(&["run", workload, contender])
}

/// Runs a fresh process of this program with these arguments, which prints a sample.
pub fn run_fresh_as(words: &[&str]) -> Result<Sample> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = read_to_end(&mut child);
    if output.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let left = reap_orphans()?;
    let output = output?;
    if !status.success() {
        return Err(status.to_string().into());
    }
    if left > 0 {
        return Err(format!("left {left} processes behind").into());
    }
    Sample::from_json(output.trim())
}

/// Returns the output of a process, until every process that it started has closed its output.
fn read_to_end(child: &mut Child) -> Result<String> {
    let mut stdout = child.stdout.take().ok_or("no output to read")?;
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = done.send(stdout.read_to_string(&mut text).map(|_| text));
    });
    Ok(output.recv_timeout(RUN_TIMEOUT).map_err(|_| format!("still running after {RUN_TIMEOUT:?}"))??)
}

/// Makes processes that lose their parent from now on become children of this process. So their processor
/// time is counted as ours, and no process can be left behind unnoticed.
pub fn adopt_orphans() -> Result {
    // SAFETY: a plain call.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Reaps adopted processes. Those that have not ended after a second are killed and counted.
fn reap_orphans() -> Result<usize> {
    let (started, mut killed) = (Instant::now(), 0);
    loop {
        // SAFETY: a plain call; a null status is allowed. `Child`s are waited for before.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } > 0 {}
        let left = machine::children_of(std::process::id())?;
        if left.is_empty() {
            return Ok(killed);
        }
        if started.elapsed() > Duration::from_secs(1) {
            killed += left.len();
            // They are children of this process and not reaped yet, so their process ids are not reused.
            left.into_iter().for_each(fork::kill);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
