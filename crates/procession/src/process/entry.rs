//! [`Entry`]: the functions that can run in another process, and how they are called there.
#![allow(unsafe_code)] // Creates a function item, which has no size, from its type alone.

use crate::Result;
use crate::arena::payload;
use crate::arena::{Arena, blocks, member};
use crate::codec;
use crate::codec::encoding::Message;
use crate::codec::value_text::as_text;
use crate::supervisor::client;
use crate::supervisor::entrypoint::{EntryPoint, Returned};

/// A function that another process can run: a `fn` item, or a closure that captures nothing,
/// called with the tuple `Args`.
///
/// Two processes of a program have the same code, but separate memory. So a closure cannot capture anything:
/// pass what it needs as arguments. The trait is implemented for functions of up to 8 arguments. You never
/// implement it.
///
/// ```compile_fail
/// let limit = 10u64;
/// // Does not build: the closure captures `limit`. Write `|n: u64, limit: u64| ..` instead.
/// procession::Process::spawn(move |n: u64| n.min(limit), (7,));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called with the arguments `{Args}`",
    label = "expected a function or a closure that captures nothing and takes these arguments",
    note = "arguments are a tuple, `(x,)` for one; closures name their argument types: `|lock: Lock| ..`",
    note = "there are at most 8 arguments: pass more as a struct or as a tuple in the tuple"
)]
pub trait Entry<Args>: Captureless {
    /// The type that the function returns.
    type Output;

    #[doc(hidden)]
    fn call(self, args: Args) -> Self::Output;
}

/// A function, or a closure that captures nothing.
///
/// Another process creates the function from its type alone. So a closure must not capture a value, not even
/// a value of zero size. Otherwise a token that must exist only once in each process would exist twice. If a
/// captured value is not `Copy`, `Send` and `'static`, the compiler refuses it when it checks the program.
/// Any other captured value that has a size is refused when the compiler builds the program. You never
/// implement this trait. A generic function that passes a function on needs only the bound [`Entry`], which
/// includes this trait.
///
/// The compiler cannot detect a captured value of zero size that is `Copy`, `Send` and `'static`. Such a
/// value exists in the other process as well. Some types have values that prove something about one process,
/// such as that a library has been initialized there. Do not give all three traits to such a type.
///
/// ```compile_fail
/// struct Token; // of which there must be only one in each process
/// let token = Token;
/// // Does not build, although the closure has no size.
/// procession::Process::spawn(move || { let _mine = &token; }, ());
/// ```
#[diagnostic::on_unimplemented(
    message = "a function that runs in another process cannot capture variables",
    label = "this captures a variable",
    note = "the other process does not have this one's memory: pass what the function needs as arguments, `|x: X| ..`"
)]
pub trait Captureless: Copy + Send + 'static {}

// Without the attribute, the error message names the captured type and `Copy`, and hides the cause.
#[diagnostic::do_not_recommend]
impl<F: Copy + Send + 'static> Captureless for F {}

/// Refuses a closure that captures a value that has a size. The error appears when the program is built.
pub(crate) const fn assert_captures_nothing<F: Captureless>() {
    Checked::<F>::CAPTURES_NOTHING
}

/// Checks one type of function. The check is a constant of this type, so the compiler reports a failure
/// only once, even if the function is passed on several times.
struct Checked<F>(std::marker::PhantomData<F>);

impl<F> Checked<F> {
    const CAPTURES_NOTHING: () = captures_nothing::<F>();
}

/// The attribute makes the panic appear at the caller, so that the compiler shows no lines of this function.
#[track_caller]
const fn captures_nothing<F>() {
    if size_of::<F>() == size_of::<fn()>() {
        panic!(
            "a function that runs in another process cannot capture variables: pass what it needs as arguments, `|x: X| ..`; and a pointer to a function cannot cross: pass the function itself"
        );
    }
    if size_of::<F>() != 0 {
        panic!(
            "a function that runs in another process cannot capture variables: pass what it needs as arguments, `|x: X| ..`"
        );
    }
}

