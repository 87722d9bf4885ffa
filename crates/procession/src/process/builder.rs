//! A process's name and options, before it starts.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::panic::Location;
use std::path::Path;

use super::entry::{Captureless, Entry};
use super::process::Process;
use super::settings::{Settings, StartMethod};
use super::stdio::{Pipes, Plumbing, Stdio};
use super::{entry, name, waiting};
use crate::arena::member;
use crate::arena::objects::check_name;
use crate::codec::encoding::Message;
use crate::supervisor::client;
use crate::supervisor::client::{Order, Prepared, Wishes};
use crate::{Error, Result, codec};

/// How to start a process: made by [`Process::builder`].
///
/// Everything but a name and [`daemon`](Builder::daemon) is given to the process before its function runs, and
/// `spawn` waits for that. What cannot be given is an error of `spawn`, and the function does not run. It is for this
/// process alone: one that it spawns in its turn has main's again, unless its builder says otherwise.
///
/// | here | `std::process::Command` | Python |
/// |---|---|---|
/// | [`env`](Builder::env), [`env_remove`](Builder::env_remove), [`env_clear`](Builder::env_clear) | the same | — |
/// | [`current_dir`](Builder::current_dir) | the same | — |
/// | [`stdin`](Builder::stdin), [`stdout`](Builder::stdout), [`stderr`](Builder::stderr) | the same | — |
/// | [`process_group`](Builder::process_group) | the same | — |
/// | [`memory_limit`](Builder::memory_limit), [`cpu_affinity`](Builder::cpu_affinity), [`nice`](Builder::nice) | — | — |
/// | [`start_method`](Builder::start_method) | always an execution | the same |
/// | [`daemon`](Builder::daemon), [`name`](Builder::name) | — | the same |
///
/// ```
/// use procession::Process;
///
/// let buyer = Process::builder().name("buyer").spawn(|n: u32| n + 1, (1,))?;
/// assert_eq!(buyer.name(), "buyer");
/// assert_eq!(buyer.join()?, 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<String>,
    daemon: bool,
    /// Boxed, and often absent: the fast way is that of a builder that was asked for nothing.
    settings: Option<Box<Settings>>,
}

impl Builder {
    /// Gives the process a name of at most 95 bytes, which errors, `Debug` and `ps` (its first 15
    /// bytes) show. Without one it has that of its function, or of the place where its closure is spawned, such as
    /// `closure@main.rs:12` (`main.rs:12` in `ps`).
    ///
    /// ```
    /// use procession::Process;
    /// let own_name = || procession::current_process().map(|me| me.name());
    /// let p = Process::builder().name("buyer").spawn(own_name, ())?;
    /// assert_eq!(p.join()??, "buyer");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// A daemon does not keep the family alive: when main ends, it is asked to end with SIGTERM
    /// and made to a second later, where other processes are waited for.
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().daemon(true).spawn(|| -> () { loop { std::thread::park() } }, ())?;
    /// // main can end all the same
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn daemon(mut self, yes: bool) -> Builder {
        self.daemon = yes;
        self
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Builder {
        change(self.settings.get_or_insert_default());
        self
    }

    /// Sets a variable in the environment of the process, which otherwise is main's at its first spawn.
    ///
    /// ```
    /// use procession::Process;
    /// let level = || std::env::var("LEVEL").unwrap_or_default();
    /// let p = Process::builder().env("LEVEL", "3").spawn(level, ())?;
    /// assert_eq!(p.join()?, "3");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        let variable = (name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self.set(|settings| settings.env.push(variable))
    }

