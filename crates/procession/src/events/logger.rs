//! The crate `log`: the child's logger, and how main logs its records again.

use log::{Level, LevelFilter, Log, Metadata};
use serde::{Deserialize, Serialize};

use super::{Content, Record};
use crate::Queue;

/// A record of `log` in the form in which it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    level: u8,
    target: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    message: String,
}

/// Returns the least severe level that main's logger takes, or 0 if there is no logger.
pub(super) fn wanted() -> u8 {
    log::max_level() as u8
}

/// Installs a logger that sends the records of this process to main, unless the process has a logger.
pub(super) fn install(queue: &Queue<Record>, level: u8) {
    let filter = LevelFilter::iter().nth(usize::from(level)).unwrap_or(LevelFilter::Trace);
    if log::set_boxed_logger(Box::new(Forwarder(queue.clone()))).is_ok() {
        log::set_max_level(filter);
    }
}

struct Forwarder(Queue<Record>);

impl Log for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line {
            level: record.level() as u8,
            target: record.target().into(),
            module: record.module_path().map(Into::into),
            file: record.file().map(Into::into),
            line: record.line(),
            message: record.args().to_string(),
        };
        Record::new(Content::Log(line)).send(&self.0);
    }

    fn flush(&self) {}
}

/// Logs a record in main. Records of `log` have no fields by default, so the process is named before the message.
pub(super) fn emit(line: &Line, pid: i32, process: &str) {
    let level = Level::iter().nth(usize::from(line.level).saturating_sub(1)).unwrap_or(Level::Trace);
    let metadata = Metadata::builder().level(level).target(&line.target).build();
    if !log::logger().enabled(&metadata) {
        return;
    }
    let mut record = log::Record::builder();
    record.metadata(metadata).module_path(line.module.as_deref()).file(line.file.as_deref()).line(line.line);
    log::logger().log(&record.args(format_args!("{process} (pid {pid}): {}", line.message)).build());
}
