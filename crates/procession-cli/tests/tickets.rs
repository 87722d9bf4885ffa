//! The sale as users see it: the built program, its output, its exit code, and the file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A directory with a database in it, or with a path where a sale creates one.
struct Shop {
    directory: TempDir,
}

impl Shop {
    fn new() -> Shop {
        Shop { directory: tempfile::tempdir().unwrap() }
    }

    fn with(text: &str) -> Shop {
        let shop = Shop::new();
        fs::write(shop.db(), text).unwrap();
        shop
    }

    fn db(&self) -> PathBuf {
        self.directory.path().join("db.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.db()).unwrap()
    }

    fn content(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command(&self, flags: &str) -> Command {
        let mut command = tickets(flags);
        command.arg("--db").arg(self.db());
        command
    }

    /// Runs a sale with `--json`. Returns its exit code and its summary.
    fn sell(&self, flags: &str) -> (Option<i32>, Value) {
        let output = self.command(flags).arg("--json").output().unwrap();
        let json = serde_json::from_slice(&output.stdout);
        (output.status.code(), json.unwrap_or_else(|e| panic!("{e}: {output:?}")))
    }

    /// Runs a sale that must be refused before it begins. Returns its message.
    fn refused(&self, flags: &str) -> String {
        refused(&mut self.command(flags))
    }
}

/// Starts a watchdog, so that a sale that hangs fails the test. Five minutes is many times longer than all
/// sales take.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(300));
            eprintln!("the sales have not ended after five minutes");
            std::process::abort();
        });
    });
}

fn tickets(flags: &str) -> Command {
    watch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("tickets").args(flags.split_whitespace());
    command
}

fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8(stdout).unwrap(), "");
    stderr
}

