//! [`Process`]: a process whose function's result type is known.

use std::fmt;
use std::io::{PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builder::Builder;
use super::entry::{self, Captureless, Entry};
use super::failure::{Failure, ProcessError};
use super::future::{self, Registration};
use super::stdio::Pipes;
use super::{signals, waiting};
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::arena::process_body::{self, ProcessBody};
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};
use crate::sync::LockError;
use crate::{Error, OtherError, Result};

/// A process that was spawned, and what its function returns.
///
/// A handle: it can be cloned, and sent to other processes of the family, which can then join the
/// process or kill it. Dropping every handle detaches the process: it goes on, and main waits for
/// it at its own end unless it is a [daemon](Builder::daemon).
///
/// It is also a [`Future`], which ends as [`join`](Process::join) does, and something that [`select`](crate::select())
/// can wait for. Awaiting a process starts a thread of this library, one for all of them.
///
/// ```
/// use procession::Process;
///
/// let sum = Process::spawn(|a: u64, b: u64| a + b, (2, 3))?;
/// assert_eq!(sum.join()?, 5);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If it dies
///
/// Whatever ends the process, [`join`](Process::join) returns and says what it was; and what the
/// process held is handed on or freed. However it ends, also when its function returns, processes that it had
/// started by other means than this library, and has not waited for, are killed.
pub struct Process<R> {
    pub(super) handle: Handle,
    /// What the process writes to and reads from, for its spawner alone.
    pipes: Option<Arc<Pipes>>,
    /// The entry of this handle among those that are awaited.
    pub(super) registration: Option<Registration>,
    _returns: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Runs `f` with `args` in a new process.
    ///
    /// `f` is a function, or a closure that captures nothing; it takes 0 to 8 arguments, which
    /// come as a tuple, `(x,)` for one. Arguments and result cross by value, see [`Message`];
    /// handles such as a [`Lock`](crate::Lock) cross as what they stand for.
    ///
    /// The new process has this one's working directory, main's environment, user, limits, signal mask and
    /// standard streams, and no other open file. It does not run `main`, and has none of its memory: not
    /// its panic hook, logger or `static`s either. For anything else there is [`builder`](Process::builder).
    ///
    /// The standard streams are those that main had when it spawned first. The family's helpers keep them open until main
    /// ends, so closing or redirecting them later neither changes where processes write, nor ends a pipe for its
    /// reader. Pass other streams with [`Builder::stdout`] and its siblings.
    ///
    /// A main that adopts orphans (the first process of a container, or one that asked for it) has the family's
    /// supervisor among its children. A loop that waits for all children does not end there.
    ///
    /// User, groups, capabilities and `no_new_privs` are those that the calling thread has at that moment. If main or a
    /// child has changed them since the first spawn, this waits until the new process has taken them over. Seccomp
    /// filters, Landlock rules, namespaces, the root directory, limits and umask are those that main had at its first
    /// spawn.
    ///
    /// When this returns the process will run, whatever happens to the one that called. Its number is final, and a
    /// signal to that number counts: a process that is killed before its function begins has been killed.
    ///
    /// # Errors
    /// * [`Error::Message`]: the arguments cannot be encoded.
    /// * [`Error::Full`]: no more shared memory, or too many processes.
    /// * [`Error::Os`]: the system refuses another process, or the new process cannot have exactly the credentials of
    ///   the caller.
    /// * [`Error::Unsupported`]: this library was loaded at run time (`dlopen`), the program is ending, the first
    ///   process would be in another pid namespace than main or main's effective user is not its real one, or a child
    ///   has entered another user namespace.
    /// * [`Error::FamilyLost`]: the supervisor was killed a moment ago; the next call starts
    ///   another.
    ///
    /// ```
    /// use procession::{Lock, Process};
    ///
    /// fn work(name: String, lock: Lock) -> procession::Result<usize> {
    ///     let _held = lock.lock()?;
    ///     Ok(name.len())
    /// }
    ///
    /// let lock = Lock::new()?;
    /// let process = Process::spawn(work, ("Egon".to_string(), lock))?;
    /// assert_eq!(process.join()??, 4);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, A>(f: F, args: A) -> Result<Process<F::Output>>
    where
        // The first bound is the one that the compiler blames for a type that borrows.
        A: Message,
        F: Captureless + Entry<A>,
        F::Output: Message,
    {
        const { entry::assert_captures_nothing::<F>() }
        let _ = f;
        Builder::default().start::<F, A>(&args, Location::caller())
    }

    /// Names and options for a process.
    ///
    /// ```
    /// let p = procession::Process::builder().name("worker").spawn(|| 7, ())?;
    /// assert_eq!(p.join()?, 7);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R> Process<R> {
    pub(super) fn from_handle(handle: Handle) -> Process<R> {
        Process { handle, pipes: None, registration: None, _returns: PhantomData }
    }

