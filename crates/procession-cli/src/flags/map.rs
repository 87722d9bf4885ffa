//! The options of `procession map`, each defined once. Help, man page and completions are generated from them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum, ValueHint};

use crate::map::halt::Halt;
use crate::map::quantity::{Jobs, Load, TimeLimit, duration, size};

/// The options of `procession map`.
#[derive(Args, Clone, Debug)]
#[command(
    about = ABOUT,
    long_about = None,
    disable_help_flag = true,
    override_usage = "procession map [OPTIONS] COMMAND [WORD]... [::: INPUT...] [:::: FILE...]",
    after_help = AFTER_HELP
)]
pub struct Map {
    /// Read FILE. Several files give every combination.
    #[arg(short, long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub arg_file: Vec<PathBuf>,

    /// Separate inputs by null bytes, not by newlines.
    #[arg(short = '0', long, help_heading = INPUT, conflicts_with = "delimiter")]
    pub null: bool,

    /// Separate inputs by CHAR, such as , or \t.
    #[arg(short, long, value_name = "CHAR", help_heading = INPUT, value_parser = bytes(character))]
    pub delimiter: Option<u8>,

    /// Split each input at TEXT into columns {1} {2} ..
    #[arg(long, value_name = "TEXT", help_heading = INPUT, value_parser = bytes(text))]
    pub colsep: Option<Bytes>,

    /// Pass N inputs to each command, or N lines.
    #[arg(short = 'n', long, visible_short_alias = 'N', value_name = "N", help_heading = INPUT, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_args: Option<u32>,

    /// Pass as many inputs to each command as fit.
    #[arg(short = 'X', long, help_heading = INPUT, conflicts_with_all = ["max_args", "pipe"])]
    pub xargs: bool,

    /// Skip empty inputs.
    #[arg(short = 'r', long, help_heading = INPUT)]
    pub no_run_if_empty: bool,

    /// Write blocks of lines to the commands' input.
    #[arg(long, help_heading = INPUT)]
    pub pipe: bool,

    /// Set the size of a block of --pipe [default: 1M].
    #[arg(long, value_name = "SIZE", help_heading = INPUT, value_parser = size, requires = "pipe")]
    pub block: Option<u64>,

    /// Run N at a time (0: max; 50%, +N, -N: of CPUs) [100%].
    #[arg(short, long, value_name = "N", help_heading = RUNNING, allow_hyphen_values = true)]
    pub jobs: Option<Jobs>,

    /// Replace WORD by the input, instead of {}.
    #[arg(short = 'I', value_name = "WORD", help_heading = RUNNING)]
    pub replace: Option<OsString>,

    /// Run the commands in DIR.
    #[arg(long, visible_alias = "workdir", value_name = "DIR", help_heading = RUNNING, value_hint = ValueHint::DirPath)]
    pub wd: Option<PathBuf>,

    /// Add N to the commands' nice value.
    #[arg(long, value_name = "N", help_heading = RUNNING, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-40..=40))]
    pub nice: Option<i32>,

    /// Wait at least TIME between the starts of two commands.
    #[arg(long, value_name = "TIME", help_heading = RUNNING, value_parser = duration)]
    pub delay: Option<std::time::Duration>,

    /// Start none while the load is above N, or N% of CPUs.
    #[arg(long, value_name = "N", help_heading = RUNNING)]
    pub load: Option<Load>,

    /// Start none while less memory than SIZE is available.
    #[arg(long, value_name = "SIZE", help_heading = RUNNING, value_parser = size)]
    pub memfree: Option<u64>,

    /// Run one at a time, in the terminal's foreground.
    #[arg(long, help_heading = RUNNING, conflicts_with_all = ["pipe", "tag", "line_buffer", "results", "keep_order"])]
    pub tty: bool,

    /// Ask for confirmation before each command.
    #[arg(short = 'p', long, help_heading = RUNNING)]
    pub interactive: bool,

    /// Print the commands without running them.
    #[arg(long, help_heading = RUNNING)]
    pub dry_run: bool,

    /// End a command after TIME: 30, 1m30s, or 300%.
    #[arg(long, value_name = "TIME", help_heading = FAILURE)]
    pub timeout: Option<TimeLimit>,

    /// Kill a command TIME after SIGTERM [default: 1s].
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub kill_after: Option<std::time::Duration>,

    /// Also kill processes that a command leaves.
    #[arg(long, help_heading = FAILURE)]
    pub kill_all: bool,

    /// Retry a failed command up to N times.
    #[arg(long, value_name = "N", help_heading = FAILURE, default_value_t = 0, hide_default_value = true)]
    pub retries: u32,

    /// Wait TIME before a retry, then twice as long.
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub retry_delay: Option<std::time::Duration>,

    /// Stop early: now|soon,fail|success|done=N|P%.
    #[arg(long, value_name = "WHEN", help_heading = FAILURE)]
    pub halt: Option<Halt>,

    /// Print outputs in the order of the inputs.
    #[arg(short, long, help_heading = OUTPUT)]
    pub keep_order: bool,

    /// Print output directly, without keeping it apart.
    #[arg(short, long, help_heading = OUTPUT, conflicts_with_all = ["tag", "line_buffer", "results", "keep_order"])]
    pub ungroup: bool,

