//! The ticket sale.
//!
//! ```text
//!  sale ── spawns ──▶ buyer, buyer, buyer ... ── read, decide, write aside, rename ──▶ db
//!   │                    │ where it is, one byte                                        │
//!   │                    ▼                                                              │
//!   │     observer ◀── board                                                            │
//!   │        └─ kills buyers, and says where they were                                  │
//!   └── what the buyers said ──▶ books ◀── what the file says ──────────────────────────┘
//!                                  └──▶ report
//! ```
//!
//! The file is the record that survives kills, because the count and the sold tickets change in one rename.
//! The buyers' reports reach main on another path, so the two can be compared.

mod board;
mod books;
mod buyer;
mod claim;
mod db;
mod ledger;
mod observer;
mod plan;
mod report;
mod sale;

pub use sale::run;
