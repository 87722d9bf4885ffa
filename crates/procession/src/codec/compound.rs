//! [`Compound`]: the serializer for the parts of a compound value.

use serde::Serialize;
use serde::ser;

use super::encoder::{Done, Encoder, Unencodable};
use super::output::Cursor;

/// Appends one part after the other. It has a cursor of its own, which the compiler can keep in registers where the
/// parts' code is inlined.
pub(super) struct Compound<'p, 'a> {
    inner: Encoder<'p, 'a>,
    /// The cursor of the encoder that began this value. It is lent until [`end`](Compound::finish).
    outer: &'p mut Cursor,
}

impl<'p, 'a> Compound<'p, 'a> {
    #[inline]
    pub(super) fn begin(encoder: &'p mut Encoder<'_, 'a>) -> Compound<'p, 'a> {
        let cursor = encoder.cursor.lend();
        Compound { inner: Encoder { output: encoder.output, cursor }, outer: &mut encoder.cursor }
    }

    #[inline]
    fn finish(self) {
        *self.outer = self.inner.cursor;
    }
}

/// Implements serde's traits for compound values.
macro_rules! compounds {
    ($($trait:ident: $($method:ident($($key:ident)?))*;)*) => {
        $(
            impl ser::$trait for Compound<'_, '_> {
                type Ok = ();
                type Error = Unencodable;
                $(
                    #[inline]
                    fn $method<T: ?Sized + Serialize>(&mut self, $($key: &'static str,)? value: &T) -> Done {
                        value.serialize(&mut self.inner)
                    }
                )*
                #[inline]
                fn end(self) -> Done {
                    self.finish();
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
