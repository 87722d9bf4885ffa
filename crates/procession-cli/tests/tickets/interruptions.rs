//! Sales that are interrupted, and sales of the same file at the same time.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use super::OUTCOME;
use super::shop::{Shop, numbers};

/// Starts a long sale and waits until its first buyer has looked.
fn begin(shop: &Shop) -> (std::process::Child, impl Iterator<Item = String>) {
    use std::io::BufRead;
    let mut sale = shop.command("--buyers 4 --think-time 60000").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(sale.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("] sees 1 ticket left")));
    (sale, lines)
}

fn signal(sale: &std::process::Child, name: &str) {
    assert!(Command::new("kill").args([name, &sale.id().to_string()]).status().unwrap().success());
}

#[test]
fn ctrl_c_ends_the_sale_with_whole_books() {
    let shop = Shop::new();
    let (mut sale, lines) = begin(&shop);
    signal(&sale, "-INT");
    let told: Vec<String> = lines.collect();
    let signal = std::os::unix::process::ExitStatusExt::signal(&sale.wait().unwrap());
    assert_eq!(signal, Some(2), "{told:?}");
    assert!(told.iter().any(|line| line == "books      balance"), "{told:?}");
    assert_eq!((shop.text().as_str(), shop.files()), ("{\"count\":1}\n", vec!["db.json".to_string()]));
}

#[test]
fn a_second_sale_of_the_same_file_is_refused_until_the_first_is_killed() {
    let shop = Shop::new();
    let (mut sale, lines) = begin(&shop);
    assert!(shop.refused("").contains("another sale of it is going on; --wait waits"));
    signal(&sale, "-KILL");
    // The buyers hold the pipe open, too, so the reader sees its end only after every buyer has exited.
    assert_eq!(lines.filter(|line| line.contains("bought")).count(), 0);
    sale.wait().unwrap();
    let (code, summary) = shop.sell("--buyers 2 --think-time 1");
    assert_eq!((code, numbers(&summary, &OUTCOME)), (Some(0), vec![1, 1, 0, 0, 0]));
    assert_eq!(shop.files(), ["db.json"]);
}

#[test]
fn a_second_sale_waits_with_the_flag() {
    let shop = Shop::new();
    let (mut first, _lines) = begin(&shop);
    let mut second = shop.command("--wait --buyers 1 --think-time 1").stdout(Stdio::null()).spawn().unwrap();
    let mut third = shop.command("--wait --buyers 1").stderr(Stdio::null()).spawn().unwrap();
    // The sale listens as soon as its own handler is installed.
    while !listens(&third) {
        thread::yield_now();
    }
    signal(&third, "-INT");
    assert_eq!(third.wait().unwrap().code(), Some(2), "a waiting sale can be interrupted");
    assert!(second.try_wait().unwrap().is_none());
    signal(&first, "-INT");
    first.wait().unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(shop.content()["count"], 0);
}

/// Returns whether a process has a handler for SIGINT.
fn listens(process: &std::process::Child) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0
}

#[test]
fn a_reader_that_leaves_does_not_hurt_the_sale() {
    let shop = Shop::new();
    let mut sale =
        shop.command("--buyers 6 --stock 6 --think-time 1").stdout(Stdio::piped()).spawn().unwrap();
    drop(sale.stdout.take());
    assert_eq!(sale.wait().unwrap().code(), Some(0));
    assert_eq!(shop.content()["count"], 0);
}
