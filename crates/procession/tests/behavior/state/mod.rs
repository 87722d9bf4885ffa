//! Behavior of `state`.

mod dict;
mod dict_attacks;
mod dict_memory;
mod dict_readers;
mod list;
mod shared_data;
mod values;
