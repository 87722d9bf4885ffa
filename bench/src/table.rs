//! The figures as plain text, Markdown, JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pairs::{Comparison, Series};
use crate::stats::median;
use crate::workload::{Better, Workload};

/// Everything that was measured.
pub struct Report {
    /// The machine.
    pub machine: String,
    /// How long it took.
    pub took: Duration,
    /// The comparisons.
    pub comparisons: Vec<Comparison>,
}

const HEADINGS: [&str; 6] = ["workload", "contender", "median", "min - max", "procession / it", "target"];

impl Report {
    /// Returns how many runs failed.
    pub fn failures(&self) -> usize {
        self.comparisons.iter().flat_map(|c| &c.series).map(|s| s.failures.len()).sum()
    }

    /// Returns columns for a terminal.
    pub fn plain(&self) -> String {
        let rows: Vec<_> = self.comparisons.iter().map(rows).collect();
        let all = || std::iter::once(HEADINGS.map(String::from)).chain(rows.iter().flatten().cloned());
        let widths: [usize; 6] =
            std::array::from_fn(|at| all().map(|row| row[at].chars().count()).max().unwrap_or(0));
        let mut out = format!("{}\n", self.headline());
        let mut line = |row: &[String; 6]| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        };
        all().for_each(|row| line(&row));
        let _ = writeln!(out, "\n{}", self.remarks("").join("\n"));
        out
    }

    /// Returns a Markdown table.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n| {} |\n|{}\n", self.headline(), HEADINGS.join(" | "), "---|".repeat(6));
        for row in self.comparisons.iter().flat_map(rows) {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        let _ = writeln!(out, "\n{}", self.remarks("* ").join("\n"));
        out
    }

    /// Returns every figure of every run.
    pub fn json(&self) -> Value {
        let comparisons: Vec<Value> = self.comparisons.iter().map(comparison_json).collect();
        json!({ "machine": self.machine, "took_s": self.took.as_secs_f64(), "workloads": comparisons })
    }

    fn headline(&self) -> String {
        let others = self.comparisons.iter().flat_map(|c| &c.others).copied().collect::<Vec<_>>();
        format!(
            "{}; {:.0} s; other load {:.0} % of the CPUs at the median, {:.0} % at most",
            self.machine,
            self.took.as_secs_f64(),
            100.0 * median(&others).unwrap_or(0.0),
            100.0 * others.iter().copied().fold(0.0, f64::max)
        )
    }

    /// Returns remarks that do not fit into the table.
    fn remarks(&self, bullet: &str) -> Vec<String> {
        let mut out = Vec::new();
        for comparison in &self.comparisons {
            let name = comparison.workload.name;
            for series in &comparison.series {
                let notes: Vec<String> = series
                    .notes
                    .iter()
                    .filter_map(|(name, values)| Some(format!("{name}: {}", figure(median(values)?))))
                    .collect();
                if !notes.is_empty() {
                    out.push(format!("{bullet}{name}, {}: {}", series.contender.name, notes.join("; ")));
                }
                out.extend(
                    series
                        .failures
                        .iter()
                        .map(|why| format!("{bullet}{name}, {} FAILED: {why}", series.contender.name)),
                );
            }
            let absent = comparison.absent.iter();
            out.extend(absent.map(|one| format!("{bullet}{name}, {}: skipped, it is not there", one.name)));
            let others: Vec<String> = comparison.others.iter().map(|o| format!("{:.0}", 100.0 * o)).collect();
            let load = comparison.load;
            out.push(format!(
                "{bullet}{name}: other load by rounds {} %; load average {load:.1}",
                others.join(" ")
            ));
        }
        out
    }
}

/// Returns one row for each contender.
fn rows(comparison: &Comparison) -> Vec<[String; 6]> {
    let (workload, ours) = (comparison.workload, &comparison.series[0]);
    let row = |(at, series): (usize, &Series)| {
        let values = series.present();
        let ratios = if at == 0 { vec![] } else { ours.ratios(series) };
        let (judged, target) = match at {
            0 => (median(&values), workload.target),
            _ => (median(&ratios), series.contender.target),
        };
        let span = spread(&values)
            .map_or(String::new(), |(low, high)| format!("{} - {}", figure(low), figure(high)));
        let ratio = median(&ratios).zip(spread(&ratios));
        [
            if at == 0 { workload.name.to_owned() } else { String::new() },
            series.contender.name.to_owned(),
            median(&values).map_or("failed".into(), |v| format!("{} {}", figure(v), workload.unit)),
            span,
            ratio.map_or(String::new(), |(mid, (low, high))| format!("{mid:.2} ({low:.2} - {high:.2})")),
            target.map_or(String::new(), |t| verdict(workload, judged, t)),
        ]
    };
    comparison.series.iter().enumerate().map(row).collect()
}

fn verdict(workload: &Workload, figure_: Option<f64>, target: f64) -> String {
    let sign = if workload.better == Better::Lower { "<=" } else { ">=" };
    let reached = figure_.is_some_and(|f| workload.reaches(f, target));
    format!("{sign} {target} {}", if reached { "reached" } else { "MISSED" })
}

fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    Some((low, values.iter().copied().reduce(f64::max)?))
}

/// Formats three significant digits, or all digits of a larger integer.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        v if v < 1e6 => format!("{value:.0}"),
        _ => format!("{:.2}M", value / 1e6),
    }
}

fn comparison_json(comparison: &Comparison) -> Value {
    let workload = comparison.workload;
    let ours = &comparison.series[0];
    let contenders: Vec<Value> = comparison
        .series
        .iter()
        .enumerate()
        .map(|(at, series)| {
            let ratios = if at == 0 { vec![] } else { ours.ratios(series) };
            json!({
                "name": series.contender.name,
                "median": median(&series.present()),
                "values": series.values,
                "ratio_of_procession_median": median(&ratios),
                "ratios_of_procession": ratios,
                "target": if at == 0 { workload.target } else { series.contender.target },
                "notes": series.notes,
                "failures": series.failures,
            })
        })
        .collect();
    json!({
        "name": workload.name,
        "says": workload.says,
        "unit": workload.unit,
        "better": if workload.better == Better::Lower { "lower" } else { "higher" },
        "other_load": comparison.others,
        "load_average": comparison.load,
        "contenders": contenders,
    })
}
