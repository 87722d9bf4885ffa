//! Behavior of `process`.

mod after_death;
mod cgroup_limits;
mod clean_exits;
mod elsewhere;
mod endings;
mod family_end;
mod forks;
mod fresh_processes;
mod group_signals;
mod inheritance;
mod inherited_signals;
mod joining;
mod limits;
mod loss_races;
mod option_deaths;
mod options;
mod orderly_end;
mod panics;
mod preload;
mod private_variable;
mod refused_calls;
mod relatives;
mod spawning;
mod supervisor_loss;
mod values;
