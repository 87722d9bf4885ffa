//! Behavior of `sync`.

mod barrier;
mod condvar;
mod deadlocks;
mod event;
mod lock;
mod poison;
mod rlock;
mod rwlock;
mod scale;
mod semaphore;
