//! The sale as users see it: the built program, its output, its exit code, and the file.

mod files;
mod interruptions;
mod shop;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use shop::{Shop, numbers, refused, tickets};

const OUTCOME: [&str; 5] = ["sold", "refused", "killed", "failed", "not_started"];

#[test]
fn ten_buyers_buy_the_one_ticket_once() {
    let shop = Shop::new();
    let output = tickets("").env("TMPDIR", shop.directory.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("] bought ticket 1")).count(), 1, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("] sees ")).count(), 10, "{text}");
    for line in ["sold       1 of 1 ticket", "refused    9", "killed     0", "books      balance"] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in {text}");
    }
    assert!(!text.contains('\x1b'), "colours, and no terminal: {text:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "a progress bar, and no terminal");
    assert_eq!(shop.files(), [""; 0], "the file of its own is removed");
}

#[test]
fn a_missing_file_is_made_and_the_next_sale_goes_on_with_it() {
    let shop = Shop::new();
    let (code, summary) = shop.sell("--stock 4 --buyers 3 --think-time 1");
    assert_eq!((code, numbers(&summary, &OUTCOME)), (Some(0), vec![3, 0, 0, 0, 0]));
    assert_eq!(shop.content()["count"], 1);
    assert_eq!(shop.files(), ["db.json"]);

    let (code, summary) = shop.sell("--buyers 3 --think-time 1");
    assert_eq!((code, numbers(&summary, &OUTCOME)), (Some(0), vec![1, 2, 0, 0, 0]));
    assert_eq!(summary["stock"], 1);
    let sold: Vec<u64> = shop.content()["sold"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sale| sale["ticket"].as_u64().unwrap())
        .collect();
    assert_eq!(sold, [1, 2, 3, 4]);
}

#[test]
fn the_count_of_a_file_goes_before_the_stock_of_the_command_line() {
    let shop = Shop::with("{\"count\": 2}");
    let output = shop.command("--stock 50 --buyers 3 --think-time 1").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("so --stock does not count"));
    assert_eq!(shop.content()["count"], 0);
}

#[test]
fn without_the_lock_the_ticket_is_sold_again_and_again() {
    let shop = Shop::new();
    let (code, summary) = shop.sell("--no-lock --buyers 8 --think-time 200");
    assert_eq!((code, &summary["balanced"]), (Some(1), &Value::Bool(false)), "{summary}");
    let sold = summary["sold"].as_u64().unwrap();
    assert!(sold > 1, "{summary}");
    assert_eq!(summary["oversold"]["1"].as_array().unwrap().len() as u64, sold, "{summary}");
    assert_eq!(summary["tickets"].as_array().unwrap().len() as u64, sold, "{summary}");
    assert_eq!(shop.content()["count"], 0, "the file alone does not show it");
    assert_eq!(shop.files(), ["db.json"]);
}

#[test]
fn the_summary_names_the_oversold_ticket() {
    let output = tickets("--no-lock --buyers 4 --think-time 200").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains("books      DO NOT BALANCE"), "{stdout}");
    assert!(stderr.contains("ticket 1 was sold "), "{stderr}");
}

#[test]
fn buyers_are_killed_inside_the_lock_and_the_books_balance() {
    let mut inside = 0;
    for seed in 1..=6 {
        let shop = Shop::new();
        let flags = format!("--buyers 24 --stock 12 --think-time 15 --kill-rate 0.5 --seed {seed}");
        let (code, summary) = shop.sell(&flags);
        assert_eq!(code, Some(0), "{summary}");
        check_kills(&summary);
        check_tickets(&shop, &summary, 12);
        assert_eq!(shop.files(), ["db.json"], "seed {seed}");
        inside += summary["kills"]["inside_lock"].as_u64().unwrap();
    }
    assert!(inside > 0, "no kill landed inside the lock: this run proves nothing");
}

