//! [`preload`]: building what all processes share before there is one.

use super::entry::{self, Captureless, Entry};
use super::failure::{Failure, ProcessError};
use crate::arena::{member, payload};
use crate::codec;
use crate::codec::encoding::Message;
use crate::supervisor::client;
use crate::supervisor::preload::{Fate, Request};
use crate::{Error, Result};

/// Runs `f` with `args` once, in a process of its own, before the first process is spawned. Processes are made
/// from that one, and share what `f` left in its memory (in a `static`) until one of them writes to it: a table
/// of 200 MiB takes 200 MiB, however many use it.
///
/// Returns when `f` has. It runs before there is a family, so it cannot use locks, queues and the like, and
/// `args` cannot contain any. Threads that it starts are not there in the processes; files that it opens are.
/// Of a panic in `f` there is no backtrace but what is printed. Processes that are [executed anew](super::StartMethod::Spawn) have nothing of it.
///
/// # Errors
/// [`Error::Process`] when `f` panics, exits or crashes, and [`Error::Other`] when it returns an `Err`; after
/// that it can be called again. [`Error::Unsupported`] when it was called before, from another process than
/// main, or after a spawn. [`Error::InvalidArgument`] for arguments with handles. Otherwise as
/// [`Process::spawn`](super::Process::spawn).
///
/// # If a process dies
/// After the loss of the supervisor the next spawn runs `f` again.
///
/// ```
/// use std::sync::OnceLock;
/// use procession::Process;
///
/// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
///
/// fn load(len: u64) {
///     TABLE.get_or_init(|| (0..len).map(|n| n * n).collect());
/// }
///
/// procession::preload(load, (1000,))?;
/// let look = |n: usize| TABLE.get().map(|table| table[n]);
/// assert_eq!(Process::spawn(look, (12,))?.join()?, Some(144));
/// assert!(TABLE.get().is_none(), "main has nothing of it");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn preload<F, A>(f: F, args: A) -> Result<()>
where
    F: Captureless + Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { entry::assert_captures_nothing::<F>() }
    let _ = f;
    let arena = member::arena()?;
    let args = codec::pack(&args)?;
    let (entry, type_hash) = entry::preload_name_of::<F, A>();
    let built = if payload::has_handles(arena, args) {
        Err(Error::InvalidArgument(
            "the arguments of preload cannot contain handles: it runs before there is a family".into(),
        ))
    } else {
        client::preload(Request { entry, type_hash, args })
    };
    match built {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fate)) => {
            client::release(args);
            Err(error(fate))
        }
        Err(error) => {
            client::release(args);
            Err(error)
        }
    }
}

fn error(fate: Fate) -> Error {
    let failure = match fate {
        Fate::ReturnedErr(text) => {
            return Error::other(format!("the function to preload with returned {text}"));
        }
        Fate::Refused(error) => return error,
        Fate::Panicked(message, location) => {
            Failure::Panicked { message, location, backtrace: String::new() }
        }
        Fate::Exited(code) => Failure::Exited { code },
        Fate::Killed { signal, core: core_dumped } => {
            Failure::Killed { signal, core_dumped, out_of_memory: false, stack_overflow: false }
        }
    };
    ProcessError::new("preload".into(), None, failure).into()
}
