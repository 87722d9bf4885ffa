//! Encoding and decoding of values.
//!
//! Numbers, strings, and vectors of numbers are copied as raw bytes. Everything else is encoded in the format of
//! `format.rs`. Both sides run the same executable, so both choose the same encoding.

use std::any::Any;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::decoder::{Decoder, Undecodable};
use super::encoder::{Encoder, Unencodable};
use super::output::{Output, Short};
use crate::arena::handle;
use crate::arena::objects::Id;
use crate::{Error, Result};

/// A type whose values can be sent to another process: serde can encode and decode them, and they borrow
/// nothing. Do not implement it yourself: derive `Serialize` and `Deserialize`.
///
/// | can be sent | as |
/// |---|---|
/// | numbers, `bool`, `char`, `()`, `String`, `PathBuf`, `Duration`, `SystemTime`, IP addresses | itself |
/// | `Vec`, `Box`, `Option`, `Result`, arrays up to 32, tuples up to 16, the maps and sets of `std` | its parts, if they can be sent |
/// | your structs and enums | derive `serde::Serialize` and `serde::Deserialize` |
/// | [`Lock`](crate::Lock), [`Queue`](crate::Queue), [`Dict`](crate::Dict), [`Process`](crate::Process) and the other handles of this library | the same object, not a copy of it |
/// | [`Error`](crate::Error) and every error of this library | itself |
///
/// | cannot be sent | send instead |
/// |---|---|
/// | `&str`, `&'static str`, `&[T]`, `&Path` | `String`, `Vec<T>`, `PathBuf`: `text.to_string()` |
/// | a struct with a lifetime, `Cow<'static, str>` | a struct that owns its parts; `String` |
/// | `std::io::Error` | [`Error`](crate::Error), by `?` in a function that returns [`procession::Result`](crate::Result) |
/// | `anyhow::Error`, `Box<dyn Error>`, other errors | [`Error`](crate::Error), by `.map_err(Error::other)`, which keeps the causes |
/// | `serde_json::Value`, types with `#[serde(untagged)]`, `tag`, `flatten` or `skip_serializing_if` | its text: `value.to_string()` |
/// | `Arc<T>`, `Rc<T>` | `T`; a handle such as [`Value`](crate::Value) or [`Dict`](crate::Dict) where all processes must see changes |
/// | `std::sync::Mutex`, `mpsc` channels | [`Mutex`](crate::Mutex), [`Queue`](crate::Queue), [`pipe`](crate::pipe()) |
/// | a closure that captures, `Box<dyn Fn>`, a pointer to a function | the function itself, and what it needs as arguments |
/// | `File`, `TcpStream`, `Child` | the path or address, to be opened there; [`Stdio`](crate::process::Stdio) for standard streams |
/// | `Instant` | `Duration`, or `SystemTime` |
///
/// The encoding does not describe itself: a reader must know the type. The compiler refuses most types that cannot be sent: see [When it does not
/// compile](crate::when_it_does_not_compile). The types in the row of `serde_json::Value` compile, but
/// sending such a value returns an error. Debug builds decode each argument and message before it is sent,
/// and report a failure to the sender. A process also decodes its own result. In release builds it does so
/// only if the result has at most 4 KiB.
///
/// ```
/// use procession::{Process, Message};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Order {
///     goods: String,
///     count: u32,
/// }
///
/// fn through_another_process<T: Message>(value: T) -> procession::Result<T> {
///     Ok(Process::spawn(|value: T| value, (value,))?.join()?)
/// }
///
/// assert_eq!(through_another_process(Order { goods: "apples".into(), count: 3 })?.count, 3);
/// # Ok::<(), procession::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "a part of this type is not owned data that serde can take apart and put together",
    note = "what crosses is owned and `serde::Serialize + serde::Deserialize`: `String`, not `&str`; derive both for your own types",
    note = "an error crosses as `procession::Error`: return `procession::Result<T>`, where `?` converts `std::io::Error`, and `.map_err(procession::Error::other)?` any other error",
    note = "a function that never returns says so: `|| -> () {{ loop {{ .. }} }}`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

