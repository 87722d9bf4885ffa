//! The behavior of each public operation, by subject. The folders mirror `src`.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
#[path = "../family/mod.rs"]
mod family;

mod compile_errors;
mod damage;
mod errors;
mod events;
mod examples;
mod full_memory;
mod handles;
mod large_values;
mod lifetimes;
mod manager;
mod names;
mod out_of_time;
mod pool;
mod process;
mod profiles;
mod queue;
mod scale;
mod state;
mod structure;
mod sync;
