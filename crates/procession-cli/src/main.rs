//! `procession`: the seed's programs on real input.
#![forbid(unsafe_code)]

mod dice;
mod flags;
mod interrupt;
mod map;
mod pipeline;
mod screen;
mod tickets;

use std::process::ExitCode;

use clap::Parser;
use flags::{Command, Flags};

/// The exit code when the command line or a file is no good, or a process failed.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Tickets(flags) => tickets::run(&flags),
        Command::Pipeline(flags) => pipeline::run(&flags),
        Command::Map(flags) => map::run(&flags),
    };
    done.map_or_else(
        |error| {
            screen::complain(&error.to_string());
            ExitCode::from(BAD_INPUT)
        },
        ExitCode::from,
    )
}
