//! The arena: the shared memory that every process of a family maps.
//!
//! ```text
//! ┌────────┬────────────┬─────────┬─────────┬─────────────┬────────────┬──────────────────┐
//! │ header │ slot pages │ records │ objects │ object bits │ span bits  │ spans of 64 KiB  │
//! └────────┴────────────┴─────────┴─────────┴─────────────┴────────────┴──────────────────┘
//!           one for each  one for  named by  which process  which spans  blocks of any
//!           process       each     handles   holds which    each process size
//!                         thread             object         uses
//! ```
//!
//! | file              | what it holds                                                          |
//! |-------------------|------------------------------------------------------------------------|
//! | `mapping.rs`      | [`Arena`]: the shared memory as this process has it mapped              |
//! | `layout.rs`       | how large each table is and where it starts                            |
//! | `tables.rs`       | the entry of a table that has an index                                 |
//! | `header.rs`       | the first page: what exists once in a family                           |
//! | `slots.rs`        | a page for each process: its state, its request                        |
//! | `spawner_name.rs` | the name of the thread that spawned a process                          |
//! | `awake.rs`        | clocks that stand still while a process or the family is suspended      |
//! | `records.rs`      | a record for each thread: its journal, its wait, its intent            |
//! | `object.rs`       | an object: what a handle names                                         |
//! | `objects.rs`      | the table of objects: creating, releasing and freeing them             |
//! | `kind.rs`         | the kinds of objects; `recover.rs` what recovery asks of each          |
//! | `bits.rs`         | two-level bitmaps                                                      |
//! | `tag.rs`          | the word that names a block's owner                                    |
//! | `span_use.rs`     | the word that says what a span is used for                             |
//! | `blocks.rs`       | blocks of any size; `classes.rs` the sizes of small ones               |
//! | `kept_runs.rs`    | free runs of spans that keep their pages                               |
//! | `heap.rs`         | allocation; `heap_spans.rs` the spans that it takes blocks from        |
//! | `owned_block.rs`  | a block that belongs to this process, freed when dropped               |
//! | `bytes.rs`        | reading and writing bytes that only this process uses                  |
//! | `payload.rs`      | a value's bytes in a block, with the handles among them                |
//! | `storage.rs`      | blocks of plain data that an object keeps until it is freed            |
//! | `usage.rs`        | who holds how much, for the errors that report a full arena            |
//! | `handle.rs`       | counted handles of this process, and how they travel; `tally.rs` counts |
//! | `collect.rs`      | frees shared objects that no process holds; `mark.rs` its marks        |
//! | `sweep.rs`        | frees what a dead process held                                         |
//! | `process_body.rs` | a process as an object: how it ended, how far its start is             |
//! | `member.rs`       | which process of the family this one is                                |
//! | `thread.rs`       | the record of the calling thread, and its journal                      |
//! | `own_records.rs`  | the records of this process's threads                                  |
//!
//! INVARIANT 1: nothing here is an address. Everything is an offset or an index.
//! INVARIANT 2: the word that grants ownership names the owner, so every death can be attributed.
//! INVARIANT 3: counts and hints are never trusted. Counts and hints only say where to look first.
#![allow(unsafe_code)] // References into shared memory are made here, from checked offsets.

pub(crate) mod awake;
pub(crate) mod bits;
pub(crate) mod blocks;
pub(crate) mod bytes;
pub(crate) mod classes;
pub(crate) mod collect;
pub(crate) mod handle;
pub(crate) mod header;
pub(crate) mod heap;
mod heap_spans;
mod kept_runs;
mod kind;
pub(crate) mod layout;
mod mapping;
mod mark;
pub(crate) mod member;
mod object;
pub(crate) mod objects;
mod own_records;
pub(crate) mod owned_block;
pub(crate) mod payload;
pub(crate) mod process_body;
pub(crate) mod records;
pub(crate) mod recover;
pub(crate) mod slots;
mod span_use;
mod spawner_name;
pub(crate) mod storage;
pub(crate) mod sweep;
mod tables;
mod tag;
pub(crate) mod tally;
pub(crate) mod thread;
mod usage;

pub(crate) use mapping::{Arena, LARGEST, MEMFD_NAME};
