//! The codec: values as bytes, and bytes as values.
//!
//! A value is sent in serde's postcard format. A handle in it is encoded as a number, and the handles' ids follow the
//! bytes in the block, so recovery and the collector find them without decoding.
//!
//! | file            | what it holds                                                          |
//! |-----------------|------------------------------------------------------------------------|
//! | `encoding.rs`   | [`Message`](encoding::Message), encoding and decoding, shortcuts for plain types |
//! | `encoder.rs`    | the serde serializer that writes the format                            |
//! | `varint.rs`     | numbers of variable length                                             |
//! | `output.rs`     | where encoded bytes gather                                             |
//! | `packing.rs`    | values in blocks                                                       |
//! | `value_text.rs` | a value as readable text, for error messages                           |
#![allow(unsafe_code)] // Copies slices of numbers as the bytes that they are.

mod encoder;
pub(crate) mod encoding;
mod output;
mod packing;
pub(crate) mod value_text;
mod varint;

pub(crate) use packing::{pack, pack_block, unpack};
