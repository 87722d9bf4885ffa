//! [`Launcher`]: the parent's half of starting a program.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::order::{Failure, Order, Step, Task, run};
use crate::signals::{AllBlocked, Dispositions};

/// The child uses a page or two of this stack until it executes the program. The rest is never touched.
const STACK_BYTES: usize = 64 << 10;

/// Starts programs, one after the other.
///
/// The child shares the memory of this process until it executes its program, so no memory is copied. The thread that
/// starts it is suspended meanwhile, as with `vfork`.
#[derive(Debug)]
pub struct Launcher {
    stack: Vec<MaybeUninit<u8>>,
    dispositions: Dispositions,
    /// The arguments of the shell that runs a script without an interpreter: its name, the script, and all further
    /// arguments of the program. Without the first word they are the program's own arguments.
    arguments: Vec<Cell<*const c_char>>,
    environment: Vec<*const c_char>,
}

impl Launcher {
    /// Creates a launcher. Install all signal handlers first, because the launcher notes which dispositions
    /// have changed.
    pub fn new() -> Launcher {
        Launcher {
            stack: vec![MaybeUninit::uninit(); STACK_BYTES],
            dispositions: Dispositions::now(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Starts a program in a process group of its own and returns its pid.
    ///
    /// The program has the signal mask and the dispositions that this process was started with. It is killed when
    /// the calling thread ends. The caller reaps it.
    ///
    /// # Errors
    ///
    /// Returns the step that failed. No process is left then.
    pub fn start(&mut self, order: &Order<'_>) -> Result<i32, Failure> {
        for (place, stream) in order.streams.iter().enumerate() {
            let raw = stream.as_raw_fd();
            assert!(
                raw > 2 || raw == place as c_int,
                "stream {place} would overwrite another standard stream"
            );
        }
        self.arguments.clear();
        self.arguments.push(Cell::new(c"/bin/sh".as_ptr()));
        self.arguments.extend(order.arguments.iter().map(|word| Cell::new(word.as_ptr())));
        self.arguments.push(Cell::new(ptr::null()));
        self.environment.clear();
        self.environment.extend(order.environment.iter().map(|text| text.as_ptr()));
        self.environment.push(ptr::null());
        // SAFETY: stacks grow downwards from an aligned address, so the end of the vector minus its misalignment is a
        // valid top.
        let top = unsafe {
            let end = self.stack.as_mut_ptr_range().end;
            end.sub(end as usize % 16)
        };
        let task = Task {
            order,
            arguments: &self.arguments,
            environment: &self.environment,
            dispositions: &self.dispositions,
            // SAFETY: `getpid` has no preconditions.
            parent: unsafe { libc::getpid() },
            failure: None.into(),
        };
        let pid = clone_child(top, &task).map_err(|error| Failure { step: Step::Clone, error })?;
        match task.failure.get() {
            None => Ok(pid),
            Some((step, number)) => {
                // SAFETY: the child exists and is ours; a null status is allowed.
                unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
                Err(Failure { step, error: io::Error::from_raw_os_error(number) })
            }
        }
    }
}

/// Runs the child's half on the stack that ends at `top`, until it executes its program or fails.
fn clone_child(top: *mut MaybeUninit<u8>, task: &Task<'_>) -> io::Result<i32> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // No handler of this process may run in the child.
    let _blocked = AllBlocked::enter();
    // SAFETY: the child runs `run` on a stack of its own while this thread is suspended (CLONE_VFORK). So
    // `task` and everything that `task` borrows outlive the child's use. `run` only makes system calls that
    // are safe after a fork, and never returns into this function.
    let pid = unsafe { libc::clone(run, top.cast(), flags, ptr::from_ref(task).cast_mut().cast::<c_void>()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

impl Default for Launcher {
    fn default() -> Self {
        Launcher::new()
    }
}
