//! [`Lookup`]: the types by which a key can be looked up.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::store::Encoded;
use crate::codec::encoding::{self, Message};
use crate::{Result, codec};

/// A type by which a key of type `K` can be looked up: `K` itself, `str` for a `String`, `Path` for a `PathBuf`, `[T]`
/// for a `Vec<T>`.
///
/// A dict compares the encodings of keys, so both types must have the same encoding. (`Borrow` would not
/// ensure this: `[u8; 4]` and `[u8]` are encoded differently.)
///
/// ```
/// use procession::Dict;
///
/// let dict = Dict::<String, u32>::new()?;
/// dict.insert("apples", 3)?;
/// assert_eq!(dict.get(&"apples".to_string())?, Some(3));
/// # Ok::<(), procession::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a key of type `{K}` cannot be looked up by `{Self}`",
    note = "keys are passed by reference: `&key`; a `String` also as `\"text\"`"
)]
pub trait Lookup<K>: Serialize {
    /// Calls `use_it` with the encoding of the key as a `K`.
    #[doc(hidden)]
    fn with_key<R>(&self, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R>
    where
        K: Message,
    {
        let bytes = codec::to_vec(self).map_err(|e| encoding::unsendable::<Self>(&e))?;
        let key: K = codec::from_slice(&bytes).map_err(|e| encoding::undecodable::<K>(&e))?;
        encoding::with_bytes(&key, |bytes, ids| use_it(Encoded { bytes, ids }))
    }
}

impl<K: Message> Lookup<K> for K {
    #[inline]
    fn with_key<R>(&self, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        encoding::with_bytes(self, |bytes, ids| use_it(Encoded { bytes, ids }))
    }
}

impl Lookup<String> for str {
    #[inline]
    fn with_key<R>(&self, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        // A string is encoded as its bytes (`encoding.rs`).
        Ok(use_it(Encoded { bytes: self.as_bytes(), ids: &[] }))
    }
}

impl Lookup<PathBuf> for Path {}

impl<T: Serialize> Lookup<Vec<T>> for [T] {}
