//! [`Screen`]: lines for people, from any process of the family.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

/// The properties of standard output. Main detects them, and passes them to its children.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Screen {
    quiet: bool,
    colour: bool,
    /// A progress bar occupies the line where the next text goes.
    under_bar: bool,
}

/// Two colors for buyers, and one for the dead.
#[derive(Clone, Copy, Debug)]
pub enum Colour {
    Green,
    Red,
    Yellow,
    None,
}

impl Screen {
    pub fn new(quiet: bool) -> Screen {
        let terminal = io::stdout().is_terminal();
        let refused = |name: &str, value: Option<&str>| {
            std::env::var_os(name)
                .is_some_and(|found| value.map_or(!found.is_empty(), |value| found == value))
        };
        let colour = terminal && !refused("NO_COLOR", None) && !refused("TERM", Some("dumb"));
        Screen { quiet, colour, under_bar: terminal && io::stderr().is_terminal() }
    }

    /// Prints one line in one write, so that lines of different processes do not mix. Ignores write errors: a buyer
    /// must not die of a closed pipe, least of all while it holds the lock.
    pub fn say(&self, colour: Colour, text: &str) {
        if self.quiet {
            return;
        }
        let clear = if self.under_bar { "\r\x1b[2K" } else { "" };
        let paint = match colour {
            _ if !self.colour => None,
            Colour::Green => Some("\x1b[32m"),
            Colour::Red => Some("\x1b[31m"),
            Colour::Yellow => Some("\x1b[33m"),
            Colour::None => None,
        };
        let line = match paint {
            Some(paint) => format!("{clear}{paint}{text}\x1b[0m\n"),
            None => format!("{clear}{text}\n"),
        };
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// The reason why a program did not do its work.
pub type Failed = Box<dyn std::error::Error>;

/// Prints a message to standard error. Write errors are ignored, because there is no place to report them.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "procession: {text}");
}

/// Formats a count: `1 ticket`, `2 tickets`.
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Creates a bar that shows how many of `all` have ended. It appears on standard error if that is a terminal.
pub fn progress_bar(all: u64, what: &str) -> Result<ProgressBar, TemplateError> {
    let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(&format!(
        "{{bar:40}} {{pos}} of {{len}} {what}, {{elapsed}}"
    ))?);
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}