// Without the attribute, the compiler's message names a part of the type and a trait of serde, but does not
// say what to do.
#[diagnostic::do_not_recommend]
impl<T: Serialize + for<'a> BorrowsNothing<'a> + 'static> Message for T {}

/// A type that can be decoded from bytes of any lifetime, so it does not borrow from these bytes. The trait
/// exists for its name, which the compiler prints if a [`Message`] borrows.
#[doc(hidden)]
pub trait BorrowsNothing<'a>: Deserialize<'a> {}

impl<'a, T: Deserialize<'a>> BorrowsNothing<'a> for T {}

/// Calls a macro with all numeric types.
macro_rules! for_each_number {
    ($with:ident) => {
        $with! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64 }
    };
}

/// Calls `use_it` with the value's encoding and the ids of the handles in it.
#[inline]
pub(crate) fn with_bytes<T: Message, R>(value: &T, use_it: impl FnOnce(&[u8], &[Id]) -> R) -> Result<R> {
    with_bytes_or(value, |error| error, |bytes, ids| Ok(use_it(bytes, ids)))
}

/// As [`with_bytes`], but with the error type of `wrong` and `use_it`. This avoids moving a result from one
/// `Result` type to another.
#[inline]
pub(crate) fn with_bytes_or<T: Message, R, E>(
    value: &T,
    wrong: impl FnOnce(Error) -> E,
    use_it: impl FnOnce(&[u8], &[Id]) -> Result<R, E>,
) -> Result<R, E> {
    let any: &dyn Any = value;
    macro_rules! copied {
        ($($number:ty)*) => {
            $(if let Some(number) = any.downcast_ref::<$number>() {
                return use_it(&number.to_le_bytes(), &[]);
            }
            if let Some(numbers) = any.downcast_ref::<Vec<$number>>() {
                return use_it(bytes_of(numbers), &[]);
            }
            if let Some((numbers,)) = any.downcast_ref::<(Vec<$number>,)>() {
                return use_it(bytes_of(numbers), &[]);
            })*
        };
    }
    for_each_number!(copied);
    if let Some(text) = any.downcast_ref::<String>() {
        return use_it(text.as_bytes(), &[]);
    }
    encode(value, wrong, use_it)
}

#[inline]
fn encode<T: Message, R, E>(
    value: &T,
    wrong: impl FnOnce(Error) -> E,
    use_it: impl FnOnce(&[u8], &[Id]) -> Result<R, E>,
) -> Result<R, E> {
    let mut short = Short::new();
    let (mut output, cursor) = Output::new(&mut short);
    let mut encoder = Encoder { output: &mut output, cursor };
    let (encoded, ids) = handle::collect_ids(|| value.serialize(&mut encoder));
    let cursor = encoder.cursor;
    if let Err(error) = encoded {
        return Err(wrong(unsendable::<T>(&error)));
    }
    match output.bytes(cursor) {
        Some(bytes) => use_it(bytes, &ids),
        None => Err(wrong(unsendable::<T>(&Unencodable::unfinished()))),
    }
}

/// The advice in the error for a value that cannot be sent.
const ADVICE: &str = "`serde_json::Value` and the serde attributes `untagged`, `tag`, `flatten` and `skip_serializing_if` do not survive the crossing: use a type without them, or send it as text";

/// Returns the error for a value that cannot be encoded.
#[cold]
pub(crate) fn unsendable<T: ?Sized>(why: &dyn fmt::Display) -> Error {
    Error::Message(format!("a value of type {} cannot be sent: {why}; {ADVICE}", std::any::type_name::<T>()))
}

/// Returns the error for bytes that are not a value of this type.
#[cold]
fn unreadable<T>(why: &dyn fmt::Display) -> Error {
    Error::Message(format!(
        "a value of type {} cannot be read back: {why}; {ADVICE}",
        std::any::type_name::<T>()
    ))
}

/// Returns the error for bytes that cannot be decoded.
#[cold]
pub(crate) fn undecodable<T>(error: &Undecodable) -> Error {
    unreadable::<T>(error)
}

/// Decodes a value.
#[inline]
pub(crate) fn from_bytes<T: Message>(bytes: &[u8]) -> Result<T> {
    from_bytes_or(bytes, |error| error)
}

