//! The credentials of a thread: user, groups, capabilities, and whether the thread can gain more of them.
//!
//! The kernel keeps these for each thread. The functions here make direct system calls, so they read and
//! change only the calling thread. The C library's functions would change all threads of the process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use serde::{Deserialize, Serialize};

use super::capabilities::{self, CAP_SETPCAP, Capabilities, cannot, control, members};
use super::check;

/// The credentials of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The real, effective and saved ids, and the id for file access.
    users: [u32; 4],
    groups: [u32; 4],
    supplementary: Vec<u32>,
    capabilities: Capabilities,
    securebits: u32,
    no_new_privileges: bool,
}

const KEEP_CAPABILITIES: u32 = 1 << 4;
/// In a system call: keep the value.
const SAME: u32 = u32::MAX;

impl Credentials {
    /// Returns the credentials of the calling thread.
    pub(crate) fn of_this_thread() -> io::Result<Credentials> {
        let mut now = Credentials::without_bounding_set()?;
        now.capabilities.bounding = capabilities::bounding_set();
        Ok(now)
    }

    /// Returns the credentials of the calling thread, with an empty bounding set. Reading the bounding set
    /// takes one system call for each capability that the kernel knows.
    pub(crate) fn without_bounding_set() -> io::Result<Credentials> {
        let ids = |call, file_access| -> io::Result<[u32; 4]> {
            let mut ids = [0u32; 4];
            let [real, effective, saved, file] = &mut ids;
            // SAFETY: the first call writes to three valid places. The second call changes nothing, because
            // no user has the id -1.
            unsafe {
                check(libc::syscall(call, real as *mut u32, effective as *mut u32, saved as *mut u32))?;
                *file = libc::syscall(file_access, SAME) as u32;
            }
            Ok(ids)
        };
        Ok(Credentials {
            users: ids(libc::SYS_getresuid, libc::SYS_setfsuid)?,
            groups: ids(libc::SYS_getresgid, libc::SYS_setfsgid)?,
            supplementary: supplementary()?,
            capabilities: Capabilities::of_this_thread()?,
            securebits: control(libc::PR_GET_SECUREBITS, 0, 0)? as u32,
            no_new_privileges: control(libc::PR_GET_NO_NEW_PRIVS, 0, 0)? != 0,
        })
    }

    /// Returns whether the effective user or group differs from the real one, or the group for file access does. The kernel
    /// then takes an executed program for one that gains rights.
    pub(crate) fn is_split(&self) -> bool {
        [self.users, self.groups].iter().any(|ids| ids[0] != ids[1]) || self.groups[0] != self.groups[3]
    }

    /// Returns a hash of these credentials without the bounding set. Equal credentials have the same hash in
    /// every process of the program.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let capabilities = Capabilities { bounding: 0, ..self.capabilities };
        (self.users, self.groups, &self.supplementary, capabilities).hash(&mut hasher);
        (self.securebits, self.no_new_privileges).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the bounding set.
    pub(crate) fn bounding(&self) -> u64 {
        self.capabilities.bounding
    }

