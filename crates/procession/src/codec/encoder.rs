//! [`Encoder`]: writes postcard's format into private memory, one number at a time.
//!
//! postcard's own serializer writes numbers of variable length byte by byte. For a small message, that takes
//! longer than all other work. The format is specified ([the wire
//! format](https://postcard.jamesmunns.com/wire-format)), and postcard's own deserializer reads it.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::output::{Output, Short};
use super::varint::zigzag;

/// A serializer that appends to an [`Output`].
pub(super) struct Encoder<'a>(pub(super) Output<'a>);

/// The reason why a value cannot be encoded. The type is a pointer, so the result of each step fits into a
/// register.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word")]
pub(super) struct Unencodable(Box<String>);

type Done = Result<(), Unencodable>;

impl<'a> Encoder<'a> {
    #[inline]
    pub(super) fn new(short: &'a mut Short) -> Encoder<'a> {
        Encoder(Output::new(short))
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn append_known_len(&mut self, len: Option<usize>) -> Done {
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

/// Implements the methods that serialize a number. Each of them converts the number to a word and writes the
/// word.
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
    (one $encoder:ident, $word:expr) => { $encoder.0.write_word($word, 1) };
    (four $encoder:ident, $word:expr) => { $encoder.0.write_word($word, 4) };
    (eight $encoder:ident, $word:expr) => { $encoder.0.write_word($word, 8) };
}

impl Serializer for &mut Encoder<'_> {
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
        self.append_huge_varint(value);
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
        self.0.write(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Done {
        self.serialize_bool(false)
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        self.0.write_word(1, 1);
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
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self, Unencodable> {
        self.serialize_tuple_variant(name, index, variant, len)
    }
}

/// Implements the serializers for compound values. They append one value after the other.
macro_rules! compounds {
    ($($trait:ident: $($method:ident($($key:ident)?))*;)*) => {
        $(
            impl ser::$trait for &mut Encoder<'_> {
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
        let mut short = Short::new();
        let mut encoder = Encoder::new(&mut short);
        value.serialize(&mut encoder).expect("encodable");
        encoder.bytes().to_vec()
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
        let mut short = Short::new();
        let mut encoder = Encoder::new(&mut short);
        let why = (1, Shy).serialize(&mut encoder).expect_err("it refuses");
        assert_eq!(why.to_string(), "not today");
        let why = encoder.serialize_seq(None).err().expect("its length is not known");
        assert!(why.to_string().contains("length"), "{why}");
    }
}