/// As [`from_bytes`], but with the error type of `wrong`. Moving a value from one `Result` type to another
/// takes longer than decoding a small value.
#[inline]
pub(crate) fn from_bytes_or<T: Message, E>(bytes: &[u8], wrong: impl FnOnce(Error) -> E) -> Result<T, E> {
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    macro_rules! copied {
        ($($number:ty)*) => {
            $(if let Some(place) = any.downcast_mut::<Option<$number>>() {
                *place = bytes.try_into().ok().map(<$number>::from_le_bytes);
                return value.ok_or_else(|| wrong(no_such::<T>(bytes)));
            }
            if let Some(place) = any.downcast_mut::<Option<Vec<$number>>>() {
                *place = numbers_of(bytes);
                return value.ok_or_else(|| wrong(no_such::<T>(bytes)));
            }
            if let Some(place) = any.downcast_mut::<Option<(Vec<$number>,)>>() {
                *place = numbers_of(bytes).map(|numbers| (numbers,));
                return value.ok_or_else(|| wrong(no_such::<T>(bytes)));
            })*
        };
    }
    for_each_number!(copied);
    if let Some(place) = any.downcast_mut::<Option<String>>() {
        *place = std::str::from_utf8(bytes).ok().map(str::to_owned);
        return value.ok_or_else(|| wrong(unreadable::<T>(&"it is not UTF-8")));
    }
    let mut decoder = Decoder { rest: bytes };
    match T::deserialize(&mut decoder) {
        Ok(value) if decoder.rest.is_empty() => Ok(value),
        Ok(_) => Err(wrong(left_over::<T>(decoder.rest.len()))),
        Err(error) => Err(wrong(undecodable::<T>(&error))),
    }
}

/// Returns the size of a number of type `T` in an encoded vector, or `None` if `T` is not a numeric type.
#[inline]
pub(crate) fn size_of_number<T: 'static>() -> Option<usize> {
    macro_rules! compared {
        ($($number:ty)*) => {
            $(if std::any::TypeId::of::<T>() == std::any::TypeId::of::<$number>() {
                return Some(size_of::<$number>());
            })*
        };
    }
    for_each_number!(compared);
    None
}

/// As [`from_bytes`], for bytes in a block that carries handles.
pub(crate) fn decode_carried<T: Message>(bytes: &[u8]) -> Result<T> {
    handle::decoding(|| from_bytes(bytes))
}

#[cold]
fn no_such<T>(bytes: &[u8]) -> Error {
    unreadable::<T>(&format_args!("it cannot have {} bytes", bytes.len()))
}

#[cold]
fn left_over<T>(bytes: usize) -> Error {
    unreadable::<T>(&format_args!("{bytes} of its bytes are left over"))
}

/// In debug builds, returns an error if these bytes cannot be decoded.
pub(crate) fn check_arrival<T: Message>(bytes: &[u8]) -> Result<()> {
    match cfg!(debug_assertions) {
        true => handle::decoding(|| from_bytes::<T>(bytes)).map(drop),
        false => Ok(()),
    }
}

/// A numeric type. On a little-endian machine, its encoding is its bytes in memory.
///
/// # Safety
/// Every pattern of bytes is a valid value, and the type has no padding.
unsafe trait Number: Copy {}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(
            // SAFETY: both conditions hold for every numeric type.
            unsafe impl Number for $number {}
        )*
    };
}
for_each_number!(numbers);

fn bytes_of<N: Number>(numbers: &[N]) -> &[u8] {
    // SAFETY: these are exactly the bytes of the slice, and numbers have no padding.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

fn numbers_of<N: Number>(bytes: &[u8]) -> Option<Vec<N>> {
    let len = bytes.len() / size_of::<N>();
    if bytes.len() != len * size_of::<N>() {
        return None;
    }
    let mut numbers = Vec::<N>::with_capacity(len);
    // SAFETY: there is room for `len` numbers, and any bytes are valid numbers.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), numbers.as_mut_ptr().cast::<u8>(), bytes.len());
        numbers.set_len(len);
    }
    Some(numbers)
}
