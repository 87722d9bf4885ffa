//! Descriptors: keeping the numbers 0 to 2 in use, creating socket pairs, and sending descriptors through
//! sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::clock::Deadline;
use super::faults::{self, Call};
use super::{check, retry};

/// Moves a descriptor to a number above 2. The kernel can assign a lower number if the program has closed its
/// standard streams.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { above_stdio_too(fd.as_fd()) }
}

/// Duplicates a descriptor to a number above 2.
pub(crate) fn above_stdio_too(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    faults::at(Call::Duplicate)?;
    // SAFETY: `fd` is open, and the kernel returns a new descriptor, which we own.
    unsafe {
        let new = check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3).into())?;
        Ok(OwnedFd::from_raw_fd(new as RawFd))
    }
}

/// Opens `/dev/null` for each of the descriptors 0 to 2 that is closed. Otherwise another file could get that
/// number, and a `println!` would write to that file.
pub(crate) fn fill_stdio() {
    for fd in 0..3 {
        // SAFETY: plain calls. `open` takes the lowest free number. That is `fd`, because all lower numbers
        // are already open.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
}

/// Duplicates `fd` to the number `target`, without CLOEXEC.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    faults::at(Call::Duplicate)?;
    // SAFETY: a plain call. If `target` is open, the kernel closes it first.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into()).map(drop)
}

/// Keeps a descriptor open when this process executes a program.
pub(crate) fn keep_over_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Returns the descriptor with this number, if it is open. Only for a process that has just started.
pub(crate) fn borrow_if_open(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: `fd` is open, and only the caller can close it.
    unsafe { is_open(fd).then(|| BorrowedFd::borrow_raw(fd)) }
}

/// Returns whether a descriptor with this number is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: a plain call.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Closes a descriptor that belongs to this library.
pub(crate) fn close_raw(fd: RawFd) {
    // SAFETY: a plain call; the callers own the descriptor.
    unsafe { libc::close(fd) };
}

/// Takes ownership of a descriptor by number.
///
/// # Safety
/// The descriptor is open and nothing else owns it.
pub(crate) unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: promised by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Returns a connected pair of SEQPACKET sockets. Both are CLOEXEC and have numbers above 2.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    faults::at(Call::Socket)?;
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors, which we then own.
    let (a, b) = unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()).into())?;
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    Ok((above_stdio(a)?, above_stdio(b)?))
}

/// Returns the user id of the process that created the socket pair, or an error if `fd` is no socket.
pub(crate) fn peer_uid(fd: BorrowedFd<'_>) -> io::Result<u32> {
    peer(fd).map(|cred| cred.uid)
}

/// Returns the credentials of the process that created the other end of a socket.
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `cred` and `len` are valid places, and `len` is the size of `cred`.
    let ret = unsafe {
        let place = (&raw mut cred).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len)
    };
    check(ret.into()).map(|_| cred)
}

const MAX_FDS: usize = 5;

#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one datagram with descriptors.
pub(crate) fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS, "INVARIANT: a message carries at most {MAX_FDS} descriptors");
    let mut iov = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: every pointer in `msg` points to a live local variable of the stated length. CMSG_SPACE of five
    // descriptors is 40 bytes, within `control`.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = libc::CMSG_SPACE(size_of_val(fds) as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of_val(fds) as u32) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        let send = || {
            faults::at(Call::Send)?;
            check(libc::sendmsg(socket.as_raw_fd(), &msg, libc::MSG_NOSIGNAL) as i64)
        };
        retry(send).map(drop)
    }
}

/// Asks the kernel to send SIGCONT to this process when the other end of a socket is closed or sends
/// something.
pub(crate) fn continue_on_news(socket: BorrowedFd<'_>) -> io::Result<()> {
    /// The Linux command that sets the signal for O_ASYNC.
    const F_SETSIG: i32 = 10;
    let fd = socket.as_raw_fd();
    // SAFETY: plain calls on an open descriptor.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()).into())?;
        check(libc::fcntl(fd, F_SETSIG, libc::SIGCONT).into())?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL).into())?;
        check(libc::fcntl(fd, libc::F_SETFL, flags as i32 | libc::O_ASYNC).into()).map(drop)
    }
}

