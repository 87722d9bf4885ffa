//! The peers that procession is measured against: bare system calls, made safe to use, and other languages.
//!
//! | file        | what it holds                                        |
//! |-------------|------------------------------------------------------|
//! | `robust.rs` | pthread's mutex for processes, which outlives owners |
//! | `fork.rs`   | a plain fork                                         |
//! | `futex.rs`  | a bare futex                                         |
//! | `boost.rs`  | Boost.Interprocess                                   |
//! | `python.rs` | Python's multiprocessing, its executor, loky         |

pub mod boost;
pub mod fork;
pub mod futex;
pub mod python;
pub mod robust;