    /// Sets the credentials of the calling thread to exactly these, or returns an error that names what
    /// cannot be set. After an error, the thread has some of the old credentials and some of the new ones.
    pub(crate) fn adopt(&self) -> io::Result<()> {
        let now = Credentials::of_this_thread()?;
        if now == *self {
            return Ok(());
        }
        self.adopt_groups(&now)?;
        self.capabilities.bound(&now.capabilities)?;
        self.adopt_users(&now)?;
        self.adopt_capabilities()?;
        if self.no_new_privileges {
            control(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(cannot("no_new_privs"))?;
        }
        let mut has = Credentials::without_bounding_set()?;
        // `bound` has removed the unwanted capabilities.
        has.capabilities.bounding = now.capabilities.bounding & self.capabilities.bounding;
        self.compare(&has)
    }

    fn adopt_groups(&self, now: &Credentials) -> io::Result<()> {
        if self.supplementary != now.supplementary {
            let list = &self.supplementary;
            // SAFETY: `list` contains that many numbers.
            let set = check(unsafe { libc::syscall(libc::SYS_setgroups, list.len(), list.as_ptr()) });
            set.map_err(cannot("the supplementary groups"))?;
        }
        if self.groups != now.groups {
            let [real, effective, saved, file] = self.groups;
            // SAFETY: plain calls.
            unsafe {
                let set = check(libc::syscall(libc::SYS_setresgid, real, effective, saved));
                set.map_err(cannot("the group"))?;
                libc::syscall(libc::SYS_setfsgid, file);
            }
        }
        Ok(())
    }

    fn adopt_users(&self, now: &Credentials) -> io::Result<()> {
        if self.users == now.users {
            return Ok(());
        }
        // If the securebits are locked and this fails, the comparison at the end finds what is missing.
        let _ = control(libc::PR_SET_KEEPCAPS, 1, 0);
        let [real, effective, saved, file] = self.users;
        // SAFETY: plain calls.
        unsafe {
            let set = check(libc::syscall(libc::SYS_setresuid, real, effective, saved));
            set.map_err(cannot("the user"))?;
            libc::syscall(libc::SYS_setfsuid, file);
        }
        Ok(())
    }

    fn adopt_capabilities(&self) -> io::Result<()> {
        let wanted = self.capabilities;
        let has = Capabilities::of_this_thread()?;
        // The capability that the following steps need, if the thread has it.
        let helper = has.permitted & CAP_SETPCAP;
        let permitted = (wanted.permitted & has.permitted) | helper;
        let first = Capabilities { permitted, effective: permitted, ..wanted };
        first.set().map_err(cannot("the capabilities"))?;
        control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
            .map_err(cannot("the ambient capabilities"))?;
        for capability in members(wanted.ambient) {
            control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)
                .map_err(cannot("the ambient capabilities"))?;
        }
        let bits = control(libc::PR_GET_SECUREBITS, 0, 0)? as u32;
        if bits ^ self.securebits == KEEP_CAPABILITIES {
            let keep = u64::from(self.securebits & KEEP_CAPABILITIES != 0);
            control(libc::PR_SET_KEEPCAPS, keep, 0).map_err(cannot("the securebits"))?;
        } else if bits != self.securebits {
            control(libc::PR_SET_SECUREBITS, self.securebits.into(), 0).map_err(cannot("the securebits"))?;
        }
        let last = Capabilities { permitted: wanted.permitted & has.permitted, ..wanted };
        Capabilities { effective: last.effective & last.permitted, ..last }
            .set()
            .map_err(cannot("the capabilities"))
    }

    /// Returns an error that names the first difference, if there is one.
    fn compare(&self, now: &Credentials) -> io::Result<()> {
        let (wanted, has) = (&self.capabilities, &now.capabilities);
        let parts = [
            ("the user", self.users == now.users),
            ("the group", self.groups == now.groups),
            ("the supplementary groups", self.supplementary == now.supplementary),
            ("the capabilities", wanted == has),
            ("the securebits", self.securebits == now.securebits),
            ("no_new_privs", self.no_new_privileges == now.no_new_privileges),
        ];
        match parts.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((what, _)) => Err(cannot(what)(io::ErrorKind::PermissionDenied.into())),
        }
    }
}

/// Returns the supplementary groups.
fn supplementary() -> io::Result<Vec<u32>> {
    let get = |list: &mut [u32]| {
        // SAFETY: `list` has that length. With a length of 0, the call only counts the groups.
        check(unsafe { libc::syscall(libc::SYS_getgroups, list.len(), list.as_mut_ptr()) })
    };
    let mut few = [0; 32];
    if let Ok(count) = get(&mut few) {
        return Ok(few[..count as usize].to_vec());
    }
    let mut list = vec![0; get(&mut [])? as usize];
    if !list.is_empty() {
        let count = get(&mut list)?;
        list.truncate(count as usize);
    }
    Ok(list)
}

/// Returns the user namespace of this process as a number, or 0 if `/proc` does not show it.
pub(crate) fn user_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/user").map_or(0, |file| file.ino())
}
