//! A second process that races with the victim in the middle of its operation.

use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, describe};
use crate::proc;

/// How far the other process came while the victim was stopped.
enum Met {
    Ended(i32),
    Parked,
}

/// Called in a checker, on its shared copy: `other` runs until it ends or parks. Then the victim counts as dead,
/// `recover` runs, and `other` must end.
pub(crate) fn meet(other: &impl Fn(), recover: &impl Fn(), limit: Duration) -> Result<(), String> {
    let mut rival = Child::spawn(other);
    let met = until_parked(&mut rival, limit)?;
    if let Met::Ended(status) = met {
        verdict(&rival, status)?;
    }
    recover();
    match met {
        Met::Ended(_) => Ok(()),
        Met::Parked => {
            let status =
                rival.wait_within(limit).ok_or("hung: the other process still sleeps after the recovery")?;
            verdict(&rival, status)
        }
    }
}

fn verdict(rival: &Child, status: i32) -> Result<(), String> {
    if status == 0 {
        Ok(())
    } else {
        Err(format!("the other process {}: {}", describe(status), rival.text()))
    }
}

fn until_parked(rival: &mut Child, limit: Duration) -> Result<Met, String> {
    const QUICK: u32 = 20;
    let start = Instant::now();
    for round in 0u32.. {
        if let Some(status) = rival.try_wait() {
            return Ok(Met::Ended(status));
        }
        if round < QUICK {
            thread::yield_now();
        } else if proc::is_parked(rival.pid) {
            return Ok(Met::Parked);
        } else if start.elapsed() > limit {
            break;
        } else {
            thread::sleep(Duration::from_micros(20));
        }
    }
    Err(format!("hung: the other process neither ended nor slept in a futex within {limit:?}"))
}