    pub(super) fn with_pipes(handle: Handle, pipes: Option<Pipes>) -> Process<R> {
        Process { handle, pipes: pipes.map(Arc::new), registration: None, _returns: PhantomData }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where the process is in the arena, as long as it lives.
    pub(crate) fn slot(&self) -> Option<u32> {
        Some(self.body().slot.load(Ordering::Relaxed)).filter(|_| !self.body().is_done())
    }

    fn body(&self) -> &'static ProcessBody {
        self.handle.body()
    }

    /// The process id; `None` in the moment before there is one.
    ///
    /// ```
    /// let p = procession::Process::spawn(std::process::id, ())?;
    /// assert_eq!(p.pid(), Some(p.join()? as i32));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pid(&self) -> Option<i32> {
        Some(self.body().pid.load(Ordering::Acquire)).filter(|&pid| pid != 0)
    }

    /// Returns the name it was given, or that of its function, or of the place where its closure was spawned.
    ///
    /// ```
    /// let p = procession::Process::builder().name("crunch").spawn(|| (), ())?;
    /// assert_eq!(p.name(), "crunch");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    /// Whether it has not ended. A snapshot.
    ///
    /// ```
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert!(p.is_alive());
    /// p.kill()?;
    /// assert!(p.join().is_err() && !p.is_alive());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_alive(&self) -> bool {
        !member::is_forked() && !self.body().is_done()
    }

    /// Asks it to end, with SIGTERM, which a process can catch. Does nothing once it has ended.
    ///
    /// # Errors
    /// When the signal may not be sent (the process has changed its user).
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.terminate()?;
    /// let error = p.join().unwrap_err();
    /// assert!(matches!(error.failure(), Failure::Killed { signal: 15, .. }));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn terminate(&self) -> Result<()> {
        signals::send(&self.handle, libc::SIGTERM)
    }

    /// Kills it, with SIGKILL: it ends wherever it is. Does nothing once it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate).
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.kill()?;
    /// assert!(matches!(p.join().unwrap_err().failure(), Failure::Killed { signal: 9, .. }));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn kill(&self) -> Result<()> {
        signals::send(&self.handle, libc::SIGKILL)
    }

    /// Lets it go on, if it was stopped.
    pub(crate) fn resume(&self) -> Result<()> {
        signals::send(&self.handle, libc::SIGCONT)
    }

    /// Interrupts it with SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate).
    ///
    /// ```
    /// # // What runs this example may ignore the signal, and processes would inherit that.
    /// # unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// p.interrupt()?;
    /// assert!(p.join().unwrap_err().to_string().contains("signal 2"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupt(&self) -> Result<()> {
        signals::send(&self.handle, libc::SIGINT)
    }

    /// How it ended in the terms of the operating system, or `None` while it has not.
    ///
    /// ```
    /// let p = procession::Process::spawn(|| (), ())?;
    /// p.join()?;
    /// assert!(p.exit_status().is_some_and(|status| status.success()));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn exit_status(&self) -> Option<ExitStatus> {
        waiting::exit_status(&self.handle)
    }

    /// A descriptor for exactly this process, to poll for its end.
    ///
    /// # Errors
    /// When it has ended, or no descriptor is to be had.
    ///
    /// ```
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// let ends = p.pidfd()?; // for poll, epoll, or an async runtime
    /// p.kill()?;
    /// # drop(ends);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pidfd(&self) -> Result<OwnedFd> {
        signals::pidfd_or_why(&self.handle)
    }

    /// The end to write to of a standard input that is [piped](super::Stdio::piped), once. Dropping it is the
    /// end of the input. Only in the process that spawned; a handle that was sent has none.
    ///
    /// A process that is joined before its output is read may wait for a reader for ever, as with
    /// [`std::process::Command`].
    ///
    /// ```
    /// use std::io::Write;
    /// use procession::{Process, process::Stdio};
    /// let count = || std::io::stdin().lines().count();
    /// let p = Process::builder().stdin(Stdio::piped()).spawn(count, ())?;
    /// let mut input = p.take_stdin().expect("it is piped, and nobody has taken it");
    /// input.write_all(b"one\ntwo\n")?;
    /// drop(input);
    /// assert_eq!(p.join()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        take(&self.pipes.as_ref()?.stdin)
    }

    /// The end to read from of a standard output that is [piped](super::Stdio::piped), once. See
    /// [`take_stdin`](Process::take_stdin).
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let p = Process::builder().stdout(Stdio::piped()).spawn(|| println!("hello"), ())?;
    /// let output = p.take_stdout().expect("it is piped, and nobody has taken it");
    /// assert_eq!(std::io::read_to_string(output)?, "hello\n");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stdout(&self) -> Option<PipeReader> {
        take(&self.pipes.as_ref()?.stdout)
    }

    /// The end to read from of a standard error that is [piped](super::Stdio::piped), once. See
    /// [`take_stdin`](Process::take_stdin).
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let p = Process::builder().stderr(Stdio::piped()).spawn(|| eprintln!("hello"), ())?;
    /// let output = p.take_stderr().expect("it is piped, and nobody has taken it");
    /// assert_eq!(std::io::read_to_string(output)?, "hello\n");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn take_stderr(&self) -> Option<PipeReader> {
        take(&self.pipes.as_ref()?.stderr)
    }
}

