//! Crash tests of `sync`.

mod deadlock_search;
mod lock;
mod lock_pairs;
mod meetings;
mod mutexes;
mod rwlock;
mod unlock;
