//! All system calls of the library, and nothing else. A port to another system changes only this module.
//!
//! This module knows nothing about arenas, locks or families. Its functions are thin, safe wrappers of Linux
//! system calls. Their documentation says only what the kernel's manual does not say.
//!
//! | file               | what it holds |
//! |--------------------|---|
//! | `attributes.rs`    | limits, processors, nice value and group of the calling process |
//! | `calls.rs`         | what a system call returns, and calls that are repeated |
//! | `capabilities.rs`  | sets of capabilities, and the bounding set |
//! | `cgroup.rs`        | the control groups that limit this process's memory |
//! | `children.rs`      | the children of this process: which have ended or stopped, and reaping them |
//! | `clock.rs`         | the monotonic clock, and deadlines |
//! | `credentials.rs`    | user, groups, capabilities and no_new_privs, read and applied |
//! | `dying.rs`         | whether a process is dead whose memory the kernel still frees |
//! | `ended.rs`         | how a process ended that is not a child of the caller |
//! | `fatal_signals.rs` | handlers that report how the process dies |
//! | `faults.rs`        | system calls that fail on demand, for tests |
//! | `fd.rs`            | descriptors and socket pairs |
//! | `fd_passing.rs`    | sending descriptors to a process without an existing connection |
//! | `futex.rs`         | sleeping on a word of shared memory |
//! | `hidden_parent.rs` | a parent for the launched process, where orphans become children of main |
//! | `image.rs`         | where the executable is loaded, and its constructors |
//! | `launch.rs`        | executing the program again as the supervisor |
//! | `life_word.rs`     | a word that the kernel marks when a thread ends |
//! | `limits.rs`        | what the machine and the user's limits allow |
//! | `lineage.rs`       | a mark that shows which child a process descends from |
//! | `memory.rs`        | the memfd and its mappings |
//! | `oom.rs`           | whether the kernel killed a process because memory ran out |
//! | `process.rs`       | forking, identity, waiting, killing |
//! | `procfs.rs`        | `/proc`: names that need not be text, and ids of another namespace |
//! | `signal.rs`        | signal masks and dispositions |
//! | `threads.rs`       | the threads of this process, and those that the library adds |
#![allow(unsafe_code)] // Calls the kernel.

pub(crate) mod attributes;
mod calls;
pub(crate) mod capabilities;
pub(crate) mod cgroup;
mod children;
pub(crate) mod clock;
pub(crate) mod credentials;
pub(crate) mod dying;
pub(crate) mod ended;
pub(crate) mod fatal_signals;
pub(crate) mod faults;
pub(crate) mod fd;
pub(crate) mod fd_passing;
pub(crate) mod futex;
pub(crate) mod hidden_parent;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod life_word;
pub(crate) mod limits;
pub(crate) mod lineage;
pub(crate) mod memory;
pub(crate) mod oom;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod signal;
pub(crate) mod threads;

pub(crate) use calls::{check, retry, retry_refused};
