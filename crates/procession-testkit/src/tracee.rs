//! A victim under ptrace, one instruction at a time.
#![allow(unsafe_code, reason = "ptrace")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, describe};
use crate::gate::Gate;
use crate::insn::Insn;
use crate::proc;
use crate::report_page::{BEGUN, ENDED, PANICKED, ReportPage};

/// How long a victim may prepare, or stay in one system call without sleeping in a futex.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What happened during one instruction of a victim.
pub(crate) enum Stop {
    Stepped,
    /// The victim sleeps in a futex, inside the instruction.
    Parked,
    Died(i32),
    /// The victim is in a system call that is not a futex call and does not return.
    Hung,
}

thread_local! {
    /// The instructions of all victims so far.
    static SEEN: RefCell<HashMap<u64, Insn>> = RefCell::default();
}

pub(crate) struct Tracee {
    child: Child,
    /// The signal to deliver with the next step.
    signal: i32,
    rip: u64,
    next: Insn,
}

impl Tracee {
    /// Starts `victim` and runs it to `Gate::begin`. An error contains the child and a sentence. The closure
    /// stays with the caller, which must keep it while the child lives.
    pub(crate) fn launch<V: FnOnce(&Gate)>(victim: &mut Option<V>) -> Result<Tracee, (Child, String)> {
        let report_page = Arc::new(ReportPage::new());
        let mut run = Some(|| {
            // SAFETY: asks to be traced. The pointers are not used.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) };
            let victim = victim.take().expect("the victim is there");
            victim(&Gate::new(&report_page));
            report_page.enter(ENDED);
        });
        let child = Child::spawn_telling(&report_page, &mut run);
        let mut tracee = Tracee { child, signal: 0, rip: 0, next: Insn::default() };
        let start = Instant::now();
        loop {
            match tracee.poll() {
                Some(Stop::Died(status)) => {
                    let why = format!("{} before Gate::begin: {}", describe(status), tracee.child.text());
                    return Err((tracee.child, why));
                }
                Some(_) if tracee.child.report_page().phase() == BEGUN && tracee.signal == libc::SIGSTOP => {
                    break;
                }
                Some(_) => tracee.go(libc::PTRACE_CONT),
                None if start.elapsed() > TIMEOUT => {
                    return Err((tracee.child, format!("has not come to Gate::begin in {TIMEOUT:?}")));
                }
                None => thread::yield_now(),
            }
        }
        tracee.signal = 0;
        tracee.request(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL as usize);
        tracee.look();
        Ok(tracee)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    pub(crate) fn rip(&self) -> u64 {
        self.rip
    }

    pub(crate) fn text(&self) -> String {
        self.child.text()
    }

    /// Reports whether the victim has reached `Gate::end`.
    pub(crate) fn ended(&self) -> bool {
        self.child.report_page().phase() == ENDED
    }

    pub(crate) fn panicked(&self) -> bool {
        self.child.report_page().phase() == PANICKED
    }

    /// Returns the victim's next instruction.
    pub(crate) fn next_insn(&self) -> Insn {
        self.next
    }

    /// Returns the child, still stopped and traced.
    pub(crate) fn into_child(self) -> Child {
        self.child
    }

    /// Runs the victim freely to its end and returns the wait status, or `None` if that takes too long.
    pub(crate) fn run_to_end(&mut self) -> Option<i32> {
        self.go(libc::PTRACE_DETACH);
        self.child.wait_within(TIMEOUT)
    }

    /// Waits until another thread of the victim's process has ended that process. The traced thread stays
    /// stopped. Returns the wait status.
    pub(crate) fn outlive(&mut self) -> Option<i32> {
        self.child.wait_within(TIMEOUT)
    }

    /// Starts one instruction. [`settle`](Tracee::settle) waits for it.
    pub(crate) fn step(&mut self) {
        self.go(libc::PTRACE_SINGLESTEP);
    }

    /// Waits until the instruction is done, or sleeps.
    pub(crate) fn settle(&mut self) -> Stop {
        let stop = if self.next.is_syscall() { self.outlast() } else { self.wait(0).unwrap_or(Stop::Hung) };
        if matches!(stop, Stop::Stepped) {
            self.look();
        }
        stop
    }

    /// Does the same as `settle`, after a wake. A victim that sleeps counts as parked only if it keeps sleeping.
    pub(crate) fn settle_awake(&mut self) -> Stop {
        let start = Instant::now();
        loop {
            let stop = self.settle();
            if !matches!(stop, Stop::Parked) || start.elapsed() > TIMEOUT {
                return stop;
            }
        }
    }

    fn outlast(&mut self) -> Stop {
        const QUICK: u32 = 50;
        let start = Instant::now();
        for round in 0u32.. {
            if let Some(stop) = self.poll() {
                return stop;
            }
            if round < QUICK {
                thread::yield_now();
            } else if proc::is_parked(self.pid()) {
                return Stop::Parked;
            } else if start.elapsed() > TIMEOUT {
                break;
            } else {
                thread::sleep(Duration::from_micros(20));
            }
        }
        Stop::Hung
    }

    fn poll(&mut self) -> Option<Stop> {
        self.wait(libc::WNOHANG)
    }

    fn wait(&mut self, flags: i32) -> Option<Stop> {
        let mut status = 0;
        // SAFETY: `status` is a valid place.
        let got = unsafe { libc::waitpid(self.child.pid, &mut status, flags | libc::__WALL) };
        if got == 0 {
            return None;
        }
        if got < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EINTR), "waiting for the victim: {error}");
            return self.wait(flags);
        }
        if self.child.note(status) {
            return Some(Stop::Died(status));
        }
        let signal = libc::WSTOPSIG(status);
        self.signal = if signal == libc::SIGTRAP { 0 } else { signal };
        Some(Stop::Stepped)
    }

    fn go(&mut self, request: libc::c_uint) {
        let signal = mem::take(&mut self.signal);
        self.request(request, signal as usize);
    }

    /// Ignores an error. It means that the victim has died meanwhile, which `wait` reports.
    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: none of the requests used here writes through a pointer.
        unsafe { libc::ptrace(request, self.child.pid, ptr::null_mut::<u8>(), data) };
    }

    /// Reads the victim's position and its next instruction.
    fn look(&mut self) {
        self.rip = program_counter(self.child.pid);
        // Victims are copies of one process, and none of them changes its code.
        self.next = SEEN.with_borrow_mut(|seen| match seen.get(&self.rip) {
            Some(&insn) => insn,
            None => {
                let insn = self.read();
                // Nothing can be read from a victim that has died meanwhile.
                if insn != Insn::NONE {
                    seen.insert(self.rip, insn);
                }
                insn
            }
        });
    }

    fn read(&self) -> Insn {
        let address = self.rip as *mut u8;
        // SAFETY: the call reads a word of the victim's memory, and writes to no memory of this process.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.child.pid, address, 0usize) };
        Insn(word as u64)
    }
}

#[cfg(target_arch = "x86_64")]
fn program_counter(pid: i32) -> u64 {
    let offset = mem::offset_of!(libc::user_regs_struct, rip);
    // SAFETY: reads one register of a stopped victim.
    unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, pid, offset, 0usize) as u64 }
}

#[cfg(target_arch = "aarch64")]
fn program_counter(pid: i32) -> u64 {
    const NT_PRSTATUS: usize = 1;
    // SAFETY: the kernel writes at most as many bytes of registers as the vector says.
    unsafe {
        let mut registers: libc::user_regs_struct = mem::zeroed();
        let mut whole = libc::iovec {
            iov_base: (&raw mut registers).cast(),
            iov_len: size_of::<libc::user_regs_struct>(),
        };
        libc::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, &raw mut whole);
        registers.pc
    }
}
