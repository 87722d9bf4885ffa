//! The codec: values as bytes, and bytes as values.
//!
//! A value is sent in postcard's serde format. A handle in a value is encoded as a number. In the block, the
//! ids of all handles follow the value's bytes, so recovery and the collector find the ids without decoding
//! the value.
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
