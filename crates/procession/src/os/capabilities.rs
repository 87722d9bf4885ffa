//! The capabilities of a thread, and its bounding set.

use std::io;

use serde::{Deserialize, Serialize};

use super::check;

/// Sets of capabilities, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Capabilities {
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) bounding: u64,
    pub(super) ambient: u64,
}

/// The capability to change one's own sets of capabilities.
pub(super) const CAP_SETPCAP: u64 = 1 << 8;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Version 3 of the interface. It splits each set into two halves.
const HEADER: Header = Header { version: 0x2008_0522, pid: 0 };

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Capabilities {
    pub(super) fn of_this_thread() -> io::Result<Capabilities> {
        let mut halves = [Half::default(); 2];
        let mut header = HEADER;
        // SAFETY: the places have the sizes that this version of the interface requires.
        check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
        let join = |set: fn(&Half) -> u32| u64::from(set(&halves[1])) << 32 | u64::from(set(&halves[0]));
        let (permitted, inheritable) = (join(|half| half.permitted), join(|half| half.inheritable));
        // Only a capability that is permitted and inheritable can be ambient.
        let ambient = members(permitted & inheritable).filter(|&capability| {
            let is_set = libc::PR_CAP_AMBIENT_IS_SET as u64;
            control(libc::PR_CAP_AMBIENT, is_set, capability).is_ok_and(|set| set == 1)
        });
        let ambient = ambient.fold(0, |set, capability| set | 1 << capability);
        Ok(Capabilities {
            effective: join(|half| half.effective),
            permitted,
            inheritable,
            bounding: 0,
            ambient,
        })
    }

    /// Sets the effective, permitted and inheritable capabilities.
    pub(super) fn set(&self) -> io::Result<()> {
        let half = |shift: u32| Half {
            effective: (self.effective >> shift) as u32,
            permitted: (self.permitted >> shift) as u32,
            inheritable: (self.inheritable >> shift) as u32,
        };
        let (mut header, halves) = (HEADER, [half(0), half(32)]);
        // SAFETY: as in `of_this_thread`.
        check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) }).map(drop)
    }

    /// Drops each capability from the thread's bounding set that is not in the bounding set of `self`.
    pub(super) fn bound(&self, now: &Capabilities) -> io::Result<()> {
        for capability in members(now.bounding & !self.bounding) {
            control(libc::PR_CAPBSET_DROP, capability, 0).map_err(cannot("the bounding set"))?;
        }
        Ok(())
    }
}

/// Returns the bounding set of the calling thread.
pub(super) fn bounding_set() -> u64 {
    // The kernel returns an error for the first number that stands for no capability.
    let known = (0..64)
        .map_while(|capability| Some((capability, control(libc::PR_CAPBSET_READ, capability, 0).ok()? == 1)));
    known.fold(0, |set, (capability, has)| set | u64::from(has) << capability)
}

/// Returns whether the bounding set of the calling thread differs from `bounding` in any of the `watched`
/// capabilities.
pub(crate) fn bounding_set_differs(watched: u64, bounding: u64) -> bool {
    members(watched).any(|capability| {
        let has = control(libc::PR_CAPBSET_READ, capability, 0).is_ok_and(|has| has == 1);
        has != (bounding >> capability & 1 == 1)
    })
}

/// Returns the capabilities in which the bounding sets of this process's threads, and of threads that they
/// start, can ever differ. The result is the empty set if all bounding sets are equal now and no thread may
/// drop a capability from its own set. That stays true: a thread gains permitted capabilities only by
/// executing a program, and nothing adds a capability to a bounding set.
pub(crate) fn bounding_set_to_watch() -> u64 {
    let read = |thread: io::Result<std::fs::DirEntry>| match std::fs::read_to_string(
        thread.ok()?.path().join("status"),
    ) {
        Ok(status) => {
            let set = |name: &str| {
                let hex = status.lines().find_map(|line| line.strip_prefix(name))?;
                u64::from_str_radix(hex.trim(), 16).ok()
            };
            Some(Some((set("CapPrm:")?, set("CapBnd:")?)))
        }
        // The thread has ended in the meantime.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Some(None),
        Err(_) => None,
    };
    let threads = std::fs::read_dir("/proc/self/task").ok();
    let sets = threads.and_then(|threads| threads.map(read).collect::<Option<Vec<_>>>());
    let Some(sets) = sets else { return !0 };
    let (mut union, mut intersection, mut can_shrink) = (0, !0, false);
    for (permitted, bounding) in sets.into_iter().flatten() {
        union |= bounding;
        intersection &= bounding;
        can_shrink |= permitted & CAP_SETPCAP != 0;
    }
    if can_shrink || union != intersection { union } else { 0 }
}

/// Calls `prctl`.
pub(super) fn control(option: i32, a: u64, b: u64) -> io::Result<i64> {
    // SAFETY: the options used here take numbers.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0u64, 0u64) })
}

/// Returns the numbers of the capabilities in a set.
pub(super) fn members(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

/// Returns a function that adds to an error what cannot be set.
pub(super) fn cannot(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |e| io::Error::new(e.kind(), format!("{what} cannot be set: {e}"))
}
