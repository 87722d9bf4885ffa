//! [`Builder::spawn`]: starting a process.

use std::borrow::Cow;
use std::panic::Location;

use super::builder::Builder;
use super::entry::{Captureless, Entry};
use super::interrupts::Interrupts;
use super::process::Process;
use super::settings::Settings;
use super::stdio::{Pipes, StreamSetup};
use super::{entry, name, waiting};
use crate::arena::objects::check_name;
use crate::codec::encoding::Message;
use crate::supervisor::client;
use crate::supervisor::client::{Order, Prepared, Setup};
use crate::{Error, Result, codec};

impl Builder {
    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// As [`Process::spawn`]. Also [`Error::InvalidArgument`] for a name that is too long or an option that
    /// is out of range. If an option cannot be applied, returns the error of that option. In all these cases,
    /// `f` is not called.
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
    /// If the new process is killed before its options are applied, `spawn` returns an error that says so,
    /// and `f` is not called. If the spawning process is killed before that, the new process ends.
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
        let order = Order {
            entry,
            type_hash,
            args: 0,
            name: &name,
            daemon: self.daemon,
            ignores_interrupts: self.interrupts == Interrupts::MainOnly,
            setup: None,
        };
        match &self.settings {
            None => outcome_of(client::spawn(&Order { args: codec::pack_checked(args)?, ..order })?, None),
            Some(settings) => prepared(order, settings, || codec::pack_checked(args)),
        }
    }
}

/// Starts a process with options, and waits until they are applied.
fn prepared<R>(
    order: Order<'_>,
    settings: &Settings,
    args: impl FnOnce() -> Result<u64>,
) -> Result<Process<R>> {
    let setup = StreamSetup::of(&settings.streams)?;
    let (options, directory) = (settings.options(&setup)?, settings.absolute_directory()?);
    let wanted = Setup { options: &options, directory: directory.as_deref(), sent_fds: setup.sent_fds() };
    let order = Order { args: args()?, setup: Some(&wanted), ..order };
    outcome_of(client::spawn(&order)?, setup.pipes)
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
