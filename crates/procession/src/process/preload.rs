//! [`preload`]: filling memory that all processes share, before the first process is spawned.

use super::entry::{self, Captureless, Entry};
use super::failure::{Failure, ProcessError};
use crate::arena::{member, payload};
use crate::codec;
use crate::codec::encoding::Message;
use crate::supervisor::preload::{Request, TemplateFailure};
use crate::supervisor::{client, launching};
use crate::{Error, Result};

/// Runs `f` with `args` once, in a separate process, before the first process is spawned. All later processes
/// are forked from that process. They share the memory that `f` has filled (in a `static`), until one of them
/// writes to it. So a table of 200 MiB takes 200 MiB in total, even if many processes use it.
///
/// Returns after `f` has returned. `f` runs before the family exists, so it cannot use locks, queues or other
/// shared objects, and `args` cannot contain any. Processes inherit the files that `f` opens, but not the
/// threads that it starts. The backtrace of a panic in `f` is printed, but is not in the error. Processes
/// with [`StartMethod::Spawn`](super::StartMethod::Spawn) inherit nothing from `f`.
///
/// # Errors
/// * [`Error::Process`] if `f` panics, exits or crashes, and [`Error::Other`] if it returns an `Err`. After that,
///   `preload` can be called again.
/// * [`Error::Unsupported`] if another call of `preload` has succeeded or is still running. The same error
///   after a spawn, and in every process other than main.
/// * [`Error::InvalidArgument`] if the arguments contain handles.
/// * Otherwise as [`Process::spawn`](super::Process::spawn).
///
/// # If a process dies
/// If the supervisor is killed, the next spawn runs `f` again.
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
            "the arguments of preload cannot contain handles: it runs before the family exists".into(),
        ))
    } else {
        launching::preload(Request { entry, type_hash, args })
    };
    match built {
        Ok(Ok(())) => Ok(()),
        Ok(Err(template_failure)) => {
            client::release(args);
            Err(error(template_failure))
        }
        Err(error) => {
            client::release(args);
            Err(error)
        }
    }
}

fn error(template_failure: TemplateFailure) -> Error {
    let failure = match template_failure {
        TemplateFailure::ReturnedErr(text) => {
            return Error::other(format!("the function of preload returned {text}"));
        }
        TemplateFailure::Refused(error) => return error,
        TemplateFailure::Panicked(message, location) => {
            Failure::Panicked { message, location, backtrace: String::new() }
        }
        TemplateFailure::Exited(code) => Failure::Exited { code },
        TemplateFailure::Killed { signal, core: core_dumped } => {
            Failure::Killed { signal, core_dumped, out_of_memory: false, stack_overflow: false }
        }
    };
    ProcessError::new("preload".into(), None, failure).into()
}