fn numbers(summary: &Value, fields: &[&str]) -> Vec<u64> {
    fields
        .iter()
        .map(|field| summary[field].as_u64().unwrap_or_else(|| panic!("{field}: {summary}")))
        .collect()
}

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
fn other_fields_and_the_permissions_of_the_file_are_kept() {
    let shop =
        Shop::with(r#"{"venue": {"name": "Ü", "rows": [1, 2.50]}, "count": 2, "id": 123456789012345678901}"#);
    fs::set_permissions(shop.db(), fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _) = shop.sell("--buyers 1 --think-time 1");
    assert_eq!(code, Some(0));
    let kept = r#"{"venue":{"name":"Ü","rows":[1,2.50]},"count":1,"id":123456789012345678901,"sold":[{"#;
    assert!(shop.text().starts_with(kept), "{}", shop.text());
    assert_eq!(fs::metadata(shop.db()).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let shop = Shop::with(r#"{"count": 1}"#);
    let link = shop.directory.path().join("link");
    symlink("db.json", &link).unwrap();
    assert!(tickets("--buyers 2 --think-time 1 --db").arg(&link).output().unwrap().status.success());
    assert!(link.is_symlink());
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
fn a_file_without_a_stock_is_refused_and_left_unchanged() {
    for (text, why) in [
        ("", "is not JSON"),
        ("{\"count\": 1", "is not JSON"),
        ("\u{feff}{\"count\": 1}", "begins with a byte order mark"),
        ("1", "is not a JSON object"),
        ("{\"Count\": 1}", "has no \"count\""),
        ("{\"count\": -1}", "is negative: -1"),
        ("{\"count\": 1.5}", "is not a whole number"),
        ("{\"count\": \"many\"}", "is not a number"),
        ("{\"count\": 1, \"sold\": 7}", "is not a list of this program's sales"),
    ] {
        let shop = Shop::with(text);
        let said = shop.refused("--stock 3");
        assert!(said.contains(why) && said.contains("db.json"), "{text}: {said}");
        assert_eq!(shop.text(), text);
        assert_eq!(shop.files(), ["db.json"]);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_and_left_as_they_are() {
    let shop = Shop::new();
    fs::write(shop.db(), b"{\"count\": \xff\x00}").unwrap();
    assert!(shop.refused("").contains("is not JSON"));
    assert_eq!(fs::read(shop.db()).unwrap(), b"{\"count\": \xff\x00}");
}

/// Returns a command that runs the program as a user other than root. If this test runs as root, the program
/// runs from a place that every user may read.
fn as_ordinary_user(shop: &Shop, flags: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return shop.command(flags);
    }
    let program = shop.directory.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_procession"), &program).unwrap();
    fs::set_permissions(shop.directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    watch();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).arg("tickets");
    command.args(flags.split_whitespace()).arg("--db").arg(shop.db());
    command
}

/// The kernel decides whether the file can be written, not the mode alone. Here the owner may write, but this
/// user is not the owner.
#[test]
fn a_protected_file_is_refused_and_left_as_it_is() {
    for mode in [0o000, 0o400, 0o644] {
        let shop = Shop::with("{\"count\": 1}");
        let is_root = rustix::process::geteuid().is_root();
        if mode == 0o644 && !is_root {
            println!("only root can make a file that belongs to another user");
            continue;
        }
        fs::set_permissions(shop.db(), fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(shop.db()).unwrap();
        let said = refused(&mut as_ordinary_user(&shop, "--think-time 1"));
        assert!(said.contains("is write-protected"), "{mode:o}: {said}");
        let after = fs::metadata(shop.db()).unwrap();
        assert_eq!((before.ino(), before.mode(), before.uid()), (after.ino(), after.mode(), after.uid()));
        fs::set_permissions(shop.db(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(shop.text(), "{\"count\": 1}");
    }
}

#[test]
fn owner_group_and_mode_of_the_file_are_kept_or_it_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can make a file that belongs to another user");
        return;
    }
    let shop = Shop::with("{\"count\": 1}");
    std::os::unix::fs::chown(shop.db(), Some(12345), Some(54321)).unwrap();
    fs::set_permissions(shop.db(), fs::Permissions::from_mode(0o666)).unwrap();
    let said = refused(&mut as_ordinary_user(&shop, "--think-time 1"));
    assert!(said.contains("cannot be replaced by a file with its owner"), "{said}");
    assert_eq!(shop.text(), "{\"count\": 1}");
    assert_eq!(shop.sell("--buyers 1 --think-time 1").0, Some(0));
    let kept = fs::metadata(shop.db()).unwrap();
    assert_eq!(
        (kept.uid(), kept.gid(), kept.mode() & 0o777, &shop.content()["count"]),
        (12345, 54321, 0o666, &0.into())
    );
}

#[test]
fn a_file_with_several_names_is_refused() {
    let shop = Shop::with("{\"count\": 1}");
    fs::hard_link(shop.db(), shop.directory.path().join("other")).unwrap();
    let said = shop.refused("");
    assert!(said.contains("has 2 names (hard links)"), "{said}");
    assert_eq!(shop.text(), "{\"count\": 1}");
}

#[test]
fn a_change_from_outside_is_noticed_and_kept() {
    let shop = Shop::with("{\"count\": 1}");
    let mut sale = shop.command("--buyers 1 --think-time 200");
    let mut sale = sale.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The buyer thinks for 200 ms between its read and its write. With a change every 5 ms, at least one
    // falls in between.
    let status = loop {
        if let Some(status) = sale.try_wait().unwrap() {
            break status;
        }
        let new = shop.directory.path().join("new");
        fs::write(&new, "{\"count\": 1, \"note\": \"mine\"}").unwrap();
        fs::rename(&new, shop.db()).unwrap();
        thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    std::io::Read::read_to_string(&mut sale.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("was changed from outside during the sale"), "{said}");
    assert_eq!(shop.content(), serde_json::json!({"count": 1, "note": "mine"}));
}

#[test]
fn a_path_that_is_not_a_file_is_refused() {
    let shop = Shop::new();
    let here = shop.directory.path();
    symlink("nowhere", here.join("dangling")).unwrap();
    for (path, why) in [
        (here.to_owned(), "is a directory"),
        (here.join("missing/db.json"), "its directory cannot be used"),
        (here.join("dangling"), "cannot be found"),
        (PathBuf::from("/"), "is a directory"),
        (PathBuf::from("/dev/null"), "is not a regular file"),
        (PathBuf::new(), "a value is required"),
        (PathBuf::from("missing/.."), "is not the name of a file"),
        (PathBuf::from("-"), "standard input cannot be sold from; a file of that name is ./-"),
    ] {
        let said = refused(tickets("--db").arg(&path));
        assert!(said.contains(why), "{}: {said}", path.display());
    }
    assert_eq!(shop.files(), ["dangling"]);
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

#[test]
fn side_files_of_a_sale_that_was_killed_are_removed_and_nothing_else() {
    let shop = Shop::with("{\"count\": 1}");
    let put = |name: &str| fs::write(shop.directory.path().join(name), "half").unwrap();
    let others = [".db.json.x.aside", ".other.json.1.aside", "db.json.1.aside"];
    [".db.json.4711.aside", ".db.json.sale"].into_iter().chain(others).for_each(put);
    assert_eq!(shop.sell("--buyers 1 --think-time 1").0, Some(0));
    let mut left = [&["db.json"][..], &others].concat();
    left.sort_unstable();
    assert_eq!(shop.files(), left);
}

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
    assert_eq!(sale.wait().unwrap().code(), Some(130), "{told:?}");
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

#[test]
fn the_directory_of_the_file_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let shop = Shop::new();
    let strange = shop.directory.path().join(Path::new(std::ffi::OsStr::from_bytes(b"a b\xff\n")));
    fs::create_dir(&strange).unwrap();
    let output = tickets("--buyers 2 --think-time 1 --json --db").arg(strange.join("db")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_dir(&strange).unwrap().count(), 1);
}
