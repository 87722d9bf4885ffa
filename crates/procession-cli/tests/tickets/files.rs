//! The file of a sale: what is kept, what is refused, and what a killed sale leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::shop::{Shop, refused, tickets, watch};

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
    // The buyer thinks for 200 ms between its read and its write. The file is changed again and again, so a change
    // falls in between.
    let status = loop {
        if let Some(status) = sale.try_wait().unwrap() {
            break status;
        }
        let new = shop.directory.path().join("new");
        fs::write(&new, "{\"count\": 1, \"note\": \"mine\"}").unwrap();
        fs::rename(&new, shop.db()).unwrap();
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
