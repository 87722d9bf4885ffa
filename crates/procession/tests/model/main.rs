//! Model checks: loom explores the word algorithms, and proptest compares the dict with a `HashMap`.

#[path = "../family/mod.rs"]
mod family;

mod dict;
mod event_count;
mod lock_word;
