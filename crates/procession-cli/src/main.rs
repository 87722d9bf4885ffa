//! `procession`: the seed's programs on real input.
#![forbid(unsafe_code)]

mod flags;
mod tickets;

use std::process::ExitCode;

use clap::Parser;

use flags::{Command, Flags};

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Tickets(flags) => tickets::run(&flags),
    };
    done.map_or_else(
        |error| {
            tickets::complain(&error.to_string());
            ExitCode::from(tickets::BAD_INPUT)
        },
        ExitCode::from,
    )
}
