//! [`Kinship`]: the parent, the process group and the session of a process.

use std::fs;

/// What `/proc/PID/stat` says of a process.
///
/// A number is 0 if the process that it belongs to is outside this PID namespace. System calls return 0 then, too,
/// where callers expect a process id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kinship {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// The time at which the process started, in clock ticks since boot. No other process has the same number and the
    /// same time.
    pub born: u64,
}

/// The positions of fields in `/proc/PID/stat`.
const SESSION: usize = 6;
const BORN: usize = 22;

impl Kinship {
    /// Returns `None` if there is no such process.
    pub fn of(pid: i32) -> Option<Kinship> {
        Kinship::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    pub fn own() -> Option<Kinship> {
        Kinship::of(std::process::id().cast_signed())
    }

    fn parse(pid: i32, stat: &[u8]) -> Option<Kinship> {
        // The name of a program may contain parentheses and spaces.
        let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let text = std::str::from_utf8(&stat[after_name..]).ok()?;
        let mut words = text.split_ascii_whitespace().skip(1);
        let mut number = || words.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        Some(Kinship { pid, parent, group, session, born: words.nth(BORN - SESSION - 1)?.parse().ok()? })
    }

    /// Returns whether no process of this session could continue this process's group after a stop.
    pub fn is_orphaned(&self) -> bool {
        self.is_orphaned_among(Kinship::of)
    }

    fn is_orphaned_among(&self, look_up: impl Fn(i32) -> Option<Kinship>) -> bool {
        let mut parent = look_up(self.parent);
        while let Some(process) = parent {
            if process.group != self.group {
                return process.session != self.session;
            }
            parent = look_up(process.parent);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_a_name() {
        let stat = b"7 (a) S 1) R 5 6 4 0 -1 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24";
        let expected = Kinship { pid: 7, parent: 5, group: 6, session: 4, born: 22 };
        assert_eq!(Kinship::parse(7, stat), Some(expected));
        assert_eq!(Kinship::parse(7, b"7 (a"), None);
    }

    #[test]
    fn a_group_is_orphaned_without_a_parent_in_another_group_of_the_session() {
        let family =
            |[pid, parent, group, session]: [i32; 4]| Kinship { pid, parent, group, session, born: 0 };
        let is_orphaned = |processes: &[[i32; 4]]| {
            let processes: Vec<_> = processes.iter().copied().map(family).collect();
            let look_up = |pid| processes.iter().find(|process| process.pid == pid).copied();
            processes[0].is_orphaned_among(look_up)
        };
        assert!(!is_orphaned(&[[9, 8, 9, 1], [8, 1, 8, 1]]), "a job of a shell");
        assert!(!is_orphaned(&[[9, 8, 8, 1], [8, 7, 8, 1], [7, 1, 7, 1]]), "a part of a job");
        assert!(is_orphaned(&[[9, 8, 9, 9], [8, 1, 8, 1]]), "a session of its own");
        assert!(is_orphaned(&[[9, 1, 8, 8], [1, 0, 1, 1]]), "the parent has ended");
        assert!(!is_orphaned(&[[9, 8, 9, 0], [8, 1, 8, 0]]), "a session that began outside the namespace");
        assert!(is_orphaned(&[[9, 0, 9, 9]]), "a parent outside the namespace");
    }
}
