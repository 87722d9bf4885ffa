//! The jobs of a pool: how users' functions are called, and the entry points that name these functions in
//! shared memory.

use super::run;
use crate::Result;
use crate::arena::Arena;
use crate::codec;
use crate::codec::encoding::Message;
use crate::process::entry::function;
use crate::process::{Captureless, Entry};
use crate::supervisor::entrypoint::{self, EntryPoint, Returned};
use crate::unwind;

/// A user's function, in the form in which it is called for one item.
pub(super) trait Job<T>: 'static {
    type Out: Message;
    fn run(item: T) -> Self::Out;
}

/// Calls the function with the item.
pub(super) struct Each<F, R>(std::marker::PhantomData<(F, fn() -> R)>);

impl<T, R: Message, F: Fn(T) -> R + Captureless> Job<T> for Each<F, R> {
    type Out = R;

    #[inline]
    fn run(item: T) -> R {
        function::<F>()(item)
    }
}

/// Calls the function with the parts of the item, which is a tuple of arguments.
pub(super) struct Spread<F>(std::marker::PhantomData<F>);

impl<T, F: Entry<T, Output: Message>> Job<T> for Spread<F> {
    type Out = F::Output;

    #[inline]
    fn run(item: T) -> F::Output {
        function::<F>().call(item)
    }
}

/// The entry points of one job. Each entry point takes the offset of a cell.
pub(super) struct EntryPoints<J, T>(std::marker::PhantomData<(J, T)>);

impl<J: Job<T>, T: Message> EntryPoints<J, T> {
    const SINGLE: EntryPoint = EntryPoint::new(run::single::<J, T>, std::any::type_name::<(&str, J, T)>);
    const CHUNK: EntryPoint = EntryPoint::new(run::chunk::<J, T>, std::any::type_name::<(&[u8], J, T)>);

    /// Returns the name of the entry point for a single call.
    #[inline]
    pub(super) fn single() -> (u64, u64) {
        name_of(const { &Self::SINGLE })
    }

    /// Returns the name of the entry point for a chunk.
    #[inline]
    pub(super) fn chunk() -> (u64, u64) {
        name_of(const { &Self::CHUNK })
    }
}

/// An entry point and its name.
type Named = (&'static EntryPoint, (u64, u64));

thread_local! {
    /// The entry point that this thread has named or resolved last. It is cached because hashing the name of
    /// its type takes longer than running a short task.
    static LAST: std::cell::Cell<Option<Named>> = const { std::cell::Cell::new(None) };
}

#[inline]
fn name_of(point: &'static EntryPoint) -> (u64, u64) {
    match LAST.get() {
        Some((last, name)) if std::ptr::eq(last, point) => name,
        _ => {
            let name = point.name();
            LAST.set(Some((point, name)));
            name
        }
    }
}

pub(super) fn resolve(name: (u64, u64)) -> Result<&'static EntryPoint> {
    match LAST.get() {
        Some((point, last)) if last == name => Ok(point),
        _ => {
            let point = entrypoint::resolve(name.0, name.1)?;
            LAST.set(Some((point, name)));
            Ok(point)
        }
    }
}

/// The types that an initializer may return: `()`, and `Result<(), E>` whose error can be displayed.
///
/// ```
/// use procession::pool::{Pool, TaskError};
/// let fails = || Err::<(), String>("no database".into());
/// let pool = Pool::builder().workers(1).initializer(fails, ()).build()?;
/// let error = pool.apply(|| 6 * 7, ()).unwrap_err();
/// assert!(error.to_string().contains("no database"));
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Initialized {
    #[doc(hidden)]
    fn outcome(self) -> Result<(), String>;
}

impl Initialized for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: std::fmt::Display> Initialized for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        self.map_err(|e| e.to_string())
    }
}

/// The entry point of an initializer.
pub(super) struct InitPoint<F, A>(std::marker::PhantomData<(F, A)>);

impl<F: Entry<A, Output: Initialized>, A: Message> InitPoint<F, A> {
    const POINT: EntryPoint = EntryPoint::new(initialize::<F, A>, std::any::type_name::<(u8, F, A)>);

    pub(super) fn name() -> (u64, u64) {
        const { &Self::POINT }.name()
    }
}

/// Calls an initializer. Does not free the block of arguments, because the next worker needs it.
fn initialize<F: Entry<A, Output: Initialized>, A: Message>(
    arena: &'static Arena,
    args: u64,
) -> Result<Returned> {
    let args = codec::unpack::<A>(arena, args)?;
    let called = unwind::catch(|| function::<F>().call(args).outcome());
    Ok(match called {
        Ok(Ok(())) => Returned::Value(0),
        Ok(Err(why)) => Returned::Err(0, why),
        Err(panic) => {
            let panic = panic.as_any();
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Returned::Err(0, format!("it panicked: {said}"))
        }
    })
}
