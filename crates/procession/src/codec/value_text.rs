//! A value as text, similar to its `Debug` output. The text is made from what the value passes to serde, so
//! this works for every value that can be sent.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Serialize, Serializer};

use crate::arena::handle;

/// The length of the longest text, in bytes.
const LONGEST: usize = 1 << 10;

/// Returns a value as text: `Order { goods: "apples", count: 3 }`. A long text is cut off. If the value's
/// `Serialize` fails, the text ends at the point of the failure.
pub(crate) fn as_text<T: Serialize>(value: &T) -> String {
    let mut text = Text(String::new());
    let (whole, _) = handle::collect_ids(|| value.serialize(&mut text));
    if whole.is_err() {
        text.0.push('…');
    }
    text.0
}

struct Text(String);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(LONGEST - self.0.len());
        self.0.push_str(&text[..room]);
        if room == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The text ends here, because there is no room or because `Serialize` failed.
#[derive(Debug)]
struct Cut;

impl Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut off")
    }
}

impl std::error::Error for Cut {}

impl ser::Error for Cut {
    fn custom<T: Display>(_: T) -> Cut {
        Cut
    }
}

impl From<fmt::Error> for Cut {
    fn from(_: fmt::Error) -> Cut {
        Cut
    }
}

type Written = Result<(), Cut>;

/// The items between an opening and a closing bracket.
struct Group<'a> {
    text: &'a mut Text,
    separator: &'static str,
    close: &'static str,
}

impl Text {
    fn open<'a>(&'a mut self, name: &str, open: &str, close: &'static str) -> Result<Group<'a>, Cut> {
        write!(self, "{name}{open}")?;
        Ok(Group { text: self, separator: "", close })
    }
}

impl Group<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, name: Option<&str>, value: &T) -> Written {
        self.text.write_str(std::mem::replace(&mut self.separator, ", "))?;
        if let Some(name) = name {
            write!(self.text, "{name}: ")?;
        }
        value.serialize(&mut *self.text)
    }

    fn close(self) -> Written {
        Ok(self.text.write_str(self.close)?)
    }
}

macro_rules! scalars {
    ($($method:ident $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Written {
            Ok(write!(self, "{value:?}")?)
        })*
    };
}

impl<'a> Serializer for &'a mut Text {
    type Ok = ();
    type Error = Cut;
    type SerializeSeq = Group<'a>;
    type SerializeTuple = Group<'a>;
    type SerializeTupleStruct = Group<'a>;
    type SerializeTupleVariant = Group<'a>;
    type SerializeMap = Group<'a>;
    type SerializeStruct = Group<'a>;
    type SerializeStructVariant = Group<'a>;

    scalars! {
        serialize_bool bool, serialize_char char, serialize_str &str,
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64,
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        Ok(write!(self, "b\"{}\"", bytes.escape_ascii())?)
    }

    fn serialize_none(self) -> Written {
        Ok(self.write_str("None")?)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        self.serialize_newtype_struct("Some", value)
    }

    fn serialize_unit(self) -> Written {
        Ok(self.write_str("()")?)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Written {
        Ok(self.write_str(name)?)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Written {
        Ok(self.write_str(name)?)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Written {
        let mut group = self.open(name, "(", ")")?;
        group.item(None, value)?;
        group.close()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Written {
        self.serialize_newtype_struct(name, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Group<'a>, Cut> {
        self.open("", "[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Group<'a>, Cut> {
        self.open("", "(", ")")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Group<'a>, Cut> {
        self.open(name, "(", ")")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Group<'a>, Cut> {
        self.open(name, "(", ")")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Group<'a>, Cut> {
        self.open("", "{", "}")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Group<'a>, Cut> {
        self.open(name, " { ", " }")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Group<'a>, Cut> {
        self.open(name, " { ", " }")
    }
}

macro_rules! groups {
    ($($kind:ident $method:ident($($name:ident: $type:ty)?),)*) => {
        $(impl ser::$kind for Group<'_> {
            type Ok = ();
            type Error = Cut;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Written {
                self.item(None$(.or(Some($name)))?, value)
            }

            fn end(self) -> Written {
                self.close()
            }
        })*
    };
}

groups! {
    SerializeSeq serialize_element(),
    SerializeTuple serialize_element(),
    SerializeTupleStruct serialize_field(),
    SerializeTupleVariant serialize_field(),
    SerializeStruct serialize_field(name: &'static str),
    SerializeStructVariant serialize_field(name: &'static str),
}

impl ser::SerializeMap for Group<'_> {
    type Ok = ();
    type Error = Cut;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.item(None, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.text.write_str(": ")?;
        value.serialize(&mut *self.text)
    }

    fn end(self) -> Written {
        self.close()
    }
}