    /// Removes a variable from the environment of the process.
    ///
    /// ```
    /// use procession::Process;
    /// let home = || std::env::var_os("HOME").is_some();
    /// assert!(!Process::builder().env_remove("HOME").spawn(home, ())?.join()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env_remove(self, name: impl AsRef<OsStr>) -> Builder {
        let variable = (name.as_ref().to_owned(), None);
        self.set(|settings| settings.env.push(variable))
    }

    /// The environment of the process has only what is set after this.
    ///
    /// ```
    /// use procession::Process;
    /// let count = || std::env::vars_os().count();
    /// assert_eq!(Process::builder().env_clear().env("A", "1").spawn(count, ())?.join()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn env_clear(self) -> Builder {
        self.set(|settings| {
            settings.clear_env = true;
            settings.env.clear();
        })
    }

    /// The working directory of the process, instead of that of its spawner. A relative path is seen from the
    /// spawner's, when it spawns.
    ///
    /// ```
    /// use procession::Process;
    /// let here = || std::env::current_dir().unwrap();
    /// let p = Process::builder().current_dir("/").spawn(here, ())?;
    /// assert_eq!(p.join()?, std::path::Path::new("/"));
    /// let e = Process::builder().current_dir("/no/such/place").spawn(here, ()).unwrap_err();
    /// assert!(e.to_string().contains("/no/such/place"), "{e}");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn current_dir(self, path: impl AsRef<Path>) -> Builder {
        let path = path.as_ref().to_owned();
        self.set(|settings| settings.directory = Some(path))
    }

    /// Where the process reads its standard input from: a file, a pipe, or what [`Stdio`] makes.
    ///
    /// ```
    /// use std::io::Write;
    /// use procession::{Process, process::Stdio};
    /// let shout = || std::io::read_to_string(std::io::stdin()).unwrap().to_uppercase();
    /// let p = Process::builder().stdin(Stdio::piped()).spawn(shout, ())?;
    /// p.take_stdin().unwrap().write_all(b"hello")?; // and dropped: the end of the input
    /// assert_eq!(p.join()?, "HELLO");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stdin(self, from: impl Into<Stdio>) -> Builder {
        let from = from.into();
        self.set(|settings| settings.streams[0] = Some(from))
    }

    /// Where the standard output of the process goes: a file, a pipe, or what [`Stdio`] makes.
    ///
    /// ```
    /// use procession::Process;
    /// let path = std::env::temp_dir().join(format!("stdout-{}", std::process::id()));
    /// let file = std::fs::File::create(&path)?;
    /// Process::builder().stdout(file).spawn(|| println!("noted"), ())?.join()?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "noted\n");
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stdout(self, to: impl Into<Stdio>) -> Builder {
        let to = to.into();
        self.set(|settings| settings.streams[1] = Some(to))
    }

    /// Where the standard error of the process goes: a file, a pipe, or what [`Stdio`] makes.
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// Process::builder().stderr(Stdio::null()).spawn(|| eprintln!("unheard"), ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stderr(self, to: impl Into<Stdio>) -> Builder {
        let to = to.into();
        self.set(|settings| settings.streams[2] = Some(to))
    }

    /// The most bytes of private memory that the process may have, as the kernel counts them for
    /// `RLIMIT_DATA`: heap, stacks of further threads, writable globals; not what the family shares. It
    /// includes what a process has before its function runs, a few MiB. A limit below that is an error.
    ///
    /// Beyond the limit no memory is to be had: `try_reserve` and its like return an error, and any other
    /// allocation ends the process ([`Failure::Killed`](super::Failure::Killed) with `out_of_memory`). Programs that
    /// the process starts have the limit too, each for itself. No control group is made: it would count what
    /// the process puts into queues.
    ///
    /// ```
    /// use procession::Process;
    /// let fits = |bytes: usize| Vec::<u8>::new().try_reserve(bytes).is_ok();
    /// let small = Process::builder().memory_limit(64 << 20);
    /// assert!(small.spawn(fits, (1 << 20,))?.join()?);
    /// assert!(!small.spawn(fits, (1 << 30,))?.join()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn memory_limit(self, bytes: u64) -> Builder {
        self.set(|settings| settings.memory_limit = Some(bytes))
    }

    /// The processors that the process may run on, by number. One that it cannot have is an error.
    ///
    /// ```
    /// use procession::Process;
    /// let p = Process::builder().cpu_affinity(&[0]).spawn(procession::cpu_count, ())?;
    /// assert_eq!(p.join()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn cpu_affinity(self, processors: &[usize]) -> Builder {
        let number = |&n: &usize| u32::try_from(n).unwrap_or(u32::MAX);
        let processors = processors.iter().map(number).collect();
        self.set(|settings| settings.processors = Some(processors))
    }

    /// The nice value of the process, from -20 (it comes first) to 19 (it comes last). To go below what main
    /// has needs a privilege.
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().nice(10).spawn(|| { /* in the background */ }, ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn nice(self, value: i32) -> Builder {
        self.set(|settings| settings.nice = Some(value))
    }

    /// The process group of the process, instead of main's: 0 for one of its own, which a Ctrl-C at the
    /// terminal does not reach.
    ///
    /// ```
    /// use procession::Process;
    /// Process::builder().process_group(0).spawn(|| (), ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn process_group(self, group: i32) -> Builder {
        self.set(|settings| settings.process_group = Some(group))
    }

    /// How the process comes to be.
    ///
    /// ```
    /// use procession::{Process, process::StartMethod};
    /// let fresh = Process::builder().start_method(StartMethod::Spawn);
    /// assert_eq!(fresh.spawn(|a: u64, b: u64| a * b, (6, 7))?.join()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn start_method(self, method: StartMethod) -> Builder {
        self.set(|settings| settings.method = method)
    }

    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// As [`Process::spawn`]; [`Error::InvalidArgument`] for a name that is too long and for options that make
    /// no sense; and the error of an option that the process could not be given. Then the function does not run.
    ///
    /// ```
    /// use procession::Process;
    /// let quiet = Process::builder().nice(5).stdin(procession::process::Stdio::null());
    /// let both = [quiet.spawn(|n: u32| n + 1, (1,))?, quiet.spawn(|n: u32| n + 1, (2,))?];
    /// assert_eq!((both[0].join()?, both[1].join()?), (2, 3));
    /// assert!(Process::builder().nice(100).spawn(|| (), ()).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # If a process dies
    /// If the new process is killed while it is being given its options, that is the error, and its function is not
    /// called. If the process that spawns is killed meanwhile, the new one ends.
    #[track_caller]
    pub fn spawn<F, A>(&self, f: F, args: A) -> Result<Process<F::Output>>
    where
        A: Message,
        F: Captureless + Entry<A>,
        F::Output: Message,
    {
        const { entry::assert_captures_nothing::<F>() }
        let _ = f;
        self.start::<F, A>(&args, Location::caller())
    }

    pub(super) fn start<F, A>(&self, args: &A, place: &Location<'_>) -> Result<Process<F::Output>>
    where
        F: Entry<A>,
        F::Output: Message,
        A: Message,
    {
        let name = match &self.name {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => name::of_function::<F>(place),
        };
        check_name(&name)?;
        let (entry, type_hash) = entry::name_of::<F, A>();
        let order = Order { entry, type_hash, args: 0, name: &name, daemon: self.daemon, wishes: None };
        match &self.settings {
            None => outcome_of(client::spawn(&Order { args: packed(args)?, ..order })?, None),
            Some(settings) => prepared(order, settings, || packed(args)),
        }
    }
}

