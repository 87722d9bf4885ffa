//! The internals, opened to the crash tests. A test can join the arena as a process that no supervisor
//! forked, declare a process dead, and count what exists. Not part of the public interface.
//!
//! | file             | what it holds                                                        |
//! |------------------|----------------------------------------------------------------------|
//! | `members.rs`     | joining the family without a supervisor, dying, being recovered      |
//! | `requests.rs`    | a spawner's request, and the child that it starts                    |
//! | `handles.rs`     | handles, their counts, and the collector                             |
//! | `memory.rs`      | blocks and spans                                                     |
//! | `primitives.rs`  | locks and queues: words, ends, blocks                                |
//! | `shared_data.rs` | dicts and lists: parts, counts, blocks                               |
//! | `census.rs`      | a count of everything that exists in the arena                       |
//! | `residue.rs`     | what a recovery must leave empty, and what the indexes must show     |
#![allow(unsafe_code)] // Overwrites free memory, as its next owner may do.

mod census;
mod handles;
mod members;
mod memory;
mod primitives;
mod requests;
mod residue;
mod shared_data;

pub use census::{Census, NOBODY, census, objects};
pub use handles::{
    collect, collect_as_supervisor, collect_if_wanted, exhaust_generations, hold, say_handles,
    say_task_handles,
};
pub use members::*;
pub use memory::{
    block_bytes, free, hand_over, is_owned, keep_no_more, kept_spans, pack, release_kept, reserve, trim,
    unpack, write_over,
};
pub use primitives::*;
pub use requests::*;
pub use residue::{hidden, residue};
pub use shared_data::{
    faults_of_dict, faults_of_list, is_full_part_of_dict, is_locked_part_of_dict, part_of_dict,
};

pub use crate::arena::handle::HasHandle;
pub use crate::os::faults::{Call, Role, Switch};
pub use crate::queue::ring::{End, Occupied};
pub use crate::rules::{Rule, break_rule};
pub use crate::sync::raw::{event, word};

/// Returns the arena of the tests' family.
fn arena() -> &'static crate::arena::Arena {
    crate::arena::member::arena().expect("the tests have an arena")
}
