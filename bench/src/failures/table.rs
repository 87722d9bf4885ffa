//! The matrix as plain text or as a Markdown table.

use std::fmt::Write as _;

use super::Row;
use super::drive::Outcome;

/// Returns all rows, and a line with the counts.
pub fn show(rows: &[Row], python: Option<&str>, markdown: bool) -> String {
    let theirs = python.unwrap_or("python3 is not there");
    let mut out = String::new();
    if markdown {
        let _ = writeln!(
            out,
            "| # | what is done | {theirs}: `multiprocessing` | procession |\n|---|---|---|---|"
        );
        for Row { scenario, python, ours } in rows {
            let python = python.as_ref().map_or_else(|| "(python3 is not there)".into(), cell);
            let _ = writeln!(out, "| {} | {} | {python} | {} |", scenario.name, scenario.says, cell(ours));
        }
    } else {
        for Row { scenario, python, ours } in rows {
            let _ = writeln!(out, "{}: {}", scenario.name, scenario.says);
            let python =
                python.as_ref().map_or_else(|| vec!["(python3 is not there)".into()], |o| o.saw.clone());
            side(&mut out, "multiprocessing", &python);
            side(&mut out, "procession", &ours.saw);
        }
    }
    let _ = writeln!(out, "\n{}", count(rows, python));
    out
}

fn side(out: &mut String, who: &str, saw: &[String]) {
    let mut who = who;
    for line in saw {
        let _ = writeln!(out, "    {who:<17}{line}");
        who = "";
    }
}

/// Returns a cell of a Markdown table.
fn cell(outcome: &Outcome) -> String {
    outcome.saw.join("; ").replace('|', "\\|")
}

fn count(rows: &[Row], python: Option<&str>) -> String {
    let hung = |outcomes: &mut dyn Iterator<Item = &Outcome>| outcomes.filter(|o| o.hung).count();
    let ours = hung(&mut rows.iter().map(|row| &row.ours));
    let theirs = hung(&mut rows.iter().filter_map(|row| row.python.as_ref()));
    match python {
        Some(version) => {
            format!("Of {} scenarios {theirs} end in a hang in {version}, {ours} in procession.", rows.len())
        }
        None => format!("Of {} scenarios {ours} end in a hang in procession.", rows.len()),
    }
}
