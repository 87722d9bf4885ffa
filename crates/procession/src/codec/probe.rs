//! [`variant_of`]: the number of an enum's variant, without encoding its parts.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

/// Returns the number of the variant if the value is an enum's variant with one part, such as `Ok` and `Err`.
pub(crate) fn variant_of<T: Serialize>(value: &T) -> Option<u32> {
    value.serialize(Probe).ok()
}

/// A serializer that refuses everything else.
struct Probe;

#[derive(Debug)]
struct Other;

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an enum's variant with one part")
    }
}

impl std::error::Error for Other {}

impl ser::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Other {
        Other
    }
}

/// Implements the methods that refuse what they are given.
macro_rules! refused {
    ($($name:ident($($ignored:ty),*) $result:ty;)*) => {
        $(fn $name(self $(, _: $ignored)*) -> Result<$result, Other> { Err(Other) })*
    };
}

type No = Impossible<u32, Other>;

impl Serializer for Probe {
    type Ok = u32;
    type Error = Other;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<u32, Other> {
        Ok(index)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<u32, Other> {
        Err(Other)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<u32, Other> {
        Err(Other)
    }

    refused! {
        serialize_bool(bool) u32;
        serialize_i8(i8) u32;
        serialize_i16(i16) u32;
        serialize_i32(i32) u32;
        serialize_i64(i64) u32;
        serialize_u8(u8) u32;
        serialize_u16(u16) u32;
        serialize_u32(u32) u32;
        serialize_u64(u64) u32;
        serialize_f32(f32) u32;
        serialize_f64(f64) u32;
        serialize_char(char) u32;
        serialize_str(&str) u32;
        serialize_bytes(&[u8]) u32;
        serialize_none() u32;
        serialize_unit() u32;
        serialize_unit_struct(&'static str) u32;
        serialize_unit_variant(&'static str, u32, &'static str) u32;
        serialize_seq(Option<usize>) No;
        serialize_tuple(usize) No;
        serialize_tuple_struct(&'static str, usize) No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) No;
        serialize_map(Option<usize>) No;
        serialize_struct(&'static str, usize) No;
        serialize_struct_variant(&'static str, u32, &'static str, usize) No;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_variant_with_one_part_has_a_number() {
        assert_eq!(variant_of(&Ok::<i32, String>(3)), Some(0));
        assert_eq!(variant_of(&Err::<i32, String>("no".into())), Some(1));
        assert_eq!(variant_of(&Some(3)), None);
        assert_eq!(variant_of(&(1, 2)), None);
    }
}
