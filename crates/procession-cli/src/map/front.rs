//! [`Front`]: the process that the user has started. It passes signals on to the engine, stops when the engine has
//! suspended the run, and ends when the engine ends.
//!
//! The engine has a session of its own. So a command that opens the terminal gets an error immediately
//! instead of waiting without end. Also, a kill of this process's group does not reach the engine. When the
//! front is killed, the engine kills every command and its descendants. When the engine is killed, the front
//! kills them.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use procession_launch::{Half, ignore, split};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, setpgid, setsid, waitpid,
};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGTSTP, SIGXFSZ};

use super::engine::{Engine, kill_descendants};
use super::input::Source;
use super::kinship::Kinship;
use super::plan::{Plan, reads_standard_input};
use super::signals::Signals;
use super::tally::OURS;
use super::terminal::Terminal;
use crate::flags::Map;
use crate::screen::{Failed, complain};

/// Runs `procession map` and returns the exit code. This returns in the front only.
pub fn run(flags: &Map) -> Result<u8, Failed> {
    // A file that reaches its limit is an error that names the file.
    ignore(SIGXFSZ);
    let is_typed = reads_standard_input(flags) && io::stdin().is_terminal();
    if is_typed && flags.interactive {
        return Err("--interactive asks at the terminal: give the input with :::, -a or a pipe".into());
    }
    if is_typed && flags.tty {
        return Err("--tty leaves the terminal to the commands: give the input with :::, -a or a pipe".into());
    }
    let (source, pump) = if is_typed { pump()? } else { (None, None) };
    let plan = Plan::new(flags, source)?;
    let (suspension, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let terminal = if flags.tty || flags.interactive { Some(Terminal::open(flags.tty)?) } else { None };
    set_child_subreaper(Some(getpid()))?;
    // Each half reads its own signals.
    let signals = Signals::listen()?;
    match split()? {
        Half::Parent(engine) => {
            drop((plan, report));
            let front = Front::new(engine, signals, pump, suspension)?;
            front.run()
        }
        Half::Child(front) => {
            drop((pump, suspension));
            let pid = Pid::from_raw(front).ok_or("the front has no pid")?;
            let front = FrontHandle { pid, report: report.into() };
            detach(&front, flags.tty)?;
            let engine = Engine::new(plan, terminal, front, signals)?;
            // Only the front dies of a signal that has ended the run.
            std::process::exit(engine.run().into())
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
fn detach(front: &FrontHandle, has_terminal: bool) -> Result<(), Failed> {
    if has_terminal {
        setpgid(None, None)?;
    } else {
        setsid()?;
    }
    set_child_subreaper(Some(getpid()))?;
    // SIGCONT reaches an engine that waits in a suspended run, and an engine that SIGSTOP has stopped.
    set_parent_process_death_signal(Some(Signal::CONT))?;
    match front.lives() {
        true => Ok(()),
        false => Err("the front was killed".into()),
    }
}

/// The front, as its engine sees it.
pub struct FrontHandle {
    pid: Pid,
    report: File,
}

impl FrontHandle {
    /// Returns whether the front has not died. This process is its child.
    pub fn lives(&self) -> bool {
        getppid() == Some(self.pid)
    }

    /// Reports that the commands are stopped and the engine waits for SIGCONT.
    pub fn report_suspension(&self) {
        // If the pipe is full of reports that the front has not read, the front stops for one of those.
        let _ = (&self.report).write(b"s");
    }
}

struct Front {
    engine: Pid,
    signals: Signals,
    pump: Option<Pump>,
    /// The engine writes a byte to this pipe for each suspension.
    suspension: Option<File>,
    /// Whether SIGTSTP was sent to the engine later than SIGCONT.
    is_stop_asked: bool,
}

impl Front {
    fn new(engine: i32, signals: Signals, pump: Option<Pump>, suspension: OwnedFd) -> Result<Front, Failed> {
        let engine = Pid::from_raw(engine).ok_or("the engine has no pid")?;
        Ok(Front { engine, signals, pump, suspension: Some(suspension.into()), is_stop_asked: false })
    }

    fn run(mut self) -> Result<u8, Failed> {
        // The engine may have ended before this process read signals.
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
                    // Ignored, as the kernel does, because no process could continue an orphaned group.
                    SIGTSTP if is_orphaned() => {}
                    _ => self.pass_on(signal),
                }
            }
            self.wait();
        }
    }

    fn pass_on(&mut self, signal: i32) {
        if let SIGTSTP | SIGCONT = signal {
            self.is_stop_asked = signal == SIGTSTP;
        }
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(self.engine, signal);
        }
    }

    /// Returns the exit code if the engine has ended. Stops this process if the engine was stopped.
    fn look_after_engine(&mut self) -> Result<Option<u8>, Failed> {
        let engine = self.engine;
        let changed = || waitpid(Some(engine), WaitOptions::NOHANG | WaitOptions::UNTRACED);
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

    /// Stops this process after the engine has stopped or suspended itself. SIGCONT to this process continues both.
    fn stop(&mut self) {
        // A second request to stop that has already come asks for the stop that happens now. A request that
        // comes later is a new one.
        self.signals.read();
        let is_continued = self.signals.take_job_control() == Some(SIGCONT);
        if !is_continued && !is_orphaned() {
            let _ = kill_process(getpid(), Signal::STOP);
        }
        self.pass_on(SIGCONT);
    }

    fn wait(&mut self) {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        let mut watch = |fd, flags| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            fds.len() - 1
        };
        let suspension = self.suspension.as_ref().map(|pipe| watch(pipe.as_fd(), PollFlags::IN));
        let pump = self.pump.as_ref().map(|pump| match pump.buffer.is_empty() {
            true => watch(stdin.as_fd(), PollFlags::IN),
            false => watch(pump.pipe.as_fd(), PollFlags::OUT),
        });
        let _ = poll(&mut fds, None);
        let is_ready = |place: Option<usize>| place.is_some_and(|place| !fds[place].revents().is_empty());
        let (is_suspended, has_input) = (is_ready(suspension), is_ready(pump));
        self.signals.read();
        if is_suspended {
            self.read_suspension();
        }
        if has_input {
            self.pump.take_if(|pump| !pump.turn());
        }
    }

    /// Stops this process if the engine has suspended itself and no SIGCONT was sent to it since then.
    fn read_suspension(&mut self) {
        let Some(mut pipe) = self.suspension.as_ref() else { return };
        match pipe.read(&mut [0; 64]) {
            // The engine has ended.
            Ok(0) => self.suspension = None,
            Ok(_) if self.is_stop_asked => self.stop(),
            _ => {}
        }
    }
}

/// Carries typed input to the engine.
struct Pump {
    pipe: File,
    buffer: Vec<u8>,
}

impl Pump {
    fn new(pipe: OwnedFd) -> Pump {
        Pump { pipe: pipe.into(), buffer: Vec::new() }
    }

    /// Reads or writes once. Returns false at the end.
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

/// Returns whether a stop of this process would last for ever.
fn is_orphaned() -> bool {
    Kinship::own().is_none_or(|own| own.is_orphaned())
}
