//! [`Encoder`]: writes postcard's format into memory of this process, a number at a time.
//!
//! postcard's own serializer hands its output over byte by byte where a number has a variable length, and that takes
//! longer than all else that a small message costs. What it writes is specified
//! ([the wire format](https://postcard.jamesmunns.com/wire-format)); its deserializer reads it.
#![allow(unsafe_code)] // Writes words at any place of a buffer, and leaves the rest of it as it was.

use std::cell::Cell;
use std::fmt;
use std::mem::MaybeUninit;

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::bytes::copy_few;

thread_local! {
    /// Where longer values are encoded. Taken while in use: encoding one may send another.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A larger scratch is not kept.
const SCRATCH_MAX: usize = 64 << 10;
/// A value that is no longer is encoded on the stack.
const SHORT: usize = 128;
const WORD: usize = size_of::<u64>();

/// What has been encoded: in `short` as long as there is room, then all of it in `long`.
pub(super) struct Encoder {
    /// A word more, so that one can be written whole wherever it begins.
    short: [MaybeUninit<u64>; SHORT / WORD + 1],
    /// Of `short` in bytes, all of which were written; or more than it has.
    len: usize,
    long: Vec<u8>,
}

/// Why a value cannot be encoded. (A pointer, so that the outcome of each step is one register.)
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word")]
pub(super) struct Unencodable(Box<String>);

type Done = Result<(), Unencodable>;

impl Encoder {
    #[inline]
    pub(super) fn new() -> Encoder {
        Encoder { short: [const { MaybeUninit::uninit() }; SHORT / WORD + 1], len: 0, long: Vec::new() }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        if self.len > SHORT {
            return &self.long;
        }
        // SAFETY: so many bytes were written.
        unsafe { std::slice::from_raw_parts(self.short.as_ptr().cast(), self.len) }
    }

    #[inline]
    pub(super) fn put_scratch_back(&mut self) {
        if self.len > SHORT && self.long.capacity() <= SCRATCH_MAX {
            SCRATCH.set(std::mem::take(&mut self.long));
        }
    }

    /// Where byte `at` of `short` is.
    #[inline]
    fn place(&mut self, at: usize) -> *mut u8 {
        debug_assert!(at <= SHORT);
        // SAFETY: within, as every caller has seen.
        unsafe { self.short.as_mut_ptr().cast::<u8>().add(at) }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        let at = self.len;
        if at > SHORT || bytes.len() > SHORT - at {
            return self.append_long(bytes);
        }
        // SAFETY: there is room for so many.
        unsafe { copy_few(bytes.as_ptr(), self.place(at), bytes.len()) };
        self.len = at + bytes.len();
    }

    /// Appends the first bytes of a word, so many.
    #[inline]
    fn append_word(&mut self, word: u64, bytes: usize) {
        let (word, at) = (word.to_le_bytes(), self.len);
        if at + bytes > SHORT {
            return self.append_long(&word[..bytes]);
        }
        // SAFETY: there is room for a whole word wherever there is for its first byte.
        unsafe { self.place(at).cast::<[u8; WORD]>().write(word) };
        // (Not read again: the compiler does not know that the word lies elsewhere.)
        self.len = at + bytes;
    }

    #[cold]
    fn append_long(&mut self, bytes: &[u8]) {
        if self.len <= SHORT {
            let mut long = SCRATCH.take();
            long.clear();
            long.extend_from_slice(self.bytes());
            (self.long, self.len) = (long, SHORT + 1);
        }
        self.long.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the lowest first; each but the last has its highest bit set.
    #[inline]
    fn append_varint(&mut self, value: u64) {
        if value < 1 << 7 {
            return self.append_word(value, 1);
        }
        if value >= 1 << 56 {
            return self.append_long_varint(value.into());
        }
        let bytes = (70 - value.leading_zeros() as usize) / 7;
        let apart = spread_sevens(value);
        let follow = 0x8080_8080_8080_8080 & ((1 << (8 * (bytes - 1))) - 1);
        self.append_word(apart | follow, bytes);
    }

    #[cold]
    fn append_long_varint(&mut self, mut value: u128) {
        while value >= 1 << 7 {
            self.append_word(value as u64 & 0x7f | 0x80, 1);
            value >>= 7;
        }
        self.append_word(value as u64, 1);
    }

    #[inline]
    fn append_len(&mut self, len: usize) {
        self.append_varint(len as u64);
    }

    fn append_known_len(&mut self, len: Option<usize>) -> Done {
        let unknown =
            || ser::Error::custom("the length of a sequence or map must be known before its first item");
        self.append_len(len.ok_or_else(unknown)?);
        Ok(())
    }
}

/// Each seven of the lowest 56 bits into a byte of their own: halves apart, then quarters, then eighths.
#[inline]
fn spread_sevens(bits: u64) -> u64 {
    let apart = |bits: u64, low: u64, by: u32| bits & low | (bits & !low) << by;
    let bits = apart(bits, 0x0fff_ffff, 4);
    let bits = apart(bits, 0x0000_3fff_0000_3fff, 2);
    apart(bits, 0x007f_007f_007f_007f, 1)
}

/// Small numbers of either sign become small ones.
#[inline]
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unencodable {}

impl ser::Error for Unencodable {
    #[cold]
    fn custom<T: fmt::Display>(why: T) -> Unencodable {
        Unencodable(Box::new(why.to_string()))
    }
}

/// Serializes numbers of these types, each made a word.
macro_rules! words {
    ($($name:ident($type:ty, $value:ident) $how:ident $word:expr;)*) => {
        $(
            #[inline]
            fn $name(self, $value: $type) -> Done {
                words!($how self, $word);
                Ok(())
            }
        )*
    };
    (varint $encoder:ident, $word:expr) => { $encoder.append_varint($word) };
    (one $encoder:ident, $word:expr) => { $encoder.append_word($word, 1) };
    (four $encoder:ident, $word:expr) => { $encoder.append_word($word, 4) };
    (eight $encoder:ident, $word:expr) => { $encoder.append_word($word, 8) };
}

impl Serializer for &mut Encoder {
    type Ok = ();
    type Error = Unencodable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    words! {
        serialize_bool(bool, value) one u64::from(value);
        serialize_u8(u8, value) one u64::from(value);
        serialize_u16(u16, value) varint u64::from(value);
        serialize_u32(u32, value) varint u64::from(value);
        serialize_u64(u64, value) varint value;
        serialize_i8(i8, value) one u64::from(value.cast_unsigned());
        serialize_i16(i16, value) varint zigzag(value.into());
        serialize_i32(i32, value) varint zigzag(value.into());
        serialize_i64(i64, value) varint zigzag(value);
        serialize_f32(f32, value) four u64::from(value.to_bits());
        serialize_f64(f64, value) eight value.to_bits();
    }

    fn serialize_u128(self, value: u128) -> Done {
        self.append_long_varint(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Done {
        self.serialize_u128((value << 1 ^ value >> 127).cast_unsigned())
    }

    fn serialize_char(self, value: char) -> Done {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Done {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.append_len(value.len());
        self.append(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Done {
        self.serialize_bool(false)
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        self.append_word(1, 1);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Done {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Done {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _name: &'static str, index: u32, _variant: &'static str) -> Done {
        self.serialize_u32(index)
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _name: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Done {
        self.append_varint(index.into());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Unencodable> {
        self.append_known_len(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Self, Unencodable> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self, Unencodable> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self, Unencodable> {
        self.append_varint(index.into());
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Unencodable> {
        self.append_known_len(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self, Unencodable> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self, Unencodable> {
        self.append_varint(index.into());
        Ok(self)
    }
}

/// What several values together are: one behind the other.
macro_rules! compounds {
    ($($trait:ident: $($method:ident($($key:ident)?))*;)*) => {
        $(
            impl ser::$trait for &mut Encoder {
                type Ok = ();
                type Error = Unencodable;
                $(
                    #[inline]
                    fn $method<T: ?Sized + Serialize>(&mut self, $($key: &'static str,)? value: &T) -> Done {
                        value.serialize(&mut **self)
                    }
                )*
                #[inline]
                fn end(self) -> Done {
                    Ok(())
                }
            }
        )*
    };
}

compounds! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key() serialize_value();
    SerializeStruct: serialize_field(_key);
    SerializeStructVariant: serialize_field(_key);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut encoder = Encoder::new();
        value.serialize(&mut encoder).expect("encodable");
        let bytes = encoder.bytes().to_vec();
        encoder.put_scratch_back();
        bytes
    }

    fn same<T: Serialize>(value: &T) -> std::result::Result<(), TestCaseError> {
        prop_assert_eq!(encoded(value), postcard::to_stdvec(value).expect("encodable"));
        Ok(())
    }

    #[derive(Serialize, Debug, Clone)]
    enum Shape {
        Unit,
        Newtype(Option<u16>),
        Tuple(i8, f32, char),
        Struct { name: String, counts: Vec<u32>, at: (i64, f64) },
    }

    #[derive(Serialize)]
    struct Marker;

    #[derive(Serialize)]
    struct Pair(bool, Marker, ());

    fn shape() -> impl Strategy<Value = Shape> {
        let counts = proptest::collection::vec(any::<u32>(), 0..40);
        prop_oneof![
            Just(Shape::Unit),
            any::<Option<u16>>().prop_map(Shape::Newtype),
            any::<(i8, f32, char)>().prop_map(|(a, b, c)| Shape::Tuple(a, b, c)),
            (any::<String>(), counts, any::<(i64, f64)>()).prop_map(|(name, counts, at)| Shape::Struct {
                name,
                counts,
                at
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_postcard_writes(
            shapes in proptest::collection::vec(shape(), 0..12),
            named in any::<BTreeMap<String, i16>>(),
            numbers in any::<(u8, u64, i32, u128, i128, usize)>(),
            flag in any::<bool>(),
        ) {
            same(&(&shapes, &named, &numbers))?;
            shapes.iter().try_for_each(same)?;
            same(&Pair(flag, Marker, ()))?;
        }

        #[test]
        fn numbers_of_every_length_are_as_in_postcard(shift in 0..64_u32, near in 0..4_u64, after in 0..140_usize) {
            let value = (1_u64 << shift).wrapping_add(near).wrapping_sub(2);
            same(&value)?;
            same(&value.cast_signed())?;
            same(&(vec![7_u8; after], value, 1.5_f64))?;
        }
    }

    #[test]
    fn a_value_says_itself_why_it_cannot_be_encoded() {
        struct Shy;
        impl Serialize for Shy {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(ser::Error::custom("not today"))
            }
        }
        let why = (1, Shy).serialize(&mut Encoder::new()).expect_err("it refuses");
        assert_eq!(why.to_string(), "not today");
        let why = Encoder::new().serialize_seq(None).err().expect("its length is not known");
        assert!(why.to_string().contains("length"), "{why}");
    }
}
