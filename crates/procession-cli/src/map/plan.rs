//! [`Plan`]: the meaning of the options.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_launch::was_closed;

use super::batch::{Batch, Kind};
use super::halt::Halt;
use super::input::{Input, Source};
use super::log::Log;
use super::program;
use super::quantity::{Jobs, TimeLimit};
use super::records::Cut;
use super::template::Template;
use crate::flags::Map;
use crate::screen::Failed;

/// The time between SIGTERM and SIGKILL for a command.
const KILL_AFTER: Duration = Duration::from_secs(1);
const BLOCK_BYTES: u64 = 1 << 20;

/// A run as the user requested it. Files are open, and nothing else has happened.
pub struct Plan {
    pub template: Template,
    pub input: Input,
    pub log: Log,
    pub jobs: usize,
    pub output: OutputPlan,
    pub directory: Option<CString>,
    pub nice: i32,
    pub has_terminal: bool,
    pub ask: bool,
    pub dry_run: bool,
    pub verbose: bool,
    pub quiet: bool,
    pub starts: StartPlan,
    pub timeout: Option<TimeLimit>,
    pub kill_after: Duration,
    pub kill_all: bool,
    pub retries: u32,
    pub retry_delay: Duration,
    pub halt: Option<Halt>,
}

/// The conditions for starting commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartPlan {
    pub delay: Duration,
    pub load: Option<f64>,
    pub memory: Option<u64>,
}

/// How the output of commands is treated.
#[derive(Clone, Debug, Default)]
pub struct OutputPlan {
    pub keep_order: bool,
    /// Whether the output is printed without being collected.
    pub ungroup: bool,
    pub by_line: bool,
    pub tag: bool,
    pub results: Option<PathBuf>,
    pub tmpdir: PathBuf,
}

impl Plan {
    /// Opens the files that the options name. Reads `input` instead of standard input if it is given.
    pub fn new(flags: &Map, input: Option<Source>) -> Result<Plan, Failed> {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let jobs =
            if flags.tty { 1 } else { flags.jobs.unwrap_or(Jobs::Percent(100.0)).count(processors) as usize };
        if flags.ungroup && was_closed(1) {
            return Err("--ungroup: standard output is closed".into());
        }
        let (command, sources) = sources(flags, input)?;
        let each = flags.replace.as_ref().map_or(&b"{}"[..], |word| word.as_bytes());
        let template = Template::new(&command, each).ends_with_arguments(!flags.pipe);
        refuse_template(flags)?;
        let log = open_log(flags)?;
        Ok(Plan {
            input: Input::new(sources, cut(flags), Batch::new(kind(flags, &template, jobs)))?,
            template,
            log,
            jobs,
            output: output(flags),
            directory: flags.wd.as_deref().map(directory).transpose()?,
            nice: flags.nice.unwrap_or(0),
            has_terminal: flags.tty,
            ask: flags.interactive,
            dry_run: flags.dry_run,
            verbose: flags.verbose,
            quiet: flags.quiet,
            starts: StartPlan {
                delay: flags.delay.unwrap_or_default(),
                load: flags.load.map(|load| load.average(processors)),
                memory: flags.memfree,
            },
            timeout: flags.timeout.filter(|limit| *limit != TimeLimit::After(Duration::ZERO)),
            kill_after: flags.kill_after.unwrap_or(KILL_AFTER),
            kill_all: flags.kill_all,
            retries: flags.retries,
            retry_delay: flags.retry_delay.unwrap_or_default(),
            halt: flags.halt,
        })
    }
}

/// Returns whether the run reads standard input.
pub fn reads_standard_input(flags: &Map) -> bool {
    let has_words = flags.command.iter().any(|word| word == ":::" || word == "::::");
    let named = flags.arg_file.iter().any(|path| path.as_os_str() == "-");
    named || (flags.arg_file.is_empty() && !has_words)
}

