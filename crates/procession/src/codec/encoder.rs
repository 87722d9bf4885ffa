//! [`Encoder`]: the serde serializer that writes the format.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::compound::Compound;
use super::format::{LONG, SOME};
use super::output::{Cursor, Output};

/// A serializer that appends to an [`Output`].
pub(super) struct Encoder<'o, 'a> {
    pub(super) output: &'o mut Output<'a>,
    pub(super) cursor: Cursor,
}

/// The reason why a value cannot be encoded. The type is a pointer, so the result of each step fits into a
/// register.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word")]
pub(crate) struct Unencodable(Box<String>);

impl Unencodable {
    #[cold]
    pub(super) fn unfinished() -> Unencodable {
        ser::Error::custom("its `Serialize` does not call `end` on a compound value")
    }
}

pub(super) type Done = Result<(), Unencodable>;

impl Encoder<'_, '_> {
    #[inline(always)]
    fn append<const N: usize>(&mut self, bytes: [u8; N]) -> Done {
        self.output.write_few(&mut self.cursor, bytes);
        Ok(())
    }

    /// Appends the length of a value, or the number of a variant.
    #[inline]
    fn append_len(&mut self, len: usize) {
        if len < LONG.into() {
            self.output.write_few(&mut self.cursor, [len as u8]);
        } else {
            self.output.write_few(&mut self.cursor, [LONG]);
            self.output.write_few(&mut self.cursor, (len as u64).to_le_bytes());
        }
    }

    #[inline]
    fn known_len(&mut self, len: Option<usize>) -> Done {
        let unknown =
            || ser::Error::custom("the length of a sequence or map must be known before its first item");
        self.append_len(len.ok_or_else(unknown)?);
        Ok(())
    }
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

/// Implements the methods that serialize a number of fixed size.
macro_rules! numbers {
    ($($name:ident($type:ty))*) => {
        $(
            #[inline]
            fn $name(self, value: $type) -> Done {
                self.append(value.to_le_bytes())
            }
        )*
    };
}

impl<'p, 'a> Serializer for &'p mut Encoder<'_, 'a> {
    type Ok = ();
    type Error = Unencodable;
    type SerializeSeq = Compound<'p, 'a>;
    type SerializeTuple = Compound<'p, 'a>;
    type SerializeTupleStruct = Compound<'p, 'a>;
    type SerializeTupleVariant = Compound<'p, 'a>;
    type SerializeMap = Compound<'p, 'a>;
    type SerializeStruct = Compound<'p, 'a>;
    type SerializeStructVariant = Compound<'p, 'a>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_f32(f32) serialize_f64(f64)
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Done {
        self.append([value.into()])
    }

    fn serialize_u128(self, value: u128) -> Done {
        self.serialize_u64(value as u64)?;
        self.serialize_u64((value >> 64) as u64)
    }

    fn serialize_i128(self, value: i128) -> Done {
        self.serialize_u128(value.cast_unsigned())
    }

    #[inline]
    fn serialize_char(self, value: char) -> Done {
        self.serialize_u32(value.into())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Done {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.append_len(value.len());
        self.output.write(&mut self.cursor, value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Done {
        self.serialize_bool(false)
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        self.append([SOME])?;
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
        self.append_len(index as usize);
        Ok(())
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
        self.append_len(index as usize);
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'p, 'a>, Unencodable> {
        self.known_len(len)?;
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Compound<'p, 'a>, Unencodable> {
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Compound<'p, 'a>, Unencodable> {
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Compound<'p, 'a>, Unencodable> {
        self.append_len(index as usize);
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'p, 'a>, Unencodable> {
        self.known_len(len)?;
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Compound<'p, 'a>, Unencodable> {
        Ok(Compound::begin(self))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'p, 'a>, Unencodable> {
        self.serialize_tuple_variant(name, index, variant, len)
    }
}
