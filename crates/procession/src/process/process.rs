//! [`Process`]: a handle to a process, with the type of what its function returns.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builder::Builder;
use super::entry::{self, Captureless, Entry};
use super::future::{self, Registration};
use super::stdio::Pipes;
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::arena::process_body::{self, ProcessBody};
use crate::codec::encoding::Message;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};

/// A process that was spawned, and the value that its function returns.
///
/// A `Process` is a handle. It can be cloned, and sent to other processes of the family, which can then join
/// or kill the process. If every handle is dropped, the process continues. When main ends, it waits for the
/// process, unless the process is a [daemon](Builder::daemon).
///
/// A `Process` is also a [`Future`], which ends as [`join`](Process::join) does. [`select`](crate::select())
/// can wait for a `Process` too. Awaiting a process starts a thread of this library. One thread serves all
/// awaited processes.
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
/// However the process ends, [`join`](Process::join) returns, and reports how it ended. The locks that the
/// process held are handed on, and its memory is freed. Processes that it had started without this library,
/// and has not waited for, are killed. They are killed even if its function returns normally.
pub struct Process<R> {
    pub(super) handle: Handle,
    /// The spawner's ends of the piped standard streams. Only the process that spawned this one has them.
    pub(super) pipes: Option<Arc<Pipes>>,
    /// The entry of this handle in the list of awaited processes.
    pub(super) registration: Option<Registration>,
    _returns: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Runs `f` with `args` in a new process.
    ///
    /// `f` is a function, or a closure that captures nothing. `f` takes 0 to 8 arguments, which are passed as
    /// a tuple: `(x,)` for one. Arguments and result are sent by value: see [`Message`]. A handle such as a
    /// [`Lock`](crate::Lock) names the same object in both processes.
    ///
    /// The new process has the working directory of this one. It has main's environment, limits, signal mask
    /// and standard streams, and no other open file. It does not run the function `main`, and it has nothing
    /// of main's memory. It has no panic hook and no logger, and each `static` has its initial value.
    /// [`builder`](Process::builder) changes some of this.
    ///
    /// The standard streams are those that main had at its first spawn. The family's helper processes keep
    /// them open until main ends. So even if main closes or redirects its streams later, processes still
    /// write to the old ones. If one of them is a pipe, its reader sees no end of file until main ends. Pass
    /// other streams with [`Builder::stdout`] and its siblings.
    ///
    /// If main adopts orphans (as the first process of a container, or by a `prctl`), the family's supervisor is one of
    /// its children. A loop that waits for all children then never ends.
    ///
    /// User, groups, capabilities and `no_new_privs` are those of the calling thread at the time of the call.
    /// If a process has changed them since the first spawn, this call waits until the new process has adopted
    /// them. Seccomp filters, Landlock rules, namespaces, the root directory, limits and umask are those that
    /// main had at its first spawn.
    ///
    /// After this call has returned, the process runs even if the caller dies, and its process id no longer
    /// changes. A signal that is sent to the process takes effect even if its function has not begun yet.
    ///
    /// # Errors
    /// * [`Error::Message`](crate::Error::Message): the arguments cannot be encoded.
    /// * [`Error::Full`](crate::Error::Full): the shared memory is full, or the family has too many processes.
    /// * [`Error::Os`](crate::Error::Os): the kernel refuses to create another process, or the new process cannot have exactly
    ///   the credentials of the caller.
    /// * [`Error::Unsupported`](crate::Error::Unsupported): this library was loaded with `dlopen`, or the program is ending. Also if the
    ///   first process would be in a different pid namespace from main, if main's effective user differs from
    ///   its real user, or if a child has entered another user namespace.
    /// * [`Error::FamilyLost`](crate::Error::FamilyLost): the supervisor was killed a moment ago. The next call starts a new one.
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
        // If a type borrows, the compiler's error message names the first bound.
        A: Message,
        F: Captureless + Entry<A>,
        F::Output: Message,
    {
        const { entry::assert_captures_nothing::<F>() }
        let _ = f;
        Builder::default().start::<F, A>(&args, Location::caller())
    }

    /// Returns a builder, which starts a process with a name and options.
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

    /// Returns the slot of the process, while it is alive.
    pub(crate) fn slot(&self) -> Option<u32> {
        Some(self.body().slot.load(Ordering::Relaxed)).filter(|_| !self.body().is_done())
    }

    fn body(&self) -> &'static ProcessBody {
        self.handle.body()
    }

    /// Returns the process id; `None` if the process does not have one yet.
    ///
    /// ```
    /// let p = procession::Process::spawn(std::process::id, ())?;
    /// assert_eq!(p.pid(), Some(p.join()?));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pid(&self) -> Option<u32> {
        Some(self.body().pid.load(Ordering::Acquire).cast_unsigned()).filter(|&pid| pid != 0)
    }

    /// Returns the name of the process. If it was given none, this is the name of its function, or the place
    /// where its closure was spawned.
    ///
    /// ```
    /// let p = procession::Process::builder().name("crunch").spawn(|| (), ())?;
    /// assert_eq!(p.name(), "crunch");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    /// Reports whether the process is alive. The answer is a snapshot.
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
