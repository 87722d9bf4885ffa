//! Amounts as people write them: `1m30s`, `10M`, `50%`, `+2`.

use std::str::FromStr;
use std::time::Duration;

/// How many commands run at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jobs {
    Count(u32),
    /// As many as possible.
    Most,
    /// A percentage of the processors.
    Percent(f64),
    /// The number of processors plus this number, which may be negative.
    More(i64),
}

impl Jobs {
    /// No machine runs more commands than this efficiently, and each command needs descriptors and a process.
    pub const LIMIT: u32 = 1000;

    /// Returns the number for a machine with this many processors, at least 1.
    pub fn count(self, processors: u32) -> u32 {
        let wanted = match self {
            Jobs::Count(count) => i64::from(count),
            Jobs::Most => i64::from(Jobs::LIMIT),
            Jobs::Percent(percent) => (f64::from(processors) * percent / 100.0) as i64,
            Jobs::More(more) => i64::from(processors) + more,
        };
        wanted.clamp(1, Jobs::LIMIT.into()) as u32
    }
}

impl FromStr for Jobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Jobs, String> {
        let wrong = || format!("a number from 0 to {}, such as 4, 50%, +2 or -1", Jobs::LIMIT);
        if let Some(number) = text.strip_suffix('%') {
            return percent(number).map(Jobs::Percent).ok_or_else(wrong);
        }
        if let Some(more) = text.strip_prefix('+') {
            return more.parse::<u32>().map(|more| Jobs::More(more.into())).map_err(|_| wrong());
        }
        match text.parse::<i64>() {
            Ok(0) => Ok(Jobs::Most),
            Ok(fewer @ ..0) => Ok(Jobs::More(fewer)),
            Ok(count) if count <= Jobs::LIMIT.into() => Ok(Jobs::Count(count as u32)),
            _ => Err(wrong()),
        }
    }
}

/// The time limit of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeLimit {
    After(Duration),
    /// A percentage of the median of the commands that have succeeded.
    Percent(f64),
}

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeLimit, String> {
        match text.strip_suffix('%') {
            Some(number) => percent(number).map(TimeLimit::Percent).ok_or("a percentage such as 300%".into()),
            None => duration(text).map(TimeLimit::After),
        }
    }
}

/// The highest load average at which a command is started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    Average(f64),
    Percent(f64),
}

impl Load {
    pub fn average(self, processors: u32) -> f64 {
        match self {
            Load::Average(average) => average,
            Load::Percent(percent) => f64::from(processors) * percent / 100.0,
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Load, String> {
        let number = text.strip_suffix('%');
        let load = percent(number.unwrap_or(text)).ok_or("a load such as 2.5 or 100%")?;
        Ok(if number.is_some() { Load::Percent(load) } else { Load::Average(load) })
    }
}

/// Parses a positive percentage.
pub fn percent(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

/// Parses seconds, or numbers with the units d, h, m, s: `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or("a time such as 30, 0.5, 1m30s or 2h")?;
    match seconds {
        0.0 | 0.001..=1e9 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("0, or a time from 0.001 to 1000000000 seconds".into()),
    }
}

fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut all, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        all += number
            * match unit {
                's' => 1.0,
                'm' => 60.0,
                'h' => 3600.0,
                'd' => 86400.0,
                _ => return None,
            };
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(all)
}

/// Parses bytes: a number, with K, M, G, T as powers of 1024 and k, m, g, t as powers of 1000.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size such as 4096, 64K or 1.5G".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let base: f64 = digits.parse().map_err(|_| wrong())?;
    let unit: f64 = match &text[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "K" => 1024.0,
        "M" => 1024f64.powi(2),
        "G" => 1024f64.powi(3),
        "T" => 1024f64.powi(4),
        _ => return Err(wrong()),
    };
    match base * unit {
        bytes @ 1.0..9e18 => Ok(bytes as u64),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_numbers_and_parts_of_the_machine() {
        let count = |text: &str| text.parse::<Jobs>().map(|jobs| jobs.count(8));
        assert_eq!(["3", "50%", "+2", "-3", "-20", "10%"].map(|t| count(t).unwrap()), [3, 4, 10, 5, 1, 1]);
        assert_eq!(count("0").unwrap(), Jobs::LIMIT);
        for wrong in ["", "x", "1001", "0%", "-5%", "+", "NaN%", "1.5"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        let ms = |text: &str| duration(text).unwrap().as_millis();
        assert_eq!(
            ["2", "0.5", "1m", "1m30s", "1.5h", "1d"].map(ms),
            [2000, 500, 60000, 90000, 5400000, 86400000]
        );
        assert_eq!(ms("0"), 0);
        for wrong in ["", "-1", "m", "5x", "NaN", "inf", "1e99", "1m5"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!("300%".parse(), Ok(TimeLimit::Percent(300.0)));
        assert_eq!("1m".parse(), Ok(TimeLimit::After(Duration::from_secs(60))));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(["7", "1K", "1k", "1.5M"].map(|t| size(t).unwrap()), [7, 1024, 1000, 1572864]);
        for wrong in ["", "0", "-1", "K", "1KB", "NaN"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
