//! A value as bytes.
//!
//! Numbers, strings, and vectors of numbers are copied as they are; everything else goes through
//! postcard's format. Both sides run the same executable, so both choose the same way.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encoder::{Encoder, Unencodable};
use super::output::Short;
use crate::arena::handle;
use crate::arena::objects::Id;
use crate::{Error, Result};

/// What can cross to another process: anything that serde can take apart and put together, and
/// that borrows nothing.
///
/// Values cross as [postcard](https://docs.rs/postcard), which is compact and not
/// self-describing: `serde_json::Value`, `#[serde(untagged)]`, `#[serde(flatten)]` and
/// `skip_serializing_if` do not survive the crossing. Debug builds read back what is sent in an argument
/// or a message, and report it to the sender; a process reads its result back, in release builds up to 4 KiB
/// of it.
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
    note = "what crosses is owned and `serde::Serialize + serde::Deserialize`: `String`, not `&str`",
    note = "a function that never returns says so: `|| -> () {{ loop {{ .. }} }}`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Message for T {}

/// Calls a macro with every type of number.
macro_rules! for_each_number {
    ($with:ident) => {
        $with! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64 }
    };
}

/// Calls `use_it` with the value's bytes and the handles in it.
#[inline]
pub(crate) fn with_bytes<T: Message, R>(value: &T, use_it: impl FnOnce(&[u8], &[Id]) -> R) -> Result<R> {
    with_bytes_or(value, |error| error, |bytes, ids| Ok(use_it(bytes, ids)))
}

/// As [`with_bytes`], with the error that `wrong` makes, or the one of `use_it`. (So that neither is moved from one
/// `Result` into another.)
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
    let mut encoder = Encoder::new(&mut short);
    let (encoded, ids) = handle::collecting(|| value.serialize(&mut encoder));
    if let Err(error) = encoded {
        return Err(wrong(unsendable::<T>(&error)));
    }
    use_it(encoder.bytes(), &ids)
}

#[cold]
fn unsendable<T>(error: &Unencodable) -> Error {
    Error::Message(format!("a value of type {} cannot be sent: {error}", std::any::type_name::<T>()))
}

/// Puts a value together again.
#[inline]
pub(crate) fn from_bytes<T: Message>(bytes: &[u8]) -> Result<T> {
    from_bytes_or(bytes, |error| error)
}

/// As [`from_bytes`], with the error that `wrong` makes. (So that a value is not moved from one `Result` into
/// another: that takes longer than to decode a small one.)
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
        return value.ok_or_else(|| wrong(Error::Message("a string arrived that is not UTF-8".into())));
    }
    let mut decoder = postcard::Deserializer::from_bytes(bytes);
    match T::deserialize(&mut decoder) {
        Ok(value) => match decoder.finalize() {
            Ok([]) => Ok(value),
            rest => Err(wrong(left_over::<T>(rest.map_or(0, <[u8]>::len)))),
        },
        Err(error) => Err(wrong(unreadable::<T>(error))),
    }
}

/// How many bytes a `T` takes among others of its type side by side, if it is a number.
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

/// As [`from_bytes`], for bytes out of a block that carries the handles among them.
pub(crate) fn decode_carried<T: Message>(bytes: &[u8]) -> Result<T> {
    handle::emptying(|| from_bytes(bytes))
}

#[cold]
fn no_such<T>(bytes: &[u8]) -> Error {
    Error::Message(format!("{} bytes are no {}", bytes.len(), std::any::type_name::<T>()))
}

#[cold]
fn left_over<T>(bytes: usize) -> Error {
    Error::Message(format!("a value of type {} leaves {bytes} bytes unread", std::any::type_name::<T>()))
}

#[cold]
fn unreadable<T>(error: postcard::Error) -> Error {
    Error::Message(format!("a value of type {} cannot be read back: {error}", std::any::type_name::<T>()))
}

/// In debug builds: whether these bytes would arrive.
pub(crate) fn check_arrival<T: Message>(bytes: &[u8]) -> Result<()> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    handle::emptying(|| from_bytes::<T>(bytes)).map(drop).map_err(|e| {
        Error::Message(format!(
            "it would not arrive ({e}); untagged, flattened and skipped fields do not survive postcard"
        ))
    })
}

/// A type that is nothing but its bytes, on a little-endian machine.
///
/// # Safety
/// Every pattern of bytes is a value, and there is no padding.
unsafe trait Number: Copy {}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(
            // SAFETY: so it is with numbers.
            unsafe impl Number for $number {}
        )*
    };
}
for_each_number!(numbers);

fn bytes_of<N: Number>(numbers: &[N]) -> &[u8] {
    // SAFETY: as many bytes as the slice has; numbers have no padding.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

fn numbers_of<N: Number>(bytes: &[u8]) -> Option<Vec<N>> {
    let len = bytes.len() / size_of::<N>();
    if bytes.len() != len * size_of::<N>() {
        return None;
    }
    let mut numbers = Vec::<N>::with_capacity(len);
    // SAFETY: there is room for `len` numbers, and whatever the bytes are, they are numbers.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), numbers.as_mut_ptr().cast::<u8>(), bytes.len());
        numbers.set_len(len);
    }
    Some(numbers)
}