/// Returns the words of the command, and the sources of the input.
fn sources(flags: &Map, input: Option<Source>) -> Result<(Vec<Vec<u8>>, Vec<Source>), Failed> {
    let mut input = input;
    let mut open = |path: PathBuf| match input.take_if(|_| path.as_os_str() == "-") {
        Some(input) => Ok(input),
        None => Source::open(path),
    };
    let mut sources = flags.arg_file.iter().cloned().map(&mut open).collect::<Result<Vec<_>, _>>()?;
    if let Some(word) = flags.command.iter().find(|word| *word == ":::+" || *word == "::::+") {
        let word = word.display();
        return Err(format!("{word}: inputs cannot be linked; use --colsep with one source of pairs").into());
    }
    let is_mark = |word: &OsString| word == ":::" || word == "::::";
    let mut pieces = flags.command.chunk_by(|_, next| !is_mark(next));
    let command = pieces.next().unwrap_or_default();
    if command.first().is_none_or(is_mark) {
        return Err("there is no command before the first `:::`".into());
    }
    for piece in pieces {
        match &piece[0] {
            mark if mark == ":::" => sources.push(Source::words(piece[1..].to_vec())),
            _ => {
                let files = piece[1..].iter().map(|file| open(PathBuf::from(file)));
                sources.extend(files.collect::<Result<Vec<_>, _>>()?);
            }
        }
    }
    if sources.is_empty() {
        sources.push(open("-".into())?);
    }
    if flags.pipe && (sources.len() > 1 || matches!(sources[0], Source::Words(_))) {
        return Err("--pipe reads one file or standard input, and no words".into());
    }
    Ok((command.iter().cloned().map(OsString::into_vec).collect(), sources))
}

fn cut(flags: &Map) -> Cut {
    Cut { delimiter: delimiter(flags), columns: flags.colsep.clone(), skip_empty: flags.no_run_if_empty }
}

fn delimiter(flags: &Map) -> u8 {
    if flags.null { 0 } else { flags.delimiter.unwrap_or(b'\n') }
}

fn kind(flags: &Map, template: &Template, jobs: usize) -> Kind {
    let count = flags.max_args.map(|count| count as usize);
    match flags {
        Map { pipe: true, block, .. } => {
            let size = block.unwrap_or(BLOCK_BYTES) as usize;
            Kind::Blocks { size, lines: count, delimiter: delimiter(flags) }
        }
        Map { xargs: true, .. } => {
            Kind::Fill { room: program::line_bytes(), weight: template.weight(), spread: jobs }
        }
        _ => Kind::Count(count.unwrap_or(1)),
    }
}

fn output(flags: &Map) -> OutputPlan {
    OutputPlan {
        keep_order: flags.keep_order || flags.dry_run,
        ungroup: flags.ungroup || flags.tty,
        by_line: flags.line_buffer,
        tag: flags.tag,
        results: flags.results.clone().filter(|_| !flags.dry_run),
        tmpdir: flags.tmpdir.clone().unwrap_or_else(std::env::temp_dir),
    }
}

/// Refuses a name of --results that GNU parallel would take for the template of a file name.
fn refuse_template(flags: &Map) -> Result<(), Failed> {
    let Some(path) = &flags.results else { return Ok(()) };
    let word = path.as_os_str().as_bytes().to_vec();
    match Template::new(&[word], b"{}").has_fixed_program() {
        true => Ok(()),
        false => {
            Err(format!("--results {}: takes the name of a directory, without {{}}", path.display()).into())
        }
    }
}

fn directory(path: &Path) -> Result<CString, Failed> {
    let metadata = path.metadata().map_err(|e| format!("{}: {e}", path.display()))?;
    if !metadata.is_dir() {
        return Err(format!("{}: is not a directory", path.display()).into());
    }
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn open_log(flags: &Map) -> Result<Log, Failed> {
    use super::log::Format;
    use crate::flags::LogFormat;
    let (path, format) = match (&flags.log, &flags.joblog) {
        (Some(path), _) if flags.log_format == LogFormat::Json => (path, Format::Json),
        (Some(path), _) => (path, Format::Table),
        (None, Some(path)) => (path, Format::Joblog),
        (None, None) if flags.resume => return Err("--resume needs --log or --joblog".into()),
        (None, None) => return Ok(Log::none()),
    };
    if flags.dry_run {
        return Log::look(path, format, flags.resume);
    }
    Log::open(path, format, flags.resume)
}
