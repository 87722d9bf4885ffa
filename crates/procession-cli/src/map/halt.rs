//! [`Halt`]: when a run ends before its input does.

use std::str::FromStr;

use super::quantity::percent;

/// `now|soon,fail|success|done=N|P%`, or `never`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Halt {
    /// Running commands are ended, too.
    pub now: bool,
    what: What,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Fail,
    Success,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Never,
    Count(u64),
    Percent(f64),
}

impl Halt {
    /// Returns whether these counts are a reason to stop. A percentage is of all jobs, so it needs their number.
    pub fn is_due(&self, succeeded: u64, failed: u64, all: Option<u64>) -> bool {
        let counted = match self.what {
            What::Fail => failed,
            What::Success => succeeded,
            What::Done => succeeded + failed,
        };
        match self.limit {
            Limit::Never => false,
            Limit::Count(limit) => counted >= limit,
            Limit::Percent(limit) => {
                counted > 0 && all.is_some_and(|all| counted as f64 * 100.0 >= limit * all as f64)
            }
        }
    }

    /// Returns whether this stop was the aim of the run, so that the run counts as a success.
    pub fn is_success(&self) -> bool {
        self.what == What::Success
    }
}

impl FromStr for Halt {
    type Err = String;

    fn from_str(text: &str) -> Result<Halt, String> {
        let wrong = || "such as now,fail=1, soon,fail=30%, now,success=1 or never".to_owned();
        if text == "never" {
            return Ok(Halt { now: false, what: What::Done, limit: Limit::Never });
        }
        let (when, rest) = text.split_once(',').ok_or_else(wrong)?;
        let (what, limit) = rest.split_once('=').ok_or_else(wrong)?;
        let now = match when {
            "now" => true,
            "soon" => false,
            _ => return Err(wrong()),
        };
        let what = match what {
            "fail" => What::Fail,
            "success" => What::Success,
            "done" => What::Done,
            _ => return Err(wrong()),
        };
        let limit = match limit.strip_suffix('%') {
            Some(number) => Limit::Percent(percent(number).ok_or_else(wrong)?),
            None => Limit::Count(limit.parse().ok().filter(|&count| count > 0).ok_or_else(wrong)?),
        };
        Ok(Halt { now, what, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_a_number_or_a_percentage() {
        let due =
            |text: &str, succeeded, failed| text.parse::<Halt>().unwrap().is_due(succeeded, failed, Some(10));
        assert!(!due("now,fail=2", 9, 1) && due("now,fail=2", 9, 2));
        assert!(!due("soon,success=1", 0, 9) && due("soon,success=1", 1, 9));
        assert!(!due("soon,done=4", 2, 1) && due("soon,done=4", 2, 2));
        assert!(!due("now,fail=50%", 0, 4) && due("now,fail=50%", 1, 5) && !due("now,fail=1%", 9, 0));
        let unknown = "now,done=1%".parse::<Halt>().unwrap().is_due(5, 5, None);
        assert!(!unknown, "the number of jobs is not known");
        assert!(!due("never", 1000, 1000));
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in
            ["", "now", "now,fail", "now,fail=0", "later,fail=1", "now,luck=1", "now,fail=-1%", "now,fail=x"]
        {
            assert!(wrong.parse::<Halt>().is_err(), "{wrong}");
        }
    }
}
