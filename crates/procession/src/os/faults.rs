//! System calls that fail on demand. Tests use them to check how the library reacts.
//!
//! A [`Switch`] lies in the family's shared memory, so a test can make a call fail in the supervisor as well
//! as in its own process. Without the feature `internals` there is no switch, and every check compiles to
//! nothing.

#[cfg(not(feature = "internals"))]
use std::io;

/// A kind of system call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Call {
    /// `fork`.
    Fork,
    /// The `clone` that launches a supervisor.
    Launch,
    /// `clone` for a thread of the library.
    StartThread,
    /// `pidfd_open`.
    OpenPidfd,
    /// `pidfd_send_signal`.
    SignalPidfd,
    /// `kill`.
    Kill,
    /// `waitid`.
    Wait,
    /// `waitpid` of a child that has ended.
    Reap,
    /// `poll`.
    Poll,
    /// `FUTEX_WAIT` and `futex_waitv`.
    Sleep,
    /// `FUTEX_WAKE`.
    Wake,
    /// `socketpair`, `socket`, `bind`, `listen`, `accept`, `connect`.
    Socket,
    /// `sendmsg`.
    Send,
    /// `recvmsg`.
    Receive,
    /// `dup2` and `F_DUPFD`.
    Duplicate,
    /// `open` and `read` of a file, usually in `/proc`.
    ReadFile,
    /// `stat`.
    Stat,
    /// `read` of a signal descriptor.
    ReadSignals,
    /// `mmap`.
    Map,
}

impl Call {
    /// Every kind.
    #[cfg(feature = "internals")]
    pub const ALL: [Call; CALLS] = [
        Call::Fork,
        Call::Launch,
        Call::StartThread,
        Call::OpenPidfd,
        Call::SignalPidfd,
        Call::Kill,
        Call::Wait,
        Call::Reap,
        Call::Poll,
        Call::Sleep,
        Call::Wake,
        Call::Socket,
        Call::Send,
        Call::Receive,
        Call::Duplicate,
        Call::ReadFile,
        Call::Stat,
        Call::ReadSignals,
        Call::Map,
    ];
}

#[cfg(feature = "internals")]
const CALLS: usize = Call::Map as usize + 1;

/// Returns the error that a test wants this call to end with, if it wants one.
#[cfg(not(feature = "internals"))]
#[inline(always)]
pub(crate) fn at(_: Call) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "internals")]
pub use switch::{Role, Switch};
#[cfg(feature = "internals")]
pub(crate) use switch::{at, share};

#[cfg(feature = "internals")]
mod switch {
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
    use std::{io, ptr};

    use super::{CALLS, Call};

    /// Which processes a fault applies to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u32)]
    pub enum Role {
        /// The process that started the family, including the library's threads in it.
        Main,
        /// The supervisor.
        Supervisor,
        /// A process that the supervisor forked.
        Child,
    }

    impl Role {
        /// Every kind of process.
        pub const ALL: [Role; 3] = [Role::Main, Role::Supervisor, Role::Child];
    }

    /// Which calls fail, in shared memory. While all words are zero, no call fails or is counted.
    #[repr(C)]
    pub struct Switch {
        on: AtomicU32,
        role: AtomicU32,
        call: AtomicU32,
        errno: AtomicU32,
        /// How many more of these calls fail.
        left: AtomicU32,
        made: [[AtomicU32; CALLS]; Role::ALL.len()],
    }

    static SWITCH: AtomicPtr<Switch> = AtomicPtr::new(ptr::null_mut());
    static ROLE: AtomicU32 = AtomicU32::new(Role::Main as u32);

    /// Sets the switch that this process uses: its family's switch, or none.
    pub(crate) fn share(switch: Option<&'static Switch>, role: Role) {
        ROLE.store(role as u32, Ordering::Relaxed);
        let at = switch.map_or(ptr::null_mut(), |switch| ptr::from_ref(switch).cast_mut());
        SWITCH.store(at, Ordering::Release);
    }

    /// Returns the error that a test wants this call to end with, if it wants one.
    #[inline]
    pub(crate) fn at(call: Call) -> io::Result<()> {
        // SAFETY: the pointer is null, or it points to the family's switch, which is not unmapped while the
        // pointer names it.
        match unsafe { SWITCH.load(Ordering::Acquire).as_ref() } {
            Some(switch) if switch.on.load(Ordering::Relaxed) != 0 => switch.ask(call),
            _ => Ok(()),
        }
    }

    impl Switch {
        /// Counts calls from now on, and makes the next `times` calls of this kind fail.
        pub fn arm(&self, role: Role, call: Call, errno: i32, times: u32) {
            self.left.store(0, Ordering::SeqCst);
            self.role.store(role as u32, Ordering::SeqCst);
            self.call.store(call as u32, Ordering::SeqCst);
            self.errno.store(errno as u32, Ordering::SeqCst);
            self.left.store(times, Ordering::SeqCst);
            self.on.store(1, Ordering::SeqCst);
        }

        /// Counts calls from now on.
        pub fn count(&self) {
            self.made.iter().flatten().for_each(|count| count.store(0, Ordering::SeqCst));
            self.left.store(0, Ordering::SeqCst);
            self.on.store(1, Ordering::SeqCst);
        }

        /// Stops making calls fail. Returns how many more calls would have failed.
        pub fn disarm(&self) -> u32 {
            self.on.store(0, Ordering::SeqCst);
            self.left.swap(0, Ordering::SeqCst)
        }

        /// Returns how many calls of this kind were made since [`count`](Switch::count).
        pub fn made(&self, role: Role, call: Call) -> u32 {
            self.made[role as usize][call as usize].load(Ordering::SeqCst)
        }

        #[cold]
        fn ask(&self, call: Call) -> io::Result<()> {
            let role = ROLE.load(Ordering::Relaxed);
            self.made[role as usize][call as usize].fetch_add(1, Ordering::SeqCst);
            let is_meant = self.role.load(Ordering::SeqCst) == role
                && self.call.load(Ordering::SeqCst) == call as u32
                && self
                    .left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok();
            if is_meant {
                return Err(io::Error::from_raw_os_error(self.errno.load(Ordering::SeqCst) as i32));
            }
            Ok(())
        }
    }
}
