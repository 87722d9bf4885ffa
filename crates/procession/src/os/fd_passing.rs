//! Sends descriptors to a process to which there is no connection yet, through a socket whose name the kernel
//! chooses.
//!
//! The name is not in any file system, so nothing is left behind. Other processes can guess the name. So
//! before it sends or accepts anything, each side asks the kernel for the other side's process id.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::faults::{self, Call};
use super::{check, fd, retry};

/// The kernel's names consist of a zero byte and five hexadecimal digits.
const NAME_AT: usize = size_of::<libc::sa_family_t>() + 1;
const NAME: usize = 5;

/// A listening socket, at which another process delivers descriptors.
pub(crate) struct DescriptorSocket {
    socket: OwnedFd,
    name: u32,
}

fn socket() -> io::Result<OwnedFd> {
    faults::at(Call::Socket)?;
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: a plain call that gives a new descriptor, which we own.
    unsafe {
        fd::above_stdio(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind, 0).into())? as RawFd))
    }
}

fn address(name: u32) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path[1..].iter_mut().zip(format!("{name:05x}").bytes()) {
        *to = from as libc::c_char;
    }
    (address, (NAME_AT + NAME) as libc::socklen_t)
}

impl DescriptorSocket {
    /// Opens a socket under a name of the kernel's choice.
    pub(crate) fn open() -> io::Result<DescriptorSocket> {
        let socket = socket()?;
        let (mut address, _) = address(0);
        let mut len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: `address` and `len` are valid places. Binding to a family alone requests a name.
        unsafe {
            let family = size_of::<libc::sa_family_t>() as libc::socklen_t;
            check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), family).into())?;
            check(libc::listen(socket.as_raw_fd(), 4).into())?;
            check(libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &mut len).into())?;
        }
        let digits: Vec<u8> = address.sun_path[1..=NAME].iter().map(|&c| c as u8).collect();
        let name = std::str::from_utf8(&digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
        match name {
            Some(name) if len as usize == NAME_AT + NAME => Ok(DescriptorSocket { socket, name }),
            _ => Err(io::Error::other("the kernel named a socket in an unexpected form")),
        }
    }

    pub(crate) fn name(&self) -> u32 {
        self.name
    }

    /// Waits for the process `pid`, whose pidfd is `alive`, and receives its descriptors. Returns an error if
    /// the process ends first, if it sends no descriptors, or if `expected` returns false. `expected` is
    /// called ten times a second.
    pub(crate) fn receive(
        &self,
        pid: i32,
        alive: BorrowedFd<'_>,
        expected: impl Fn() -> bool,
    ) -> io::Result<Vec<OwnedFd>> {
        const LOOK_AGAIN_MS: i32 = 100;
        while expected() {
            let [came, ended] = fd::poll([self.socket.as_raw_fd(), alive.as_raw_fd()], LOOK_AGAIN_MS);
            if came {
                // SAFETY: a plain call that gives a new descriptor, which we own.
                let guest = unsafe {
                    let flags = libc::SOCK_CLOEXEC;
                    let null = std::ptr::null_mut();
                    let new = retry(|| {
                        faults::at(Call::Socket)?;
                        check(libc::accept4(self.socket.as_raw_fd(), null, null.cast(), flags).into())
                    })?;
                    fd::above_stdio(OwnedFd::from_raw_fd(new as RawFd))?
                };
                if peer_pid(guest.as_fd())? == pid {
                    return receive_from(guest.as_fd());
                }
            } else if ended {
                break;
            }
        }
        Err(gone())
    }
}

fn receive_from(guest: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    // The process either sends immediately or ends, and this call reports which of the two happens.
    let (_, fds) = fd::receive_with_fds(guest, &mut [0; 1])?;
    if fds.is_empty() { Err(gone()) } else { Ok(fds) }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the process that should send the descriptors ended without sending them",
    )
}

/// Sends descriptors to the socket `name` of process `pid`. Returns false if that process does not listen
/// there: it has ended, or is in another network namespace.
pub(crate) fn deliver(name: u32, pid: i32, fds: &[RawFd]) -> io::Result<bool> {
    let socket = socket()?;
    let (address, len) = address(name);
    let connected = retry(|| {
        faults::at(Call::Socket)?;
        // SAFETY: `address` is a valid address of that length.
        check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) }.into())
    });
    match connected {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
        other => other?,
    };
    if peer_pid(socket.as_fd())? != pid {
        return Ok(false);
    }
    match fd::send_with_fds(socket.as_fd(), &[0], fds) {
        // The process has ended in the meantime.
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(false),
        sent => sent.map(|()| true),
    }
}

/// Returns the id of the process that created the other end.
fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<i32> {
    fd::peer(socket).map(|cred| cred.pid)
}
