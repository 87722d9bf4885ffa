//! [`Interrupt`]: a first Ctrl-C ends the program in order, and its books are still closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Dies of the signal with which this exit code says that the program was interrupted. A shell ends its loop then, as the
/// user wanted with Ctrl-C.
pub fn die_of_signal(code: u8) {
    let signal = i32::from(code) - 128;
    if [SIGINT, SIGTERM, SIGHUP].contains(&signal) {
        let _ = low_level::emulate_default_handler(signal);
    }
}

/// Notes whether a signal has asked for the end. A second signal ends the program immediately. The file
/// survives that, too.
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens from now on. Child processes do not listen, so a Ctrl-C at the terminal reaches them and ends
    /// them.
    pub fn listen() -> io::Result<Interrupt> {
        let (signal, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for which in [SIGINT, SIGTERM] {
            // Actions run in this order: the first signal finds `again` unset, and sets it.
            flag::register_conditional_default(which, Arc::clone(&again))?;
            flag::register(which, Arc::clone(&again))?;
            flag::register_usize(which, Arc::clone(&signal), which.cast_unsigned() as usize)?;
        }
        Ok(Interrupt { signal })
    }

    /// Returns the signal that came, if any.
    pub fn signal(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
    }
}
