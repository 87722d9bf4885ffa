//! The children of this process: finding those that have ended or stopped, and reaping them.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::faults::{self, Call};
use super::process::Ended;
use super::{check, memory, procfs, retry, retry_refused};

/// Returns whether this process has a child with this id that it has not reaped.
pub(crate) fn is_child(pid: i32) -> io::Result<bool> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: an all-zero siginfo is valid, and waitid writes to it.
    let asked = retry(|| unsafe {
        faults::at(Call::Wait)?;
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, flags).into())
    });
    match asked {
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(false),
        asked => asked.map(|_| pid > 0),
    }
}

/// Returns the next child that has ended and was not reaped yet, or `None` if there is none at the moment.
pub(crate) fn next_ended() -> io::Result<Option<(i32, Ended)>> {
    // SAFETY: an all-zero siginfo is valid, and waitid writes to it. `si_pid` and `si_status` are the fields
    // that waitid fills.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        let wait = || {
            faults::at(Call::Wait)?;
            check(libc::waitid(libc::P_ALL, 0, &mut info, flags).into())
        };
        match retry_refused(wait, |errno| errno == libc::ECHILD) {
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            other => other?,
        };
        if info.si_pid() == 0 {
            return Ok(None);
        }
        let status = info.si_status();
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended::Exited(status),
            code => Ended::Signaled { signal: status, core: code == libc::CLD_DUMPED },
        };
        Ok(Some((info.si_pid(), ended)))
    }
}

/// Returns the next child that was stopped or continued since it was last reported, and whether it is now
/// stopped. Returns `None` if there is no such child at the moment.
pub(crate) fn next_stop() -> io::Result<Option<(i32, bool)>> {
    // SAFETY: as in `next_ended`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::__WALL;
        match retry(|| check(libc::waitid(libc::P_ALL, 0, &mut info, flags).into())) {
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            other => other?,
        };
        Ok((info.si_pid() != 0).then(|| (info.si_pid(), info.si_code != libc::CLD_CONTINUED)))
    }
}

/// Returns whether this process has a child, ended or not.
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: an all-zero siginfo is valid, and waitid writes to it.
    let asked = retry(|| unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(libc::P_ALL, 0, &mut info, flags).into())
    });
    asked.is_ok()
}

/// Reaps a child that has ended.
pub(crate) fn reap(pid: i32) {
    let wait = || {
        faults::at(Call::Reap)?;
        // SAFETY: a plain call; a null status is allowed.
        check(unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) }.into())
    };
    // If the child remains a zombie, the next `waitid` finds it.
    let _ = retry_refused(wait, |errno| errno == libc::ECHILD);
}

/// Reaps a process if it has ended and is a child of this process.
pub(crate) fn reap_if_ended(pid: i32) {
    // SAFETY: a plain call; a null status is allowed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
}

/// The list of the calling thread's children in /proc. The file is kept open because it is read often.
pub(crate) struct Children {
    file: std::fs::File,
    /// The list's text, in a buffer that is larger than most lists. Forks do not inherit this buffer, because
    /// this process writes to it between forks.
    text: &'static mut [u8],
    translation: procfs::Translation,
}

impl Children {
    pub(crate) fn of_this_thread() -> io::Result<Children> {
        Ok(Children {
            file: faults::at(Call::ReadFile)
                .and_then(|()| std::fs::File::open("/proc/thread-self/children"))?,
            text: memory::unforked_bytes(64 << 10)?,
            translation: procfs::Translation::of_this_process(),
        })
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Calls `f` with the id of each child, including adopted orphans.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(i32)) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut len = 0;
        loop {
            let read = || {
                faults::at(Call::ReadFile)?;
                self.file.read_at(&mut self.text[len..], len as u64)
            };
            match retry(read)? {
                0 => break,
                n => len += n,
            }
            if len == self.text.len() {
                // The old buffer stays mapped. The buffer grows only a few times at most.
                let more = memory::unforked_bytes(2 * len)?;
                more[..len].copy_from_slice(self.text);
                self.text = more;
            }
        }
        let words = self.text[..len].split(u8::is_ascii_whitespace);
        for shown in words.filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok()) {
            self.translation.translate(shown).into_iter().for_each(&mut f);
        }
        Ok(())
    }
}

/// Returns the children of any thread of this process that have this title.
pub(crate) fn adopted(title: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| procfs::text(task.path().join("children")));
    let shown: Vec<i32> = lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let titled = |pid: &i32| {
        procfs::text(format!("/proc/{pid}/stat")).is_some_and(|stat| stat.contains(&format!("({title})")))
    };
    let translation = procfs::Translation::of_this_process();
    shown.into_iter().filter(titled).filter_map(|pid| translation.translate(pid)).collect()
}
