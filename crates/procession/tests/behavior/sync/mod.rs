//! Behavior of `sync`.

mod barrier;
mod barrier_deaths;
mod condvar;
mod deadlocks;
mod event;
mod lock;
mod once;
mod poison;
mod rlock;
mod rwlock;
mod scale;
mod semaphore;
