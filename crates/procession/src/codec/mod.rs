//! The codec: values as bytes, and bytes as values.
//!
//! A handle in a value is encoded as a number. In the block, the ids of all handles follow the value's bytes, so recovery
//! and the collector find the ids without decoding the value.
//!
//! | file            | what it holds                                                          |
//! |-----------------|------------------------------------------------------------------------|
//! | `format.rs`     | the format, and its tests                                              |
//! | `encoding.rs`   | [`Message`](encoding::Message), encoding and decoding, shortcuts for plain types |
//! | `encoder.rs`, `compound.rs` | the serde serializer that writes the format                |
//! | `decoder.rs`, `parts.rs` | the serde deserializer that reads it                          |
//! | `output.rs`     | where encoded bytes gather                                             |
//! | `packing.rs`    | values in blocks                                                       |
//! | `probe.rs`      | which variant an enum has                                              |
//! | `records.rs`    | the library's own records as bytes                                     |
//! | `value_text.rs` | a value as readable text, for error messages                           |
#![allow(unsafe_code)] // Copies slices of numbers as the bytes that they are.

mod compound;
mod decoder;
mod encoder;
pub(crate) mod encoding;
mod format;
mod output;
mod packing;
mod parts;
mod probe;
mod records;
pub(crate) mod value_text;

pub(crate) use packing::{pack, pack_block, pack_checked, unpack};
pub(crate) use probe::variant_of;
pub(crate) use records::{from_slice, to_vec};
