//! Functions that can be spawned, and how they run in the other process.
#![allow(unsafe_code)] // Makes a function item out of nothing, which is all there is of it.

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
/// Only code is shared with another process, not this one's memory, so a closure has nothing to
/// capture from: what it needs goes in its arguments. Implemented for functions of up to 8
/// arguments; you never implement it.
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
    /// What the function returns.
    type Output;

    #[doc(hidden)]
    fn call(self, args: Args) -> Self::Output;
}

/// A function or closure that captures nothing, as far as its type shows it.
///
/// Another process makes the function from its type alone. So a closure must not capture a value, not even one
/// of zero size: a token that exists once in each process would exist twice. The compiler refuses a capture that is
/// not `Copy`, `Send` and `'static` when it checks the program, and any other capture that has a size when it
/// builds the program. You never implement this trait; a generic function that passes a function on needs
/// [`Entry`] alone, which includes it.
///
/// A captured value of zero size that is `Copy`, `Send` and `'static` looks like no capture, and exists in the other
/// process as well. Do not give those three traits to a type whose values prove something about one process,
/// such as that a library has been initialized there.
///
/// ```compile_fail
/// struct Token; // of which there must be only one
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

// Without the attribute, the compiler names the captured type and `Copy`, and leads away from the cause.
#[diagnostic::do_not_recommend]
impl<F: Copy + Send + 'static> Captureless for F {}

/// Refuses, while the program is built, a closure that captures something that has a size.
pub(crate) const fn assert_captures_nothing<F: Captureless>() {
    Checked::<F>::CAPTURES_NOTHING
}

/// The check of one type of function. It is a constant of the type, so the compiler reports it once, wherever the
/// function is passed on.
struct Checked<F>(std::marker::PhantomData<F>);

impl<F> Checked<F> {
    const CAPTURES_NOTHING: () = captures_nothing::<F>();
}

/// Panics in its caller's place, so that the compiler shows no lines of this function.
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

/// The constant that stands for one function in the executable.
struct EntryOf<F, A>(std::marker::PhantomData<(F, A)>);

impl<F, A> EntryOf<F, A>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const POINT: EntryPoint = EntryPoint::new(run::<F, A>, std::any::type_name::<(F, A)>);
}

/// Where the function lies in the executable, and the hash of its type.
pub(crate) fn name_of<F, A>() -> (u64, u64)
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { &EntryOf::<F, A>::POINT }.name()
}

/// The constant that stands for a function that a template runs.
struct PreloadOf<F, A>(std::marker::PhantomData<(F, A)>);

impl<F, A> PreloadOf<F, A>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const POINT: EntryPoint = EntryPoint::new(run_once::<F, A>, std::any::type_name::<(F, A, Template)>);
}

/// Distinguishes the two kinds of constants.
struct Template;

/// As [`name_of`], for [`preload`](super::preload()).
pub(super) fn preload_name_of<F, A>() -> (u64, u64)
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { &PreloadOf::<F, A>::POINT }.name()
}

/// Decodes the arguments, which stay, and calls the function.
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

/// Returns the function itself, which consists of nothing but its type. Only entries call this, and an entry
/// exists because a caller of this library had a value of the type; so the type has values.
#[inline]
pub(crate) fn function<F: Captureless>() -> F {
    const { assert_captures_nothing::<F>() }
    // SAFETY: `F` has no size, so no byte of it can be wrong, and it has values, as above. It is `Copy`, so one
    // value more is nothing that its owner could not make; `Send` and `'static`, so no thread and no lifetime
    // is bound to it.
    unsafe { std::mem::zeroed() }
}

/// Decodes the arguments, calls the function, encodes what it returns.
fn run<F, A>(arena: &'static Arena, args: u64) -> Result<Returned>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    // If they cannot be read, the block stays until this process has ended: then recovery frees it.
    let decoded = codec::unpack::<A>(arena, args)?;
    // The handles in the arguments are this process's before the block lets them go.
    blocks::free(arena, member::slot(), args, blocks::Tag::process(member::slot()));
    let value = function::<F>().call(decoded);
    Ok(match codec::pack(&value).and_then(|block| read_back::<F::Output>(arena, block)) {
        Ok(block) if is_err(&value) => Returned::Err(block, as_text(&value)),
        Ok(block) => Returned::Value(block),
        Err(e) => Returned::Unsendable(e, as_text(&value)),
    })
}

/// Looks whether a result will arrive, as long as there is somebody who can say what it is. Long ones take
/// their time, so only debug builds look at those.
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

/// Whether a value is an `Err` of whatever error type. The type is known by its name and the
/// variant by its encoding, because a value of any type may stand here.
fn is_err<R: Message>(value: &R) -> bool {
    struct FirstByte(Option<u8>);
    impl postcard::ser_flavors::Flavor for FirstByte {
        type Output = Option<u8>;
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.get_or_insert(byte);
            // One byte tells; the rest need not be encoded twice.
            Err(postcard::Error::SerializeBufferFull)
        }
        fn finalize(self) -> postcard::Result<Option<u8>> {
            Ok(self.0)
        }
    }
    if !std::any::type_name::<R>().starts_with("core::result::Result<") {
        return false;
    }
    let mut serializer = postcard::Serializer { output: FirstByte(None) };
    let _ = value.serialize(&mut serializer);
    serializer.output.0 == Some(1)
}