/// Returns whether a descriptor is a SEQPACKET socket.
pub(crate) fn is_seqpacket(fd: BorrowedFd<'_>) -> bool {
    let mut kind = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `kind` and `len` are valid places and `len` is the size of `kind`.
    let ret = unsafe {
        let place = (&raw mut kind).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TYPE, place, &mut len)
    };
    ret == 0 && kind == libc::SOCK_SEQPACKET
}

/// Copies the beginning of the next datagram, if there is one, and leaves the datagram in the socket.
pub(crate) fn peek(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: `bytes` is a valid buffer of that length.
    let len = unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    check(len as i64).map(|len| len as usize)
}

/// Receives one datagram and the descriptors that came with it (CLOEXEC).
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    let mut fds = Vec::new();
    // SAFETY: as in `send_with_fds`. The control headers say how many descriptors the kernel has installed,
    // and we own each of them.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = control.0.len() as _;
        let flags = libc::MSG_CMSG_CLOEXEC;
        let len = retry(|| {
            faults::at(Call::Receive)?;
            check(libc::recvmsg(socket.as_raw_fd(), &mut msg, flags) as i64)
        })?;
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data: *const RawFd = libc::CMSG_DATA(header).cast();
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
        Ok((len as usize, fds))
    }
}

/// Shuts a connection down, including for other processes that share the same socket.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: a plain call.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Reads and discards all available data. Returns false at the end of the stream.
pub(crate) fn drain(fd: BorrowedFd<'_>) -> bool {
    let mut rest = [0u8; 512];
    loop {
        // SAFETY: `rest` is a valid buffer of that length.
        let n =
            unsafe { libc::recv(fd.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), libc::MSG_DONTWAIT) };
        match n {
            0 => return false,
            -1 => return io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock,
            _ => {}
        }
    }
}

/// Waits until one of the descriptors is readable or has hung up, but at most for `timeout_ms` (-1: no
/// limit). Returns for each descriptor whether it is readable or has hung up. If the call fails, repeats it
/// for the remaining time.
pub(crate) fn poll<const N: usize>(fds: [RawFd; N], timeout_ms: i32) -> [bool; N] {
    let mut polls = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let until = u64::try_from(timeout_ms)
        .map_or(Deadline::NEVER, |timeout| Deadline::after(Duration::from_millis(timeout)));
    let mut left = timeout_ms;
    let mut attempt = |left| {
        faults::at(Call::Poll)?;
        // SAFETY: `polls` is an array of N entries.
        check(unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, left) }.into())
    };
    while let Err(e) = attempt(left) {
        if e.kind() != io::ErrorKind::Interrupted {
            std::thread::sleep(Duration::from_millis(1));
        }
        if until.passed() {
            break;
        }
        left = until.left_ms();
    }
    // A descriptor that is not open (POLLNVAL) does not count as readable.
    polls.map(|p| p.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0)
}

/// Waits until no process has the other end of this socket, but at most for `timeout_ms`. Returns whether that is so.
pub(crate) fn await_hangup(socket: BorrowedFd<'_>, timeout_ms: i32) -> bool {
    let until = Deadline::after(Duration::from_millis(timeout_ms.unsigned_abs().into()));
    // The kernel reports the end of the other side without being asked for it.
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    loop {
        // SAFETY: an array of one entry.
        let polled = faults::at(Call::Poll)
            .and_then(|()| check(unsafe { libc::poll(&mut poll, 1, until.left_ms()) }.into()));
        if polled.is_ok() && poll.revents != 0 {
            return true;
        }
        if until.passed() {
            return false;
        }
    }
}

/// Closes every descriptor above `last`.
pub(crate) fn close_above(last: i32) {
    // SAFETY: the callers do not share their descriptor table, and use no descriptor above `last`.
    unsafe {
        if libc::syscall(libc::SYS_close_range, last + 1, u32::MAX, 0) == -1 {
            let end = libc::sysconf(libc::_SC_OPEN_MAX).clamp(3, 1 << 20);
            (last + 1..end as i32).for_each(|fd| {
                libc::close(fd);
            });
        }
    }
}
