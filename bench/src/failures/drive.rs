//! Runs a program that may hang, crash, or leave things behind, and reports the outcome.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::peers::fork;
use crate::{Result, machine};

/// The outcome of a scenario.
#[derive(Default)]
pub struct Outcome {
    /// The program's observations, and observations about the program.
    pub saw: Vec<String>,
    /// The program had to be killed.
    pub hung: bool,
    /// The program ended in an unexpected way.
    pub failed: bool,
    /// Processes that were left when the program had ended.
    pub left: usize,
}

impl Outcome {
    /// Returns whether the library under test is to blame.
    pub fn is_bad(&self) -> bool {
        self.hung || self.failed || self.left > 0
    }
}

/// Processes that are left may take this long to end.
const GRACE: Duration = Duration::from_secs(1);

/// Runs a program until it ends, but no longer than `limit`. When this returns, no process of the program is
/// left.
pub fn perform(mut command: Command, limit: Duration) -> Result<Outcome> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn()?;
    let lines = lines_of(&mut child)?;
    let (mut outcome, mut heard) = (Outcome::default(), Heard::default());
    let end = Instant::now() + limit;
    let status = loop {
        match lines.recv_timeout(Duration::from_millis(10)) {
            Ok(line) => heard.note(&line, &mut outcome),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        if heard.is_over {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // Output that was printed before the end may still arrive.
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(50)) {
        heard.note(&line, &mut outcome);
    }
    judge(&mut outcome, &heard, status, limit);
    // The process id of a group whose leader was not reaped, or whose members still exist, is not reused.
    if status.is_none() {
        fork::kill_group(child.id());
        child.wait()?;
        reap_adopted()?;
    } else {
        outcome.left = reap_adopted()?;
        if outcome.left > 0 {
            outcome.saw.push(format!("leaves {} processes", outcome.left));
        }
    }
    heard.remove_made(&mut outcome);
    Ok(outcome)
}

fn judge(outcome: &mut Outcome, heard: &Heard, status: Option<ExitStatus>, limit: Duration) {
    match status {
        None => {
            outcome.hung = true;
            let what = heard.doing.as_deref().unwrap_or("it");
            outcome.saw.push(format!("{what} hangs (killed after {} s)", limit.as_secs()));
        }
        Some(status) if !status.success() => {
            outcome.failed = true;
            outcome.saw.push(format!("the program ends with {status}"));
        }
        Some(_) => {}
    }
}

/// Messages of a program other than its observations.
#[derive(Default)]
struct Heard {
    doing: Option<String>,
    made: Vec<String>,
    is_over: bool,
}

impl Heard {
    fn note(&mut self, line: &str, outcome: &mut Outcome) {
        match line.split_once(": ") {
            Some(("saw", what)) => outcome.saw.push(what.to_owned()),
            Some(("do", what)) => self.doing = Some(what.to_owned()),
            Some(("made", name)) if !name.contains('/') => self.made.push(name.to_owned()),
            _ => {}
        }
    }

    /// Removes the objects that the program created and left.
    fn remove_made(&self, outcome: &mut Outcome) {
        let removed =
            self.made.iter().filter(|name| std::fs::remove_file(format!("/dev/shm/{name}")).is_ok());
        match removed.count() {
            0 => {}
            count => outcome.saw.push(format!("leaks {count} names in /dev/shm")),
        }
    }
}

fn lines_of(child: &mut Child) -> Result<Receiver<String>> {
    let output = child.stdout.take().ok_or("no output to read")?;
    let (to, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

/// Reaps adopted processes. Those that have not ended after a second are killed and counted.
fn reap_adopted() -> Result<usize> {
    let (started, mut killed) = (Instant::now(), std::collections::BTreeSet::new());
    loop {
        // SAFETY: a plain call; a null status is allowed. The program itself was reaped earlier.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } > 0 {}
        let left = machine::children_of(std::process::id())?;
        if left.is_empty() {
            return Ok(killed.len());
        }
        if started.elapsed() > GRACE {
            killed.extend(left.iter().copied());
            // They are children of this process and not reaped yet, so their process ids are not reused.
            left.into_iter().for_each(fork::kill);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
