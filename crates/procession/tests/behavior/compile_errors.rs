//! Programs that must not compile, and the advice in each compiler message. The programs are in `fixtures/refused`.

use crate::family;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Returns the compiler's messages for each program in `fixtures/refused`.
fn messages() -> &'static HashMap<String, String> {
    static MESSAGES: OnceLock<HashMap<String, String>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/refused/Cargo.toml");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo
            .args(["build", "--offline", "--keep-going", "--message-format=json", "--manifest-path"])
            .arg(manifest);
        cargo.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused"));
        let output = cargo.output().expect("cargo runs");
        let mut messages = HashMap::<String, String>::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("cargo speaks JSON");
            let program = line["target"]["name"].as_str().unwrap_or_default().to_owned();
            match line["reason"].as_str() {
                Some("compiler-message") => {
                    *messages.entry(program).or_default() +=
                        line["message"]["rendered"].as_str().unwrap_or_default();
                }
                Some("compiler-artifact") => drop(messages.entry(program).or_default()),
                _ => {}
            }
        }
        assert_eq!(messages.get("good").map(String::as_str), Some(""), "{}", family::text_of(&output));
        messages
    })
}

/// Asserts that the program does not compile, and that the message names its line and contains all of `texts`.
#[track_caller]
fn refused(program: &str, texts: &[&str]) {
    let message = messages().get(program).map_or("", String::as_str);
    assert!(message.contains("error"), "{program} compiles");
    for text in [format!("src/bin/{program}.rs:").as_str()].iter().chain(texts) {
        assert!(message.contains(text), "no `{text}` in:\n{message}");
    }
}

/// Asserts the same as [`refused`], and that there is only one error, whose message fits on a screen.
#[track_caller]
fn refused_once(program: &str, texts: &[&str]) {
    refused(program, texts);
    let message = &messages()[program];
    let errors =
        message.lines().filter(|line| line.starts_with("error") && !line.contains("aborting")).count();
    assert!(errors == 1 && message.lines().count() < 35, "{errors} errors:\n{message}");
}

/// Asserts that the program does not compile, and that the messages name every line that passes a closure with a
/// capture.
#[track_caller]
fn refused_at_each_call(program: &str) {
    refused(program, &ADVICE);
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/refused/src/bin/{program}.rs"));
    let text = std::fs::read_to_string(path).expect("the program is there");
    let calls = (1..).zip(text.lines()).filter(|(_, line)| line.contains("(move |"));
    let lines: Vec<usize> = calls.map(|(number, _)| number).collect();
    assert!(lines.len() >= 13, "one for each function that takes a closure: {lines:?}");
    let message = &messages()[program];
    for line in lines {
        let place = format!("src/bin/{program}.rs:{line}:");
        assert!(message.contains(&place), "no error at {place}\n{message}");
    }
}

const ADVICE: [&str; 2] =
    ["a function that runs in another process cannot capture variables", "as arguments, `|x: X| ..`"];

#[test]
fn the_error_of_a_captured_value_suggests_arguments() {
    refused_once("captures", &ADVICE);
    refused_once("captures_in_builder", &ADVICE);
    refused_at_each_call("captures_copy");
}

#[test]
fn the_error_of_a_captured_handle_suggests_arguments() {
    refused("captures_handle", &ADVICE);
    refused("captures_by_move", &ADVICE);
}

#[test]
fn a_captured_token_without_a_size_is_refused() {
    refused_at_each_call("captures_token");
    refused_at_each_call("captures_thread_token");
    refused("captures_borrowed_token", &["`owner` does not live long enough"]);
    refused("entry_of_token", &ADVICE);
}

#[test]
fn errors_about_captures_do_not_mention_copy() {
    for program in ["captures_handle", "captures_by_move", "captures_token", "captures_thread_token"] {
        refused(program, &[]);
        let message = &messages()[program];
        assert!(!message.contains("Copy` is not") && !message.contains("Copy` cannot be"), "{message}");
    }
}

#[test]
fn a_function_pointer_is_refused() {
    refused_once("pointer", &["a pointer to a function cannot cross: pass the function itself"]);
}

#[test]
fn a_captured_reference_is_refused() {
    refused("captures_reference", &["`limit`"]);
}

#[test]
fn arguments_must_match_the_function() {
    refused("wrong_type", &["String", "u64"]);
    refused("too_few", &["2 elements", "(u8,)"]);
    refused("no_tuple", &["(u8,)", "trailing comma"]);
}

#[test]
fn a_message_must_be_owned_and_serializable() {
    refused(
        "no_message",
        &["`Plain` cannot be sent to another process", "serde::Serialize + serde::Deserialize"],
    );
    refused_once("no_message", &["`Plain` cannot be sent to another process"]);
    refused_once(
        "no_message_argument",
        &["`(Vec<Plain>,)` cannot be sent to another process", "derive both"],
    );
}

#[test]
fn what_borrows_is_named() {
    let borrows = "implementation of `procession::BorrowsNothing` is not general enough";
    for program in ["borrowed", "borrowed_str"] {
        refused_once(program, &[borrows, "`(&str,)` must implement"]);
    }
    refused_once("borrowed_struct", &[borrows, "`(Line<'_>,)` must implement"]);
    refused_once("queue_of_borrowed", &[borrows, "`&str` must implement"]);
    refused_once("borrowed_result", &[borrows]);
}

#[test]
fn an_error_that_cannot_be_sent_has_a_way_out() {
    let errors = [
        ("io_error", "std::io::Error"),
        ("boxed_error", "Box<(dyn std::error::Error"),
        ("anyhow_error", "anyhow::Error"),
    ];
    for (program, error) in errors {
        let message = format!("`Result<u64, {error}");
        refused_once(
            program,
            &[&message, "cannot be sent to another process", ".map_err(procession::Error::other)"],
        );
    }
}

#[test]
fn a_map_takes_items_and_a_function_of_one_argument() {
    refused_once("map_of_pairs", &["function is expected to take 1 argument, but it takes 2 arguments"]);
    refused_once("map_over_tuple", &["is not an iterator"]);
    refused_once("map_captures", &ADVICE);
    refused_once("map_borrows", &["closure may outlive the current function"]);
}

#[test]
fn eight_arguments_are_the_most() {
    refused("nine", &["cannot be called with the arguments", "at most 8 arguments"]);
}

/// Each heading of the page occurs in the compiler's message for one of the programs.
#[test]
fn the_page_on_compile_errors_quotes_the_compiler() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/when-it-does-not-compile.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let headings: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("## ``")?.strip_suffix("``")).collect();
    assert!(headings.len() >= 10 && headings.len() == page.matches("\n## ").count(), "{headings:?}");
    for heading in headings {
        assert!(messages().values().any(|message| message.contains(heading)), "no message has `{heading}`");
    }
}

#[test]
fn a_function_that_never_returns_needs_a_return_type() {
    refused("never", &["|| -> ()"]);
}

#[test]
fn a_guard_cannot_be_sent_to_another_thread() {
    refused("guard", &["cannot be sent between threads"]);
}
