//! The names of a family: a dict whose id is in the arena's header.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::arena::member;
use crate::arena::objects::Id;
use crate::state::Dict;

/// An object that has a name, and the name of the object's type. If that type is not `X`, the object is not
/// decoded.
pub(super) struct Entry<X> {
    pub(super) type_name: String,
    pub(super) object: Option<X>,
}

impl<X> Entry<X> {
    pub(super) fn new(object: X) -> Entry<X> {
        Entry { type_name: std::any::type_name::<X>().into(), object: Some(object) }
    }
}

/// Returns the names of the family. Creates the dict if there is none yet.
pub(super) fn of_family<X>() -> Result<Dict<String, Entry<X>>> {
    let names = &member::arena()?.header().names;
    loop {
        match names.load(Ordering::SeqCst) {
            0 => {
                let made = Dict::<String, Entry<X>>::new()?;
                made.object().set_name("all names");
                // From here on, only the collector frees the dict.
                made.object().touch();
                // CRASH: before the exchange, the dict is freed with our handle. After the exchange, the
                // header holds the dict.
                let won = names.compare_exchange(0, made.id().0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                // The handle has moved from us to the header: see `arena/collect.rs`.
                made.object().touch();
                if won {
                    return Ok(made);
                }
            }
            id => return Dict::with_id(Id(id)),
        }
    }
}

impl<X: Serialize> Serialize for Entry<X> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut both = serializer.serialize_tuple(2)?;
        both.serialize_element(&self.type_name)?;
        match &self.object {
            Some(object) => both.serialize_element(object)?,
            None => return Err(serde::ser::Error::custom("an object of another type")),
        }
        both.end()
    }
}

impl<'de, X: Deserialize<'de>> Deserialize<'de> for Entry<X> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry<X>, D::Error> {
        deserializer.deserialize_tuple(2, Both(PhantomData))
    }
}

struct Both<X>(PhantomData<X>);

impl<'de, X: Deserialize<'de>> Visitor<'de> for Both<X> {
    type Value = Entry<X>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a type and a handle")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut both: A) -> Result<Entry<X>, A::Error> {
        let short = || A::Error::custom("an entry without a handle");
        let type_name: String = both.next_element()?.ok_or_else(short)?;
        if type_name == std::any::type_name::<X>() {
            let object = both.next_element()?.ok_or_else(short)?;
            return Ok(Entry { type_name, object: Some(object) });
        }
        // Every handle is encoded as two numbers.
        let _: (u64, u64) = both.next_element()?.ok_or_else(short)?;
        Ok(Entry { type_name, object: None })
    }
}
