//! A process's name and options, before it starts.

use super::entry::{self, Entry};
use super::spawned::Process;
use crate::arena::encoding::Message;
use crate::arena::objects::check_name;
use crate::arena::payload;
use crate::arena::{blocks, member};
use crate::supervisor::client::{self, Order};
use crate::{Error, Result};

/// How to start a process: made by [`Process::builder`].
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
}

impl Builder {
    /// Gives the process a name of at most 95 bytes, which errors, `Debug` and `ps` (its first 15
    /// bytes) show. Without one it is named after its function.
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

    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// As [`Process::spawn`], and [`Error::InvalidArgument`] for a name that is too long.
    pub fn spawn<F, A>(&self, f: F, args: A) -> Result<Process<F::Output>>
    where
        F: Entry<A>,
        F::Output: Message,
        A: Message,
    {
        const { entry::assert_captures_nothing::<F>() }
        let _ = f;
        self.start::<F, A>(&args)
    }

    pub(super) fn start<F, A>(&self, args: &A) -> Result<Process<F::Output>>
    where
        F: Entry<A>,
        F::Output: Message,
        A: Message,
    {
        let name = match &self.name {
            Some(name) => name.as_str(),
            None => short_type_name::<F>(),
        };
        check_name(name)?;
        let (entry, type_hash) = entry::name_of::<F, A>();
        let block = payload::pack(args)?;
        if cfg!(debug_assertions)
            && let Err(e) = payload::unpack::<A>(member::arena()?, block)
        {
            release_args(block);
            return Err(Error::Message(format!("the arguments would not arrive: {e}")));
        }
        let order = Order { entry, type_hash, args: block, name, daemon: self.daemon };
        client::spawn(&order).inspect_err(|_| release_args(block)).map(Process::from_handle)
    }
}

fn release_args(block: u64) {
    if let (Some(arena), true) = (member::mapped(), block != 0) {
        blocks::free(arena, member::slot(), block, blocks::Tag::process(member::slot()));
    }
}

/// The last part of a function's path: `buy` of `shop::till::buy`.
fn short_type_name<F>() -> &'static str {
    let full = std::any::type_name::<F>();
    let path = full.split('<').next().unwrap_or(full).trim_end_matches("::{{closure}}");
    let name = path.rsplit("::").next().unwrap_or(path);
    match check_name(name) {
        Ok(()) => name,
        Err(_) => "process",
    }
}
