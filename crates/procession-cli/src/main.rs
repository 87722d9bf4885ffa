//! `procession`: commands in parallel, and programs of processes that may be killed.
#![forbid(unsafe_code)]

mod dice;
mod flags;
mod interrupt;
mod map;
mod pipeline;
mod reference;
mod screen;
mod tickets;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use flags::{Command, Flags};

/// The exit code when the command line or a file is invalid, or when a process failed. `map` has its own.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::try_parse().unwrap_or_else(|error| refuse(&error));
    let failure = if matches!(flags.command, Command::Map(_)) { map::OURS } else { BAD_INPUT };
    let done = match &flags.command {
        Command::Map(flags) => map::run(flags),
        Command::Tickets(flags) => tickets::run(flags),
        Command::Pipeline(flags) => pipeline::run(flags),
        Command::Completions { shell } => reference::print_completions(*shell),
        Command::Man { command } => reference::print_man_page(command.as_deref()),
    };
    let code = done.unwrap_or_else(|error| {
        screen::complain(&error.to_string());
        failure
    });
    interrupt::die_of_signal(code);
    ExitCode::from(code)
}

/// Prints help, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ! {
    let is_map = std::env::args_os().nth(1).is_some_and(|word| word == "map");
    let is_printed = match error.print().and_then(|()| io::stdout().flush()) {
        Ok(()) => true,
        // The reader has seen as much as it wanted.
        Err(e) => e.kind() == ErrorKind::BrokenPipe,
    };
    let code = match is_printed || error.use_stderr() {
        true if !error.use_stderr() => 0,
        _ if is_map => map::OURS.into(),
        _ => BAD_INPUT.into(),
    };
    std::process::exit(code)
}
