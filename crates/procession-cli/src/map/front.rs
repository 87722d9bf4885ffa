//! [`Front`]: the process that the user has started. It passes signals on to the engine, stops when that stops, and
//! ends when that ends.
//!
//! The engine has a session of its own. So a command that opens the terminal gets an error immediately instead of
//! waiting without end, and a kill of this process's group does not reach the engine. When the front is killed, the
//! engine kills every command with its descendants. When the engine is killed, the front does.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use procession_launch::{AllBlocked, Half, split};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitOptions, getpgid, getpid, getppid, getsid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, setpgid, setsid, waitpid,
};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};

use super::engine::{Engine, kill_descendants};
use super::input::Source;
use super::plan::{Plan, reads_standard_input};
use super::signals::Signals;
use super::tally::OURS;
use super::terminal::Terminal;
use crate::flags::Map;
use crate::screen::{Failed, complain};

/// The signals that the front and the engine handle.
pub const MAP_SIGNALS: [i32; 6] = [SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT];

/// Runs `procession map` and returns the exit code. Returns in two processes.
pub fn run(flags: &Map) -> Result<u8, Failed> {
    let is_typed = reads_standard_input(flags) && io::stdin().is_terminal();
    if is_typed && flags.interactive {
        return Err("--interactive asks at the terminal: give the input with :::, -a or a pipe".into());
    }
    if is_typed && flags.tty {
        return Err("--tty leaves the terminal to the commands: give the input with :::, -a or a pipe".into());
    }
    let (source, pump) = if is_typed { pump()? } else { (None, None) };
    let plan = Plan::new(flags, source)?;
    let terminal = if flags.tty || flags.interactive { Some(Terminal::open()?) } else { None };
    set_child_subreaper(Some(getpid()))?;
    // A signal that comes before a half listens waits until it does.
    let held = AllBlocked::enter();
    match split()? {
        Half::Parent(engine) => {
            drop(plan);
            let front = Front::new(engine, pump)?;
            drop(held);
            front.run()
        }
        Half::Child(front) => {
            drop(pump);
            let front = Pid::from_raw(front).ok_or("the front has no pid")?;
            detach(front, flags.tty)?;
            let engine = Engine::new(plan, terminal, front)?;
            drop(held);
            Ok(engine.run())
        }
    }
}

/// Creates the pipe through which the front, which belongs to the terminal, hands typed input to the engine.
fn pump() -> Result<(Option<Source>, Option<Pump>), Failed> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
    Ok((Some(Source::Stream(reader, "standard input".into())), Some(Pump::new(writer))))
}

/// Makes this process the engine.
fn detach(front: Pid, has_terminal: bool) -> Result<(), Failed> {
    if has_terminal {
        setpgid(None, None)?;
    } else {
        setsid()?;
    }
    set_child_subreaper(Some(getpid()))?;
    // It is the one signal that reaches an engine that is suspended.
    set_parent_process_death_signal(Some(Signal::CONT))?;
    match getppid() == Some(front) {
        true => Ok(()),
        false => Err("the front was killed".into()),
    }
}

struct Front {
    engine: Pid,
    signals: Signals,
    pump: Option<Pump>,
}

impl Front {
    fn new(engine: i32, pump: Option<Pump>) -> Result<Front, Failed> {
        let engine = Pid::from_raw(engine).ok_or("the engine has no pid")?;
        Ok(Front { engine, signals: Signals::listen(&MAP_SIGNALS)?, pump })
    }

    fn run(mut self) -> Result<u8, Failed> {
        // It may have ended before this process listened.
        if let Some(code) = self.look_after_engine()? {
            return Ok(code);
        }
        loop {
            for signal in self.signals.take() {
                match signal {
                    SIGCHLD => {
                        if let Some(code) = self.look_after_engine()? {
                            return Ok(code);
                        }
                    }
                    // Ignored as by the kernel: no process could continue an orphaned group.
                    SIGTSTP if is_orphaned() => {}
                    _ => self.pass_on(signal),
                }
            }
            self.wait();
        }
    }

    fn pass_on(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(self.engine, signal);
        }
    }

    /// The exit code, if the engine has ended.
    fn look_after_engine(&self) -> Result<Option<u8>, Failed> {
        let changed = || waitpid(Some(self.engine), WaitOptions::NOHANG | WaitOptions::UNTRACED);
        let status = loop {
            match changed()? {
                None => return Ok(None),
                Some((_, status)) if status.stopped() => self.stop(),
                Some((_, status)) => break status,
            }
        };
        if let Some(code) = status.exit_status() {
            return Ok(Some(code as u8));
        }
        kill_descendants(None);
        let signal = status.terminating_signal().unwrap_or(0);
        complain(&format!(
            "the process that runs the commands was killed by signal {signal}; they were killed, too"
        ));
        Ok(Some(OURS))
    }

    /// Stops this process after the engine has stopped. SIGCONT to this process continues both.
    fn stop(&self) {
        // A second request to stop that came meanwhile asks for what happens now. One that comes later is another.
        self.signals.forget_job_control();
        if !is_orphaned() {
            let _ = kill_process(getpid(), Signal::STOP);
        }
        let _ = kill_process(self.engine, Signal::CONT);
    }

    fn wait(&mut self) {
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.bell(), PollFlags::IN)];
        let stdin = io::stdin();
        if let Some(pump) = &self.pump {
            fds.push(match pump.buffer.is_empty() {
                true => PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
                false => PollFd::from_borrowed_fd(pump.pipe.as_fd(), PollFlags::OUT),
            });
        }
        let _ = poll(&mut fds, None);
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            self.pump.take_if(|pump| !pump.turn());
        }
    }
}

/// Carries what is typed.
struct Pump {
    pipe: File,
    buffer: Vec<u8>,
}

impl Pump {
    fn new(pipe: OwnedFd) -> Pump {
        Pump { pipe: pipe.into(), buffer: Vec::new() }
    }

    /// Reads or writes once; false at the end.
    fn turn(&mut self) -> bool {
        if self.buffer.is_empty() {
            self.buffer.resize(4096, 0);
            let length = io::stdin().lock().read(&mut self.buffer).unwrap_or(0);
            self.buffer.truncate(length);
            return length > 0;
        }
        match self.pipe.write(&self.buffer) {
            Ok(length) => drop(self.buffer.drain(..length)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }
}

/// Returns whether no process of this session could continue this process's group.
fn is_orphaned() -> bool {
    let group = getpgid(None).ok();
    let (mut parent, session) = (getppid(), getsid(None).ok());
    while let Some(pid) = parent {
        if getpgid(Some(pid)).ok() != group {
            return getsid(Some(pid)).ok() != session;
        }
        parent = parent_of(pid);
    }
    true
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Pid::from_raw(text.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?)
}
