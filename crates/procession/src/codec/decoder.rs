//! [`Decoder`]: the serde deserializer that reads the format.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};

use super::format::{LONG, SOME};
use super::parts::{Parts, Variant};

/// A deserializer over the bytes that are left.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'de> {
    pub(super) rest: &'de [u8],
}

/// The reason why bytes are not a value. The type is a pointer, so the result of each step stays small.
#[derive(Debug)]
pub(crate) struct Undecodable(Box<Cause>);

#[derive(Debug)]
enum Cause {
    /// The type asks what comes next.
    NotDescribed,
    EndsEarly,
    /// The bytes contain something that no encoder writes.
    Wrong(&'static str),
    /// The type's own error.
    Refused(String),
}

impl Undecodable {
    #[cold]
    fn ends_early() -> Undecodable {
        Undecodable(Box::new(Cause::EndsEarly))
    }

    #[cold]
    fn wrong(what: &'static str) -> Undecodable {
        Undecodable(Box::new(Cause::Wrong(what)))
    }

    #[cold]
    fn not_described() -> Undecodable {
        Undecodable(Box::new(Cause::NotDescribed))
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Cause::NotDescribed => {
                f.write_str("its `Deserialize` asks what type comes next, and the encoding does not say that")
            }
            Cause::EndsEarly => f.write_str("its bytes end too early"),
            Cause::Wrong(what) => f.write_str(what),
            Cause::Refused(why) => write!(f, "its `Deserialize` returns an error: {why}"),
        }
    }
}

impl std::error::Error for Undecodable {}

impl de::Error for Undecodable {
    #[cold]
    fn custom<T: fmt::Display>(why: T) -> Undecodable {
        Undecodable(Box::new(Cause::Refused(why.to_string())))
    }
}

impl<'de> Decoder<'de> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(Undecodable::ends_early)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn take_slice(&mut self) -> Result<&'de [u8], Undecodable> {
        let len = self.take_len()?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(Undecodable::ends_early)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the length of a value, or the number of a variant.
    #[inline]
    pub(super) fn take_len(&mut self) -> Result<usize, Undecodable> {
        match self.take()? {
            [LONG] => Ok(u64::from_le_bytes(self.take()?) as usize),
            [len] => Ok(len.into()),
        }
    }

    #[inline]
    pub(super) fn visit_parts<V: Visitor<'de>>(
        &mut self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        let mut parts = Parts::new(*self, len);
        let value = visitor.visit_seq(&mut parts);
        *self = parts.rest();
        value
    }
}

/// Implements the methods that deserialize a number of fixed size.
macro_rules! numbers {
    ($($name:ident($type:ty) $visit:ident;)*) => {
        $(
            #[inline]
            fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
                visitor.$visit(<$type>::from_le_bytes(self.take()?))
            }
        )*
    };
}

/// Implements methods by another one. The types' names and the parts' names are not needed.
macro_rules! as_another {
    ($($name:ident($($ignored:ty),*) $other:ident;)*) => {
        $(
            #[inline]
            fn $name<V: Visitor<'de>>(self, $(_: $ignored,)* visitor: V) -> Result<V::Value, Undecodable> {
                self.$other(visitor)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Undecodable;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u8(u8) visit_u8;
        deserialize_u16(u16) visit_u16;
        deserialize_u32(u32) visit_u32;
        deserialize_u64(u64) visit_u64;
        deserialize_u128(u128) visit_u128;
        deserialize_i8(i8) visit_i8;
        deserialize_i16(i16) visit_i16;
        deserialize_i32(i32) visit_i32;
        deserialize_i64(i64) visit_i64;
        deserialize_i128(i128) visit_i128;
        deserialize_f32(f32) visit_f32;
        deserialize_f64(f64) visit_f64;
    }

    as_another! {
        deserialize_string() deserialize_str;
        deserialize_byte_buf() deserialize_bytes;
        deserialize_unit_struct(&'static str) deserialize_unit;
        deserialize_identifier() deserialize_any;
        deserialize_ignored_any() deserialize_any;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Undecodable> {
        Err(Undecodable::not_described())
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match self.take()? {
            [byte @ (0 | 1)] => visitor.visit_bool(byte == 1),
            _ => Err(Undecodable::wrong("a `bool` in it is neither 0 nor 1")),
        }
    }

    #[inline]
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match char::from_u32(u32::from_le_bytes(self.take()?)) {
            Some(value) => visitor.visit_char(value),
            None => Err(Undecodable::wrong("the number of a `char` in it is not one")),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match std::str::from_utf8(self.take_slice()?) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => Err(Undecodable::wrong("a text in it is not UTF-8")),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        visitor.visit_borrowed_bytes(self.take_slice()?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match self.take()? {
            [0] => visitor.visit_none(),
            [SOME] => visitor.visit_some(self),
            _ => Err(Undecodable::wrong("the first byte of an `Option` in it is neither 0 nor 1")),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        let len = self.take_len()?;
        self.visit_parts(len, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Undecodable> {
        self.visit_parts(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        self.visit_parts(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        self.visit_parts(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        let len = self.take_len()?;
        let mut parts = Parts::new(*self, len);
        let value = visitor.visit_map(&mut parts);
        *self = parts.rest();
        value
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        visitor.visit_enum(Variant(self))
    }
}