macro_rules! entry_for {
    ($($arg:ident)*) => {
        impl<Func, Out, $($arg,)*> Entry<($($arg,)*)> for Func
        where
            Func: Fn($($arg),*) -> Out + Captureless,
        {
            type Output = Out;

            #[allow(non_snake_case)]
            fn call(self, ($($arg,)*): ($($arg,)*)) -> Out {
                self($($arg),*)
            }
        }
    };
}

entry_for!();
entry_for!(A);
entry_for!(A B);
entry_for!(A B C);
entry_for!(A B C D);
entry_for!(A B C D E);
entry_for!(A B C D E F);
entry_for!(A B C D E F G);
entry_for!(A B C D E F G H);

/// The entry point of a function.
struct EntryOf<F, A>(std::marker::PhantomData<(F, A)>);

impl<F, A> EntryOf<F, A>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const POINT: EntryPoint = EntryPoint::new(run::<F, A>, std::any::type_name::<(F, A)>);
}

/// Returns the place of the function in the executable, and the hash of its type.
pub(crate) fn name_of<F, A>() -> (u64, u64)
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { &EntryOf::<F, A>::POINT }.name()
}

/// The entry point of a function that the template process runs, for [`preload`](super::preload()).
struct PreloadOf<F, A>(std::marker::PhantomData<(F, A)>);

impl<F, A> PreloadOf<F, A>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const POINT: EntryPoint = EntryPoint::new(run_once::<F, A>, std::any::type_name::<(F, A, Template)>);
}

/// A type that makes the hash of [`PreloadOf`] differ from that of [`EntryOf`].
struct Template;

/// As [`name_of`], but for [`preload`](super::preload()).
pub(super) fn preload_name_of<F, A>() -> (u64, u64)
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { &PreloadOf::<F, A>::POINT }.name()
}

/// Decodes the arguments and calls the function. Does not free the block of arguments.
fn run_once<F, A>(arena: &'static Arena, args: u64) -> Result<Returned>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    let decoded = codec::unpack::<A>(arena, args)?;
    let value = function::<F>().call(decoded);
    Ok(if is_err(&value) { Returned::Err(0, as_text(&value)) } else { Returned::Value(0) })
}

/// Returns the function itself, which is determined by its type. Only entry points call this. An entry point
/// exists only because a caller of this library had a value of the type.
#[inline]
pub(crate) fn function<F: Captureless>() -> F {
    const { assert_captures_nothing::<F>() }
    // SAFETY: `F` has no size, so no byte of it can be wrong. A value of it exists, as explained above. It is
    // `Copy`, so the owner of that value could create another one too. It is `Send` and `'static`, so it is
    // bound to no thread and no lifetime.
    unsafe { std::mem::zeroed() }
}

/// Decodes the arguments, calls the function, and encodes its result.
fn run<F, A>(arena: &'static Arena, args: u64) -> Result<Returned>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    // If decoding fails, the block is kept until this process has ended. The block's handles name objects on
    // which other processes may wait for this process.
    let decoded = codec::unpack::<A>(arena, args)?;
    // By now, this process has its own handles, so the block can be freed together with the handles that it
    // carries.
    blocks::free(arena, member::slot(), args, blocks::Tag::process(member::slot()));
    let value = function::<F>().call(decoded);
    Ok(match codec::pack(&value).and_then(|block| read_back::<F::Output>(arena, block)) {
        Ok(block) if is_err(&value) => Returned::Err(block, as_text(&value)),
        Ok(block) => Returned::Value(block),
        Err(e) => Returned::Unsendable(e, as_text(&value)),
    })
}

/// Checks that a result can be decoded, while this process can still describe the value. For long results the
/// check takes time, so only debug builds check them.
fn read_back<R: Message>(arena: &'static Arena, block: u64) -> Result<u64> {
    const SHORT: usize = 4 << 10;
    let len = if block == 0 { 0 } else { payload::contents(arena, block)?.len() };
    if (len <= SHORT || cfg!(debug_assertions))
        && let Err(e) = codec::unpack::<R>(arena, block)
    {
        client::release(block);
        return Err(e);
    }
    Ok(block)
}

/// Reports whether a value is an `Err`. The value may have any type, so the type is recognized by its name,
/// and the variant by its number.
fn is_err<R: Message>(value: &R) -> bool {
    std::any::type_name::<R>().starts_with("core::result::Result<") && codec::variant_of(value) == Some(1)
}