impl<R: Message> Process<R> {
    /// Waits until it has ended, and gives what its function returned.
    ///
    /// Everyone with a handle may join, as often as they like; each gets the value. It returns
    /// when the process has run its exit handlers; a process that was killed has been cleaned up
    /// after by then: its locks are handed on.
    ///
    /// # Errors
    /// How it failed, if it did not return: [`Failure`] tells the ways. A function that returned
    /// `Err` did return.
    ///
    /// ```
    /// use procession::{Failure, Process};
    /// let p = Process::spawn(|n: u32| -> u32 { 10 / n }, (0,))?;
    /// match p.join().unwrap_err().failure() {
    ///     Failure::Panicked { message, .. } => assert_eq!(message, "attempt to divide by zero"),
    ///     other => panic!("{other}"),
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<R, ProcessError> {
        match self.wait(Deadline::NEVER)? {
            Some(value) => Ok(value),
            None => unreachable!("INVARIANT: a wait without a deadline ends with the process"),
        }
    }

    /// What it returned if it has ended; `None` if it has not.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert_eq!(p.try_join()?, None);
    /// p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](Process::join), but waits at most `timeout`; `None` when the time was up.
    ///
    /// ```
    /// use std::time::Duration;
    /// let p = procession::Process::spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert_eq!(p.join_timeout(Duration::from_millis(10))?, None);
    /// p.kill()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`join`](Process::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](Process::join), but waits at most until `deadline`; `None` when it has come.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let all: Vec<_> = (0..3u64).map(|n| procession::Process::spawn(|n: u64| n, (n,))).collect::<Result<_, _>>()?;
    /// let deadline = Instant::now() + Duration::from_secs(60); // for all of them together
    /// for (n, p) in (0..).zip(&all) {
    ///     assert_eq!(p.join_deadline(deadline)?, Some(n));
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<Option<R>, ProcessError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<Option<R>, ProcessError> {
        match waiting::wait(&self.handle, deadline) {
            Ok(true) => waiting::outcome(&self.handle).map(Some),
            Ok(false) => Ok(None),
            Err(e) => {
                let failure = match e {
                    Error::Lock(LockError::Deadlock { cycle }) => Failure::Deadlock { cycle },
                    other => Failure::Unknown { why: other.to_string() },
                };
                Err(ProcessError::new(self.name(), self.pid(), failure))
            }
        }
    }
}

impl<T: Message, E> Process<Result<T, E>>
where
    Result<T, E>: Message,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Waits as [`join`](Process::join) does, and joins both errors into one that names the process: how the process
    /// failed, or the error that its function returned, as text with its causes. It stands for `join()??` where many
    /// processes may fail.
    ///
    /// # Errors
    /// [`Failure::ReturnedErr`] when the function returned an `Err`; otherwise as [`join`](Process::join). To match on
    /// the function's error, use `join`.
    ///
    /// ```
    /// use procession::Process;
    ///
    /// fn buy(count: u32) -> Result<u32, String> {
    ///     count.checked_sub(3).ok_or("out of tickets".into())
    /// }
    ///
    /// let buyer = Process::builder().name("Egon").spawn(buy, (1,))?;
    /// let error = buyer.join_flat().unwrap_err();
    /// assert!(error.to_string().starts_with("process Egon (pid "));
    /// assert!(error.to_string().ends_with(") returned an error: out of tickets"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_flat(&self) -> Result<T, ProcessError> {
        self.join()?.map_err(|error| {
            let failure = Failure::ReturnedErr { error: OtherError::of(error) };
            ProcessError::new(self.name(), self.pid(), failure)
        })
    }
}

impl<R> sealed::Ready for Process<R> {
    fn is_ready(&self) -> bool {
        self.body().is_done()
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Changes(&self.body().done, 0)
    }
}

impl<R> Ready for Process<R> {}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            future::unregister(registration);
        }
        if self.handle.is_last_here()
            && self.body().is_done()
            && let Some(arena) = member::mapped()
        {
            process_body::report_unobserved(arena, self.handle.object());
        }
    }
}

impl<R> Clone for Process<R> {
    fn clone(&self) -> Process<R> {
        Process {
            handle: self.handle.clone(),
            pipes: self.pipes.clone(),
            registration: None,
            _returns: PhantomData,
        }
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(|e| e.into_inner()).take()
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Process");
        if member::is_forked() {
            return out.finish_non_exhaustive();
        }
        out.field("name", &self.name()).field("pid", &self.pid()).field("alive", &self.is_alive()).finish()
    }
}

impl<R> Serialize for Process<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, R> Deserialize<'de> for Process<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Process<R>, D::Error> {
        Handle::deserialize(deserializer, Kind::Process).map(Process::from_handle)
    }
}
