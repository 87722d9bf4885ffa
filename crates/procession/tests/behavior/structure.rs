//! The structure of the source: each folder's table lists its files, and modules import only modules below them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with more files than this has a table of them in its `mod.rs`.
const WITHOUT_TABLE: usize = 3;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the source").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            _ => {}
        }
    }
    found
}

/// Returns the words in backquotes that end in `.rs`, from the table rows in comments.
fn listed(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with("//! |") || line.starts_with("// |"));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    words.filter(|word| word.ends_with(".rs") && !word.contains('/')).map(str::to_owned).collect()
}

#[test]
fn the_table_of_each_folder_lists_its_files() {
    let mut wrong = Vec::new();
    for face in files(&source()).into_iter().filter(|path| path.ends_with("mod.rs")) {
        let folder = face.parent().expect("a file is in a folder");
        let entries = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
        let names = entries.filter(|path| path.extension().is_some_and(|end| end == "rs") && *path != face);
        let names: BTreeSet<String> =
            names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        let mut table = listed(&fs::read_to_string(&face).expect("a file of the source"));
        table.remove("mod.rs");
        if names.len() > WITHOUT_TABLE {
            wrong.extend(names.difference(&table).map(|name| format!("{} misses {name}", face.display())));
        }
        wrong.extend(table.difference(&names).map(|name| format!("{} lists {name}", face.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the modules from the top down, as ARCHITECTURE.md declares them.
fn declared_order() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = fs::read_to_string(page).expect("ARCHITECTURE.md");
    let mark = "    internals → ";
    let line = text.lines().find(|line| line.starts_with(mark)).expect("a line with the order of modules");
    line.split('→').map(|name| name.trim().to_owned()).collect()
}

/// Returns every path after `crate::` in the code: `crate::a::{b, c::d}` yields `a::b` and `a::c::d`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    code.split("crate::").skip(1).flat_map(|rest| paths("", rest)).collect()
}

/// Returns the paths at the start of `text`, each with the prefix `before`.
fn paths(before: &str, text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let path = format!("{before}{path}");
    let Some(group) = rest.strip_prefix('{') else { return vec![path] };
    let mut depth = 1;
    let closes = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    };
    let group = &group[..group.find(closes).unwrap_or(group.len())];
    let mut depth = 0;
    let members = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let members = members.map(str::trim).filter(|member| !member.is_empty());
    members.flat_map(|member| paths(&path, member)).collect()
}

/// Returns the position of a path's module in the declared order. A path belongs to the module with the
/// longest name that the path starts with.
fn place(order: &[String], path: &str) -> Option<usize> {
    let names = order.iter().enumerate().filter(|(_, name)| {
        let rest = path.strip_prefix(name.replace('/', "::").as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    names.max_by_key(|(_, name)| name.len()).map(|(at, _)| at)
}

#[test]
fn modules_import_only_modules_below_them() {
    let (order, source) = (declared_order(), source());
    let mut wrong = BTreeSet::new();
    for path in files(&source) {
        let inside = path.strip_prefix(&source).expect("below the source").with_extension("");
        let name = inside.to_str().expect("a name of letters").replace('/', "::");
        let Some(from) = place(&order, &name) else { continue };
        for import in imports(&fs::read_to_string(&path).expect("a file of the source")) {
            if place(&order, &import).is_some_and(|to| to < from) {
                wrong.insert(format!("{name} imports {import}, which stands above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn paths_of_groups_are_found() {
    let found = imports("use crate::a::{b, c::{d, e}};\nlet x = crate::f::G;\n// crate::h\nuse crate::i;");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a::b", "a::c::d", "a::c::e", "f::G", "i"]);
}
