//! Behavior of `pool`.

mod completion;
mod deaths;
mod inputs;
mod maps;
mod progress;
mod shutdown;
mod suspended_tasks;
mod tasks;
mod time_limits;
mod workers;
