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
    /// Read the input from FILE; several are combined, each with each.
    #[arg(short, long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub arg_file: Vec<PathBuf>,

    /// Inputs end with a null byte, not with a newline.
    #[arg(short = '0', long, help_heading = INPUT, conflicts_with = "delimiter")]
    pub null: bool,

    /// Inputs end with this character, such as , or \t.
    #[arg(short, long, value_name = "CHAR", help_heading = INPUT, value_parser = character)]
    pub delimiter: Option<u8>,

    /// Split each input into columns {1} {2} .. at this text.
    #[arg(long, value_name = "TEXT", help_heading = INPUT, value_parser = text)]
    pub colsep: Option<Bytes>,

    /// Give each command up to N inputs (with --pipe: N lines).
    #[arg(short = 'n', long, visible_short_alias = 'N', value_name = "N", help_heading = INPUT, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_args: Option<u32>,

    /// Give each command as many inputs as fit on a command line.
    #[arg(short = 'X', long, help_heading = INPUT, conflicts_with_all = ["max_args", "pipe"])]
    pub xargs: bool,

    /// Run nothing for an empty input.
    #[arg(short = 'r', long, help_heading = INPUT)]
    pub no_run_if_empty: bool,

    /// Give blocks of lines to the commands' standard input.
    #[arg(long, help_heading = INPUT)]
    pub pipe: bool,

    /// How large a block of --pipe is [default: 1M].
    #[arg(long, value_name = "SIZE", help_heading = INPUT, value_parser = size, requires = "pipe")]
    pub block: Option<u64>,

    /// Commands at a time: N, 0 for most; 50%, +N or -N of the CPUs [default: 100%].
    #[arg(short, long, value_name = "N", help_heading = RUNNING, allow_hyphen_values = true)]
    pub jobs: Option<Jobs>,

    /// Replace WORD by the input, not {}.
    #[arg(short = 'I', value_name = "WORD", help_heading = RUNNING)]
    pub replace: Option<OsString>,

    /// Run the commands in this directory.
    #[arg(long, visible_alias = "workdir", value_name = "DIR", help_heading = RUNNING, value_hint = ValueHint::DirPath)]
    pub wd: Option<PathBuf>,

    /// Add N to the commands' nice value.
    #[arg(long, value_name = "N", help_heading = RUNNING, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-40..=40))]
    pub nice: Option<i32>,

    /// Start commands at least this long after each other.
    #[arg(long, value_name = "TIME", help_heading = RUNNING, value_parser = duration)]
    pub delay: Option<std::time::Duration>,

    /// Start none while the load average is higher: N, or 100%.
    #[arg(long, value_name = "N", help_heading = RUNNING)]
    pub load: Option<Load>,

    /// Start none while less memory is available.
    #[arg(long, value_name = "SIZE", help_heading = RUNNING, value_parser = size)]
    pub memfree: Option<u64>,

    /// Give the terminal to one command at a time.
    #[arg(long, help_heading = RUNNING, conflicts_with_all = ["pipe", "tag", "line_buffer", "results", "keep_order"])]
    pub tty: bool,

    /// Ask before each command.
    #[arg(short = 'p', long, help_heading = RUNNING)]
    pub interactive: bool,

    /// Print the commands, and run none.
    #[arg(long, help_heading = RUNNING)]
    pub dry_run: bool,

    /// How long a command may take: 30, 1m30s, or 300% of the median.
    #[arg(long, value_name = "TIME", help_heading = FAILURE)]
    pub timeout: Option<TimeLimit>,

    /// How long after SIGTERM a command is killed [default: 1s].
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub kill_after: Option<std::time::Duration>,

    /// Kill also what a command leaves in the background.
    #[arg(long, help_heading = FAILURE)]
    pub kill_all: bool,

    /// How often a failed command is tried again.
    #[arg(long, value_name = "N", help_heading = FAILURE, default_value_t = 0, hide_default_value = true)]
    pub retries: u32,

    /// Wait before that; twice as long each time.
    #[arg(long, value_name = "TIME", help_heading = FAILURE, value_parser = duration)]
    pub retry_delay: Option<std::time::Duration>,

    /// Stop early: now|soon,fail|success|done=N|P%.
    #[arg(long, value_name = "WHEN", help_heading = FAILURE)]
    pub halt: Option<Halt>,

    /// Print in the order of the input.
    #[arg(short, long, help_heading = OUTPUT)]
    pub keep_order: bool,

    /// Do not collect what commands print; it may mix.
    #[arg(short, long, help_heading = OUTPUT, conflicts_with_all = ["tag", "line_buffer", "results", "keep_order"])]
    pub ungroup: bool,

    /// Print each line as it comes.
    #[arg(long, visible_alias = "lb", help_heading = OUTPUT)]
    pub line_buffer: bool,

    /// Put the input and a tab before each line.
    #[arg(long, help_heading = OUTPUT)]
    pub tag: bool,

    /// Also write outputs to files under DIR.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub results: Option<PathBuf>,

    /// Where output waits that is too long for memory [default: $TMPDIR].
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub tmpdir: Option<PathBuf>,

    /// Print each command to standard error when it starts.
    #[arg(short, long, visible_short_alias = 't', help_heading = OUTPUT)]
    pub verbose: bool,

    /// Print no summary and no progress.
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,

    /// Write a line for each finished command.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,

    /// As a table or as JSON lines.
    #[arg(long, value_name = "FORMAT", help_heading = LOG, default_value = "tsv", requires = "log")]
    pub log_format: LogFormat,

    /// The same in GNU parallel's format.
    #[arg(long, value_name = "FILE", help_heading = LOG, value_hint = ValueHint::FilePath, conflicts_with = "log")]
    pub joblog: Option<PathBuf>,

    /// Do not repeat what has succeeded according to the log.
    #[arg(long, help_heading = LOG)]
    pub resume: bool,

    /// Print help.
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = LOG)]
    help: Option<bool>,

    /// The command, and inputs after `:::` or files of them after `::::`.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, hide = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// How the log is written.
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

{} in the command becomes the line. Without {}, the line is the last word. {.} is the line without
its extension, {/} its last part, {//} its directory, {/.} its last part without extension. {1} {2}
.. are columns or the words of several inputs. {#} is the job's number, {%} the number of its slot.";

const AFTER_HELP: &str = "\
Ctrl-C is passed on to the commands, and no more are started. A second one kills everything.
Ctrl-Z stops the commands, too.

Exit status: 0 all commands succeeded, 123 some failed, 124 one exited with 255, 125 `map` itself
failed, 126 a command cannot be executed, 127 it is not found, 128+N `map` was ended by signal N.";

fn character(text: &str) -> Result<u8, String> {
    match *unescape(text)? {
        [byte] => Ok(byte),
        _ => Err("a delimiter is one byte".into()),
    }
}

fn text(text: &str) -> Result<Vec<u8>, String> {
    unescape(text).and_then(|text| if text.is_empty() { Err("it is empty".into()) } else { Ok(text) })
}

/// Understands `\t`, `\n`, `\0` and `\\`.
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
                Some(other) => return Err(format!("\\{} is not understood", char::from(other))),
            },
        });
    }
    Ok(bytes)
}
