//! Completions and man pages, generated from the definitions of the options.

use std::io::{self, ErrorKind, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::flags::Flags;
use crate::screen::Failed;

/// Prints the completions of this program's options for a shell.
pub fn print_completions(shell: Shell) -> Result<u8, Failed> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "procession", &mut text);
    print(&text)
}

/// Prints the man page of the program, or of one of its commands.
pub fn print_man_page(name: Option<&str>) -> Result<u8, Failed> {
    let mut program = Flags::command();
    program.build();
    let command = match name {
        None => program,
        Some(name) => {
            let found =
                program.find_subcommand(name).ok_or_else(|| format!("there is no command {name:?}"))?;
            found.clone().display_name(format!("procession-{name}"))
        }
    };
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<u8, Failed> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(0),
    }
}
