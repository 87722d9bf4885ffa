//! [`Bar`]: one line at the bottom of the terminal. [`Progress`]: its text.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// A line that is shown and removed.
#[derive(Debug)]
pub struct Bar {
    is_enabled: bool,
    is_shown: bool,
    /// Whether the last line of text on the terminal is unfinished.
    line_is_open: bool,
}

/// How often the line is updated.
pub const TICK: Duration = Duration::from_millis(100);

impl Bar {
    /// Creates a bar. The bar is visible if it is wanted and standard error is a terminal that supports it.
    pub fn new(is_wanted: bool) -> Bar {
        let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        let is_enabled = is_wanted && !is_dumb && io::stderr().is_terminal();
        Bar { is_enabled, is_shown: false, line_is_open: false }
    }

    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Notes the last byte that was written to the terminal.
    pub fn note_end(&mut self, last: u8) {
        self.line_is_open = last != b'\n';
    }

    /// Returns whether the last line of text on the terminal is unfinished.
    pub fn is_line_open(&self) -> bool {
        self.line_is_open
    }

    pub fn show(&mut self, text: &str) {
        if !self.is_enabled {
            return;
        }
        let start = if self.line_is_open { "\n" } else { "\r\x1b[2K" };
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
        // The last column stays free: some terminals begin a new line there.
        let text: String = text.chars().take(width.max(2) - 1).collect();
        let _ = io::stderr().write_all(format!("{start}{text}").as_bytes());
        (self.is_shown, self.line_is_open) = (true, false);
    }

    /// Hides the bar and never shows it again.
    pub fn remove(&mut self) {
        self.hide();
        self.is_enabled = false;
    }

    pub fn hide(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = io::stderr().write_all(b"\r\x1b[2K");
        }
    }
}

/// The progress of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub done: u64,
    pub failed: u64,
    pub running: usize,
    /// The number of known jobs, and whether more may come.
    pub known: u64,
    pub input_is_read: bool,
    pub elapsed: Duration,
    /// The reason why no command is started now.
    pub waits_for: Option<String>,
}

impl Progress {
    /// Returns the text of the line.
    pub fn text(&self) -> String {
        const WIDTH: u64 = 20;
        let Progress { done, known, elapsed, .. } = self;
        let mut text = String::new();
        if self.input_is_read && *known > 0 {
            let full = (WIDTH * done / known) as usize;
            text += &format!("[{}{}] {done} of {known}", "#".repeat(full), ".".repeat(WIDTH as usize - full));
        } else {
            text += &format!("{done} of at least {known}");
        }
        text += if self.failed > 0 { " done, " } else { " done" };
        if self.failed > 0 {
            text += &format!("{} failed", self.failed);
        }
        text += &format!(", {} running, {}", self.running, clock(*elapsed));
        if let Some(what) = &self.waits_for {
            text += &format!(", waiting for {what}");
        } else if self.input_is_read && *done > 0 && done < known {
            let left = elapsed.mul_f64((known - done) as f64 / *done as f64);
            text += &format!(", about {} to go", clock(left));
        }
        text
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_time_to_go_only_when_it_knows() {
        let slow = Progress { done: 3, known: 3, waits_for: Some("input".into()), ..Progress::default() };
        assert_eq!(slow.text(), "3 of at least 3 done, 0 running, 0:00, waiting for input");
        let elapsed = Duration::from_secs(3670);
        let known = Progress {
            done: 5,
            failed: 1,
            running: 2,
            known: 10,
            input_is_read: true,
            elapsed,
            waits_for: None,
        };
        let expected =
            "[##########..........] 5 of 10 done, 1 failed, 2 running, 1:01:10, about 1:01:10 to go";
        assert_eq!(known.text(), expected);
        assert!(!Progress { done: 0, ..known }.text().contains("to go"));
    }
}
