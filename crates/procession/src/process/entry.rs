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
/// Two processes of a program share its code, but not their memory. So a closure cannot capture anything: pass what it
/// needs as arguments. Implemented for functions of up to 8 arguments. You never implement it.
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

/// As [`name_of`], for [`preload`](super::preload()).
pub(super) fn preload_name_of<F, A>() -> (u64, u64)
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    const { &PreloadOf::<F, A>::POINT }.name()
}

/// Decodes the arguments, whose block is kept, and calls the function.
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

/// Returns the function itself, which its type determines. Only entry points call this. An entry point exists because a
/// caller of this library had a value of the type.
#[inline]
pub(crate) fn function<F: Captureless>() -> F {
    const { assert_captures_nothing::<F>() }
    // SAFETY: `F` has no size, so no byte of it can be wrong, and a value of it exists, as above. It is `Copy`, so its
    // owner could make another one too. It is `Send` and `'static`, so it is bound to no thread and no lifetime.
    unsafe { std::mem::zeroed() }
}

/// Decodes the arguments, calls the function, and encodes its result.
fn run<F, A>(arena: &'static Arena, args: u64) -> Result<Returned>
where
    F: Entry<A>,
    F::Output: Message,
    A: Message,
{
    // If decoding fails, the block is kept until this process has ended: its handles name the objects on which others
    // may wait for this process.
    let decoded = codec::unpack::<A>(arena, args)?;
    // This process has its own handles by now, so the block can be freed with those that it carries.
    blocks::free(arena, member::slot(), args, blocks::Tag::process(member::slot()));
    let value = function::<F>().call(decoded);
    Ok(match codec::pack(&value).and_then(|block| read_back::<F::Output>(arena, block)) {
        Ok(block) if is_err(&value) => Returned::Err(block, as_text(&value)),
        Ok(block) => Returned::Value(block),
        Err(e) => Returned::Unsendable(e, as_text(&value)),
    })
}

/// Checks that a result can be decoded, while this process can still describe it. For long results this takes time, so
/// only debug builds check those.
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

/// Reports whether a value is an `Err`. A value of any type can come here, so the type is recognized by its name and
/// the variant by its encoding.
fn is_err<R: Message>(value: &R) -> bool {
    struct FirstByte(Option<u8>);
    impl postcard::ser_flavors::Flavor for FirstByte {
        type Output = Option<u8>;
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.get_or_insert(byte);
            // One byte is enough: the rest need not be encoded twice.
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
