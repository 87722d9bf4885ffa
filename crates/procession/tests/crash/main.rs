//! Every operation that writes shared memory, killed after each single instruction.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
#[path = "../family/mod.rs"]
mod family;
#[path = "../support/shop.rs"]
mod shop;

mod arena;
mod pool;
mod queue;
mod state;
mod supervisor;
mod sync;
