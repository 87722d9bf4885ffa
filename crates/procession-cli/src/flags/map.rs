//! The options of `procession map`, each defined once. Help, man page and completions are generated from them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, ValueHint};

use crate::map::halt::Halt;
use crate::map::quantity::{Jobs, Load, TimeLimit, duration, size};

/// The options of `procession map`.
#[derive(Args, Clone, Debug)]
#[command(
    about = ABOUT,
    long_about = None,
    disable_help_flag = true,
    override_usage = "procession map [OPTIONS] [--] COMMAND [WORD]... [::: INPUT...]... [:::: FILE...]...",
    after_help = AFTER_HELP
)]
pub struct Map {
    /// Read inputs from FILE. Several files give every combination.
    #[arg(short, long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub arg_file: Vec<PathBuf>,

    /// Separate inputs by null bytes, not by newlines.
    #[arg(short = '0', long, help_heading = INPUT, conflicts_with = "delimiter")]
    pub null: bool,

    /// Separate inputs by CHAR, such as , or \t.
    #[arg(short, long, value_name = "CHAR", help_heading = INPUT, value_parser = character)]
    pub delimiter: Option<u8>,

    /// Split each input at TEXT into columns {1} {2} ..
    #[arg(long, value_name = "TEXT", help_heading = INPUT, value_parser = text)]
    pub colsep: Option<Bytes>,

    /// Pass up to N inputs to each command (with --pipe: N lines).
    #[arg(short = 'n', long, visible_short_alias = 'N', value_name = "N", help_heading = INPUT, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_args: Option<u32>,

    /// Pass as many inputs to each command as fit on its command line.
    #[arg(short = 'X', long, help_heading = INPUT, conflicts_with_all = ["max_args", "pipe"])]
    pub xargs: bool,

    /// Run no command if there is no input.
    #[arg(short = 'r', long, help_heading = INPUT)]
    pub no_run_if_empty: bool,

    /// Write blocks of lines to the commands' standard input.
    #[arg(long, help_heading = INPUT)]
    pub pipe: bool,

    /// Set the size of a block of --pipe [default: 1M].
    #[arg(long, value_name = "SIZE", help_heading = INPUT, value_parser = size, requires = "pipe")]
    pub block: Option<u64>,

    /// Run N commands at a time (0: max; 50%, +N, -N: of the CPUs) [default: 100%].
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

    /// Start no command while the load average is above N, or N% of the CPUs.
    #[arg(long, value_name = "N", help_heading = RUNNING)]
    pub load: Option<Load>,

    /// Start no command while less memory than SIZE is available.
    #[arg(long, value_name = "SIZE", help_heading = RUNNING, value_parser = size)]
    pub memfree: Option<u64>,

    /// Run one command at a time, in the foreground of the terminal.
    #[arg(long, help_heading = RUNNING, conflicts_with_all = ["pipe", "tag", "line_buffer", "results", "keep_order"])]
    pub tty: bool,

    /// Ask for confirmation before each command.
    #[arg(short = 'p', long, help_heading = RUNNING)]
    pub interactive: bool,

    /// Print the commands without running them.
    #[arg(long, help_heading = RUNNING)]
    pub dry_run: bool,

    /// End a command after TIME: 30, 1m30s, or 300% of the median.
    #[arg(long, value_name = "TIME", help_heading = FAILURE)]
    pub timeout: Option<TimeLimit>,

    /// Kill a command TIME after SIGTERM [default: 1s].
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub kill_after: Option<std::time::Duration>,

    /// Also kill the background processes that a command leaves.
    #[arg(long, help_heading = FAILURE)]
    pub kill_all: bool,

    /// Retry a failed command up to N times.
    #[arg(long, value_name = "N", help_heading = FAILURE, default_value_t = 0, hide_default_value = true)]
    pub retries: u32,

    /// Wait TIME before the first retry, and twice as long before each next.
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub retry_delay: Option<std::time::Duration>,

    /// Stop early: now|soon,fail|success|done=N|P%.
    #[arg(long, value_name = "WHEN", help_heading = FAILURE)]
    pub halt: Option<Halt>,

    /// Print outputs in the order of the inputs.
    #[arg(short, long, help_heading = OUTPUT)]
    pub keep_order: bool,

    /// Print output directly. Outputs of different commands may mix.
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

    /// Keep output that is too large for memory in DIR [default: $TMPDIR].
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub tmpdir: Option<PathBuf>,

    /// Print each command to standard error when it starts.
    #[arg(short, long, visible_short_alias = 't', help_heading = OUTPUT)]
    pub verbose: bool,

    /// Print neither progress nor a summary.
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,

    /// Write a line to FILE for each finished command.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,

    /// Write a table or JSON lines.
    #[arg(long, value_name = "FORMAT", help_heading = LOG, default_value = "tsv", requires = "log")]
    pub log_format: LogFormat,

    /// Write the log in GNU parallel's format.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath, conflicts_with = "log")]
    pub joblog: Option<PathBuf>,

    /// Skip the commands that succeeded according to the log.
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

{} in the command becomes the line. Without {}, the line becomes the last word. {.} is the line
without its extension, {/} its last part, {//} its directory, {/.} its last part without extension.
{1} {2} .. are the columns, or the inputs of a combination. {#} is the number of the job, and {%} of
its slot.";

const AFTER_HELP: &str = "\
Ctrl-C is passed on to the commands, and no further command starts. A second Ctrl-C kills the
commands. Ctrl-Z also stops the commands.

Exit status: 0 all commands succeeded, 123 some failed, 124 one exited with 255, 125 `map` itself
failed, 126 a command cannot be executed, 127 a command is not found, 128+N signal N ended `map`.";

fn character(text: &str) -> Result<u8, String> {
    match *unescape(text)? {
        [byte] => Ok(byte),
        _ => Err("a delimiter must be one byte".into()),
    }
}

fn text(text: &str) -> Result<Vec<u8>, String> {
    unescape(text).and_then(|text| if text.is_empty() { Err("the text is empty".into()) } else { Ok(text) })
}

/// Replaces the escape sequences `\t`, `\n`, `\0` and `\\`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'0') => 0,
                Some(b'\\') | None => b'\\',
                Some(other) => {
                    return Err(format!(
                        "\\{} is not a known escape sequence; use \\t, \\n, \\0 or \\\\",
                        char::from(other)
                    ));
                }
            },
        });
    }
    Ok(bytes)
}
