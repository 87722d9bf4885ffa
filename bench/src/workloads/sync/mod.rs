//! The rest of the synchronization family.
//!
//! | file       | workloads                                                         |
//! |------------|-------------------------------------------------------------------|
//! | `alone.rs` | taking and releasing what is free; looking; two that read at once |
//! | `turns.rs` | barrier and condition variable: two that wait for each other      |

pub mod alone;
pub mod turns;
