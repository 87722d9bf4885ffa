//! [`Parts`] and [`Variant`]: how serde reads the parts of a compound value and of an enum.

use serde::de::value::U32Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::decoder::{Decoder, Undecodable};

/// The parts of a compound value that are left. It has a decoder of its own, which the compiler can keep in registers
/// where the parts' code is inlined.
pub(super) struct Parts<'de> {
    decoder: Decoder<'de>,
    left: usize,
}

impl<'de> Parts<'de> {
    #[inline]
    pub(super) fn new(decoder: Decoder<'de>, left: usize) -> Parts<'de> {
        Parts { decoder, left }
    }

    /// Returns a decoder of the bytes behind the parts that were read.
    #[inline]
    pub(super) fn rest(&self) -> Decoder<'de> {
        self.decoder
    }

    #[inline]
    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Undecodable> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut self.decoder).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Undecodable;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Undecodable> {
        self.next(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'de> {
    type Error = Undecodable;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Undecodable> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Undecodable> {
        seed.deserialize(&mut self.decoder)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant of an enum, with the number before its parts.
pub(super) struct Variant<'d, 'de>(pub(super) &'d mut Decoder<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Undecodable;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Undecodable> {
        // A number that no variant has becomes one that serde refuses, too.
        let number = u32::try_from(self.0.take_len()?).unwrap_or(u32::MAX);
        let variant = seed.deserialize(U32Deserializer::<Undecodable>::new(number))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Undecodable;

    #[inline]
    fn unit_variant(self) -> Result<(), Undecodable> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Undecodable> {
        seed.deserialize(self.0)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Undecodable> {
        self.0.visit_parts(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        self.0.visit_parts(fields.len(), visitor)
    }
}
