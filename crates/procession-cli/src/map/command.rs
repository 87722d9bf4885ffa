//! Running one command, in a worker.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// How a command ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// The command's words for one line: each `{}` is the line; without any, the line is one more word.
pub fn words(template: &[String], line: &str) -> Vec<String> {
    let mut words: Vec<String> = template.iter().map(|word| word.replace("{}", line)).collect();
    if !template.iter().any(|word| word.contains("{}")) {
        words.push(line.to_owned());
    }
    words
}

/// Runs a command to its end. It is in a process group of its own, so that what is typed at the terminal does not
/// reach it by itself; when its worker is killed, it is killed as well, with all that it has started.
pub fn execute(words: Vec<String>) -> Result<Outcome, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("there is no command".into()) };
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).process_group(0).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    Ok(Outcome {
        code: output.status.code(),
        signal: output.status.signal(),
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
        assert_eq!(words(&template("echo <{}> x{}"), "a b"), ["echo", "<a b>", "xa b"]);
        assert_eq!(words(&template("echo -n"), "a b"), ["echo", "-n", "a b"]);
    }
}
