//! Running one command, in a worker.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use procession::Dict;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The process groups of the commands that run, by the number of their line.
pub type Groups = Dict<u64, i32>;

/// How a command ended, and what it said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub seconds: f64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// The command's words for one line: each `{}` is the line; without any, the line is one more word.
pub fn words(template: &[String], line: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = template.iter().map(|word| filled_in(word, line)).collect();
    if !template.iter().any(|word| word.contains("{}")) {
        words.push(line.to_owned());
    }
    words
}

fn filled_in(word: &str, line: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = word.split("{}").map(str::as_bytes).collect();
    parts.join(line)
}

/// What a worker does first: what is typed at the terminal is not for it. (A command's own manners are those that
/// it would have anywhere.)
pub fn leave_signals_to_the_driver() -> Result<(), String> {
    for signal in [SIGINT, SIGTERM] {
        let unheard = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, unheard).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Runs a command to its end. It is in a process group of its own; when its worker is killed, it is killed as well,
/// with all that it has started.
pub fn execute(number: u64, words: Vec<Vec<u8>>, groups: Groups) -> Result<Outcome, String> {
    let mut words = words.into_iter().map(OsString::from_vec);
    let Some(program) = words.next() else { return Err("there is no command".into()) };
    let mut command = Command::new(&program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let failed = |e: std::io::Error| format!("{}: {e}", program.display());
    let begun = Instant::now();
    let child = command.spawn().map_err(failed)?;
    let listed = groups.insert(&number, child.id().cast_signed());
    let output = child.wait_with_output().map_err(failed)?;
    if listed.is_ok() {
        let _ = groups.remove(&number);
    }
    Ok(Outcome {
        code: output.status.code(),
        signal: output.status.signal(),
        seconds: begun.elapsed().as_secs_f64(),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_line_goes_where_the_braces_are_or_to_the_end() {
        let template = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let expected =
            |words: &[&str]| words.iter().map(|word| word.as_bytes().to_owned()).collect::<Vec<_>>();
        assert_eq!(words(&template("echo <{}> x{}"), b"a b"), expected(&["echo", "<a b>", "xa b"]));
        assert_eq!(words(&template("echo -n"), b"a b"), expected(&["echo", "-n", "a b"]));
        assert_eq!(words(&template("echo {}"), b"\xff")[1], b"\xff");
    }
}
