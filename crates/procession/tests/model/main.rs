//! Algorithms and containers against a model: loom for the word algorithms, proptest for the dict.

#[path = "../family/mod.rs"]
mod family;

mod dict;
mod event_count;
mod lock_word;
