//! [`Handled`]: what the function of a fleet of consumers may return.

use std::fmt::Display;

/// The types that the function of [`JoinableQueue::consumers`](crate::JoinableQueue::consumers) may return:
/// `()`, and `Result<(), E>` whose error can be displayed. After an `Err`, the item returns to its queue.
///
/// ```
/// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(2)?;
/// queue.put("no such file".to_string())?;
/// queue.close()?;
/// let consumers = queue.consumers(1, |path: String| std::fs::read(path).map(drop))?;
/// consumers.join()?;
/// assert_eq!(queue.dead_letters().next().unwrap()?.attempts, 2);
/// assert!(consumers.last_failure()?.unwrap().contains("No such file"));
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Handled {
    #[doc(hidden)]
    fn outcome(self) -> Result<(), String>;
}

impl Handled for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Handled for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        // The alternate form of some error types includes the causes.
        self.map_err(|e| format!("{e:#}"))
    }
}