/// Checks that every buyer has one outcome, and that the next holders of the lock noticed the kills inside
/// it.
fn check_kills(summary: &Value) {
    let outcome = numbers(summary, &[&OUTCOME[..], &["sold_but_killed"]].concat());
    let [sold, refused, killed, failed, not_started, both] = outcome[..] else { unreachable!() };
    assert_eq!(sold + refused + killed - both, 24, "{summary}");
    assert_eq!(failed + not_started, 0, "{summary}");
    let [aimed, escaped, inside] = numbers(&summary["kills"], &["aimed", "escaped", "inside_lock"])[..]
    else {
        unreachable!()
    };
    assert_eq!(killed, aimed - escaped, "{summary}");
    let landed = summary["kills"]["landed"].as_object().unwrap();
    assert_eq!(landed.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), killed, "{summary}");
    let recovered = summary["locks_recovered"].as_u64().unwrap();
    assert!(inside == 0 || recovered > 0, "{summary}");
}

/// Checks that the file's tickets are numbered without a gap, and that they are those of the summary.
fn check_tickets(shop: &Shop, summary: &Value, stock: u64) {
    let content = shop.content();
    let listed = content["sold"].as_array().cloned().unwrap_or_default();
    assert_eq!(content["count"].as_u64().unwrap() + listed.len() as u64, stock, "{content}");
    let ids: Vec<u64> = listed.iter().map(|sale| sale["ticket"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    let buyers: BTreeSet<u64> = listed.iter().map(|sale| sale["buyer"].as_u64().unwrap()).collect();
    assert_eq!(buyers.len(), ids.len(), "{content}");
    let told = summary["tickets"].as_array().unwrap();
    assert!(told.iter().all(|ticket| ticket["booked"] == true), "{summary}");
    assert_eq!(told.len(), ids.len(), "{summary}");
}

#[test]
fn all_buyers_may_die() {
    let shop = Shop::new();
    let (code, summary) = shop.sell("--buyers 12 --stock 12 --think-time 10 --kill-rate 1 --seed 5");
    assert_eq!((code, &summary["balanced"]), (Some(0), &Value::Bool(true)), "{summary}");
    check_tickets(&shop, &summary, 12);
}

#[test]
fn kills_without_a_lock_do_not_tear_the_file_either() {
    let shop = Shop::new();
    let (code, summary) =
        shop.sell("--buyers 16 --stock 16 --think-time 5 --kill-rate 0.5 --seed 2 --no-lock");
    assert!(matches!(code, Some(0 | 1)), "{summary}");
    assert_eq!((&summary["locks_recovered"], &summary["kills"]["inside_lock"]), (&0.into(), &0.into()));
    assert!(shop.content()["count"].is_u64());
    assert_eq!(shop.files(), ["db.json"]);
}

#[test]
fn the_summary_is_one_line_of_json_with_everything_in_it() {
    let output = Shop::new().command("--buyers 2 --think-time 1 --seed 77 --json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let summary: Value = serde_json::from_str(&text).unwrap();
    for field in
        "db locked buyers stock left think_time_ms kill_rate seed locks_recovered seconds interrupted_by sold \
         sold_but_killed refused killed failed not_started kills balanced tickets oversold problems failures"
            .split_whitespace()
    {
        assert!(summary.get(field).is_some(), "{field} is not in {text}");
    }
    assert_eq!((&summary["seed"], &summary["balanced"]), (&77.into(), &true.into()));
}

#[test]
fn invalid_flags_are_refused() {
    for flags in [
        "--buyers 0",
        "--buyers -1",
        "--buyers 1000000",
        "--stock -1",
        "--kill-rate 1.5",
        "--kill-rate NaN",
        "--kill-rate x",
        "--think-time 99999999",
        "--seed -5",
        "--unknown",
    ] {
        assert!(refused(&mut tickets(flags)).contains("error:"), "{flags}");
    }
    refused(&mut Command::new(env!("CARGO_BIN_EXE_procession")));
    let said = refused(&mut tickets("--buyers -3"));
    assert!(said.contains("-3 is not in 1..=100000"), "{said}");
    let said = refused(&mut tickets("--stock -3"));
    assert!(said.contains("a whole number from 0"), "{said}");
}
