//! What is measured against, as far as it is bare system calls: made safe to use.
//!
//! | file        | what it holds                                        |
//! |-------------|------------------------------------------------------|
//! | `robust.rs` | pthread's mutex for processes, which outlives owners |
//! | `fork.rs`   | a plain fork                                         |
//! | `futex.rs`  | a bare futex                                         |

pub mod fork;
pub mod futex;
pub mod robust;