    /// Print each line as soon as it is complete.
    #[arg(long, visible_alias = "lb", help_heading = OUTPUT)]
    pub line_buffer: bool,

    /// Print the input and a tab before each line.
    #[arg(long, help_heading = OUTPUT)]
    pub tag: bool,

    /// Also write outputs to files in DIR.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub results: Option<PathBuf>,

    /// Store output that waits in DIR [default: $TMPDIR].
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub tmpdir: Option<PathBuf>,

    /// Print each command when it starts.
    #[arg(short, long, visible_short_alias = 't', help_heading = OUTPUT)]
    pub verbose: bool,

    /// Print neither progress nor a summary.
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,

    /// Write a line to FILE for each finished command.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,

    /// Write a table, or JSON lines [tsv, json].
    #[arg(long, value_name = "FORMAT", help_heading = LOG, default_value = "tsv", hide_default_value = true, hide_possible_values = true, requires = "log")]
    pub log_format: LogFormat,

    /// Write the log in GNU parallel's format.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath, conflicts_with = "log")]
    pub joblog: Option<PathBuf>,

    /// Skip what succeeded according to the log.
    #[arg(long, help_heading = LOG)]
    pub resume: bool,

    /// Print help.
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = LOG)]
    help: Option<bool>,

    /// The command. Inputs follow `:::`, and files with inputs follow `::::`.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, hide = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Columns with tabs between them.
    Tsv,
    /// One JSON object a line.
    Json,
}

/// A text. (clap would treat an option of type `Vec` as one that can be given several times.)
type Bytes = Vec<u8>;

const INPUT: &str = "Input";
const RUNNING: &str = "Running";
const FAILURE: &str = "Time limits and failures";
const OUTPUT: &str = "Output";
const LOG: &str = "Log";

const ABOUT: &str = "\
Runs a command for each line of the input, several at a time.

{} in the command becomes the line. Without a place such as {}, the line becomes
the last word. {.} is the line without its extension, {/} its last part, {//}
its directory, {/.} its last part without extension. {1} {2} .. are the columns,
or the inputs of a combination. {#} is the number of the job, {%} of its slot.";

const AFTER_HELP: &str = "\
Ctrl-C is passed on to the commands, and no further command starts. A second
Ctrl-C kills the commands. Ctrl-Z also stops the commands.

Exit status: 0 all commands succeeded, 123 some failed, 124 one exited with 255,
125 `map` itself failed, 126 a command cannot be executed, 127 a command is not
found, 128+N signal N ended `map`, 141 its output lost its reader.";

/// Returns a parser of option values that need not be UTF-8.
fn bytes<T: Clone + Send + Sync + 'static>(
    parse: fn(&[u8]) -> Result<T, String>,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |text: OsString| parse(text.as_bytes()))
}

fn character(text: &[u8]) -> Result<u8, String> {
    match *unescape(text)? {
        [byte] => Ok(byte),
        _ => Err("a delimiter must be one byte".into()),
    }
}

fn text(text: &[u8]) -> Result<Vec<u8>, String> {
    unescape(text).and_then(|text| if text.is_empty() { Err("the text is empty".into()) } else { Ok(text) })
}

/// Replaces the escape sequences of C and of `xargs`: letters, `\` with octal digits, and `\x` with hexadecimal digits.
fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, after)) = rest.split_first() {
        let (byte, length) = match first {
            b'\\' if !after.is_empty() => escape(after)?,
            _ => (first, 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    Ok(bytes)
}

/// Returns the byte that an escape sequence stands for, and the length of the sequence without its backslash.
fn escape(text: &[u8]) -> Result<(u8, usize), String> {
    let number = |digits: &[u8], base: u32, most: usize| {
        let length = digits.iter().take(most).take_while(|&&byte| char::from(byte).is_digit(base)).count();
        let digits = std::str::from_utf8(&digits[..length]).ok()?;
        Some((u8::from_str_radix(digits, base).ok()?, length))
    };
    let found = match text[0] {
        b'a' => Some((7, 1)),
        b'b' => Some((8, 1)),
        b'f' => Some((12, 1)),
        b'n' => Some((b'\n', 1)),
        b'r' => Some((b'\r', 1)),
        b't' => Some((b'\t', 1)),
        b'v' => Some((11, 1)),
        b'\\' => Some((b'\\', 1)),
        b'x' => number(&text[1..], 16, 2).map(|(byte, length)| (byte, length + 1)),
        _ => number(text, 8, 3),
    };
    found.ok_or_else(|| {
        let text = String::from_utf8_lossy(text);
        format!("\\{text} is not a known escape sequence; use \\t, \\n, \\r, \\0, \\\\, \\054 or \\x2c")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_those_of_xargs() {
        let bytes = |text: &str| unescape(text.as_bytes());
        assert_eq!(bytes(r"a\t\n\r\0\\b\").unwrap(), b"a\t\n\r\0\\b\\");
        assert_eq!(bytes(r"\x2c\054\a\b\f\v\xfg\0541").unwrap(), b",,\x07\x08\x0c\x0b\x0fg,1");
        for wrong in [r"\q", r"\x", r"\777", r"\9"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(unescape(b"\xff\\xfe").unwrap(), b"\xff\xfe");
    }
}
