//! The format of an encoded value, and its tests.
//!
//! | value | bytes |
//! |---|---|
//! | a number | its bytes, the lowest first |
//! | `bool`; `char` | 0 or 1; its number as a `u32` |
//! | text, bytes | the length, then the bytes |
//! | `Option` | 0; or 1, then the value |
//! | a tuple, an array, a struct | its parts |
//! | a sequence; a map | the length, then the items; then keys and values in turn |
//! | an enum | the number of the variant, then its parts |
//! | a length or the number of a variant | one byte if it is below 255; otherwise the byte 255, then the number as a `u64` |
//!
//! Numbers have a fixed size, so that both sides copy them instead of looking at each byte. The format does not describe
//! itself: a reader must know the type.

/// The first byte of a length that does not fit into one byte.
pub(super) const LONG: u8 = u8::MAX;

/// The first byte of an `Option` that holds a value.
pub(super) const SOME: u8 = 1;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::de::{self, DeserializeOwned, Visitor};
    use serde::ser::{SerializeTuple, Serializer};
    use serde::{Deserialize, Deserializer, Serialize};

    use crate::codec::{from_slice, to_vec};

    #[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
    enum Shape {
        Unit,
        Newtype(Option<u16>),
        Tuple(i8, f32, char),
        Struct { name: String, counts: Vec<u32>, at: (i64, f64) },
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Marker;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Wrapped(u32);

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Pair(bool, Marker, (), Wrapped);

    fn shape() -> impl Strategy<Value = Shape> {
        let counts = proptest::collection::vec(any::<u32>(), 0..40);
        prop_oneof![
            Just(Shape::Unit),
            any::<Option<u16>>().prop_map(Shape::Newtype),
            any::<(i8, i16, char)>().prop_map(|(a, b, c)| Shape::Tuple(a, b.into(), c)),
            (any::<String>(), counts, any::<(i64, i32)>()).prop_map(|(name, counts, (at, near))| {
                Shape::Struct { name, counts, at: (at, near.into()) }
            }),
        ]
    }

    fn returns<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let bytes = to_vec(&value).expect("encodable");
        assert_eq!(from_slice::<T>(&bytes).expect("decodable"), value);
        for len in 0..bytes.len() {
            let error = from_slice::<T>(&bytes[..len]).expect_err("a part is missing");
            assert_eq!(error.to_string(), "its bytes end too early", "{len} bytes of {value:?}");
        }
    }

    proptest! {
        #[test]
        fn values_return_as_they_were(
            shapes in proptest::collection::vec(shape(), 0..12),
            named in any::<BTreeMap<String, i16>>(),
            numbers in any::<(u8, u64, i32, u128, i128, usize)>(),
            floats in any::<(i32, i64)>().prop_map(|(a, b)| (a as f32, b as f64)),
            (flag, wrapped) in any::<(bool, u32)>(),
        ) {
            returns(numbers);
            returns(floats);
            returns(Pair(flag, Marker, (), Wrapped(wrapped)));
            returns((shapes, named));
        }

        /// What the bytes are does not matter: the decoder returns a value or an error.
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_slice::<Vec<Shape>>(&bytes);
            let _ = from_slice::<HashMap<String, Option<Vec<(bool, char)>>>>(&bytes);
            let _ = from_slice::<(Shape, u128, [u16; 7], Box<str>)>(&bytes);
        }
    }

    #[test]
    fn the_bytes_are_as_the_table_says() {
        let bytes = |value: &dyn erased::Value| value.bytes();
        assert_eq!(bytes(&0x0102_u16), [2, 1]);
        assert_eq!(bytes(&-2_i32), [0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(bytes(&(true, 'a')), [1, 97, 0, 0, 0]);
        assert_eq!(bytes(&"ab"), [2, 97, 98]);
        assert_eq!(bytes(&(None::<u8>, Some(7_u8))), [0, 1, 7]);
        assert_eq!(bytes(&[1_u8, 2, 3]), [1, 2, 3]);
        assert_eq!(bytes(&vec![1_u8, 2, 3]), [3, 1, 2, 3]);
        assert_eq!(bytes(&BTreeMap::from([(1_u8, 2_u8)])), [1, 1, 2]);
        assert_eq!(bytes(&Shape::Newtype(None)), [1, 0]);
        let long = bytes(&vec![0_u8; 255]);
        assert_eq!((&long[..9], long.len()), (&[255, 255, 0, 0, 0, 0, 0, 0, 0][..], 264));
    }

    mod erased {
        pub(super) trait Value {
            fn bytes(&self) -> Vec<u8>;
        }
        impl<T: serde::Serialize> Value for T {
            fn bytes(&self) -> Vec<u8> {
                super::to_vec(self).expect("encodable")
            }
        }
    }

    #[test]
    fn wrong_bytes_are_named() {
        let says = |error: String, word: &str| assert!(error.contains(word), "{error}");
        says(from_slice::<bool>(&[2]).unwrap_err().to_string(), "bool");
        says(from_slice::<Option<u8>>(&[3, 1]).unwrap_err().to_string(), "Option");
        says(from_slice::<char>(&[0, 0xd8, 0, 0]).unwrap_err().to_string(), "char");
        says(from_slice::<String>(&[1, 0xff]).unwrap_err().to_string(), "UTF-8");
        says(from_slice::<Shape>(&[200]).unwrap_err().to_string(), "variant");
        says(from_slice::<Shape>(&[255; 9]).unwrap_err().to_string(), "variant");
        says(from_slice::<Vec<u8>>(&[255; 9]).unwrap_err().to_string(), "end too early");
    }

    #[test]
    fn the_errors_of_a_type_are_told() {
        #[derive(Debug)]
        struct Shy;
        impl Serialize for Shy {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not today"))
            }
        }
        impl<'de> Deserialize<'de> for Shy {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Shy, D::Error> {
                Err(de::Error::custom("never"))
            }
        }
        assert_eq!(to_vec(&(1, Shy)).unwrap_err().to_string(), "not today");
        assert!(from_slice::<(u8, Shy)>(&[1]).unwrap_err().to_string().ends_with("error: never"));
        struct Unsized;
        impl Serialize for Unsized {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..3).filter(|n| n % 2 == 0))
            }
        }
        assert!(to_vec(&Unsized).unwrap_err().to_string().contains("length"));
        struct Curious;
        impl<'de> Deserialize<'de> for Curious {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Curious, D::Error> {
                struct Any;
                impl Visitor<'_> for Any {
                    type Value = Curious;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("anything")
                    }
                }
                deserializer.deserialize_any(Any)
            }
        }
        let asked = from_slice::<Curious>(&[1]).err().expect("it asks");
        assert!(asked.to_string().contains("asks what type comes next"), "{asked}");
    }

    /// Forgets the serializer of its parts, which safe code can do.
    struct Forgetful;

    impl Serialize for Forgetful {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut parts = serializer.serialize_tuple(1)?;
            parts.serialize_element(&[7_u64; 30])?;
            std::mem::forget(parts);
            Err(serde::ser::Error::custom("forgot"))
        }
    }

    /// Ignores the error of a part.
    struct Careless<T>(T);

    impl<T: Serialize> Serialize for Careless<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut parts = serializer.serialize_tuple(3)?;
            parts.serialize_element(&1_u8)?;
            let _ = parts.serialize_element(&self.0);
            parts.serialize_element(&[2_u64; 20])?;
            parts.end()
        }
    }

    #[test]
    fn a_value_whose_part_was_left_unfinished_is_refused() {
        let error = to_vec(&Careless(Forgetful)).unwrap_err();
        assert!(error.to_string().contains("does not call `end`"), "{error}");
        let error = to_vec(&(Careless(Careless(Forgetful)), 1)).unwrap_err();
        assert!(error.to_string().contains("does not call `end`"), "{error}");
    }
}
