//! [`catch`]: calls a function of the user that may panic.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// The payload of a panic that was caught. It is dropped without a further panic.
pub(crate) struct Payload(Option<Box<dyn Any + Send>>);

/// Calls a function. Returns the payload if the function panics. The panic hook has reported the panic.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Payload> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Payload(Some(payload)))
}

impl Payload {
    pub(crate) fn as_any(&self) -> &(dyn Any + Send) {
        self.0.as_deref().unwrap_or(&())
    }

    /// Returns the payload, to continue the panic in another thread.
    pub(crate) fn into_inner(mut self) -> Box<dyn Any + Send> {
        self.0.take().unwrap_or_else(|| Box::new(()))
    }
}

impl Drop for Payload {
    /// The payload may be a value of the user whose `Drop` panics. That panic must not end a thread of the library, or
    /// hide how a process ended. The payload of the second panic may do the same, so it is forgotten.
    fn drop(&mut self) {
        let payload = self.0.take();
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic::panic_any(Bomb(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_may_panic_when_it_is_dropped() {
        for depth in 0..4 {
            let caught = catch(|| -> () { panic::panic_any(Bomb(depth)) });
            assert!(caught.as_ref().is_err_and(|payload| payload.as_any().is::<Bomb>()));
            drop(caught);
        }
        assert_eq!(catch(|| 3).ok(), Some(3));
    }
}
