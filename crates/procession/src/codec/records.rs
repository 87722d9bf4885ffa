//! [`to_vec`] and [`from_slice`]: the library's own records, such as the text of a panic. They carry no handles.

use serde::{Deserialize, Serialize};

use super::decoder::{Decoder, Undecodable};
use super::encoder::{Encoder, Unencodable};
use super::output::{Output, Short};

/// Returns the encoding of a value.
pub(crate) fn to_vec<T: ?Sized + Serialize>(value: &T) -> Result<Vec<u8>, Unencodable> {
    with_encoded(value, <[u8]>::to_vec)
}

/// Decodes a value. Ignores bytes after it.
pub(crate) fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Undecodable> {
    T::deserialize(&mut Decoder { rest: bytes })
}

/// Calls `use_it` with the encoding of a value.
#[inline]
pub(super) fn with_encoded<T: ?Sized + Serialize, R>(
    value: &T,
    use_it: impl FnOnce(&[u8]) -> R,
) -> Result<R, Unencodable> {
    let mut short = Short::new();
    let (mut output, cursor) = Output::new(&mut short);
    let mut encoder = Encoder { output: &mut output, cursor };
    value.serialize(&mut encoder)?;
    let cursor = encoder.cursor;
    match output.bytes(cursor) {
        Some(bytes) => Ok(use_it(bytes)),
        None => Err(Unencodable::unfinished()),
    }
}