/// Starts a process that is to be given something first.
fn prepared<R>(
    order: Order<'_>,
    settings: &Settings,
    args: impl FnOnce() -> Result<u64>,
) -> Result<Process<R>> {
    let plumbing = Plumbing::of(&settings.streams)?;
    let (options, directory) = (settings.options(&plumbing)?, settings.absolute_directory()?);
    let wishes = Wishes { options: &options, directory: directory.as_deref(), luggage: plumbing.luggage() };
    let order = Order { args: args()?, wishes: Some(&wishes), ..order };
    outcome_of(client::spawn(&order)?, plumbing.pipes)
}

fn outcome_of<R>(prepared: Prepared, pipes: Option<Pipes>) -> Result<Process<R>> {
    match prepared {
        Prepared::Ready(handle) => Ok(Process::with_pipes(handle, pipes)),
        Prepared::Ended(handle, said) => {
            let failure = waiting::failure_of(&handle);
            let unknown = || Error::other("the process ended before it had its options");
            Err(said.or(failure.map(Error::from)).unwrap_or_else(unknown))
        }
    }
}

/// A block of this process with the arguments.
fn packed<A: Message>(args: &A) -> Result<u64> {
    let block = codec::pack(args)?;
    if cfg!(debug_assertions)
        && let Err(e) = codec::unpack::<A>(member::arena()?, block)
    {
        client::release(block);
        return Err(e);
    }
    Ok(block)
}
