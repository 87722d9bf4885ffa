//! [`Interrupts`]: whether Ctrl-C reaches a process.

/// Whether Ctrl-C (SIGINT) reaches a process, for [`process::Builder`](super::Builder::interrupts) and
/// [`pool::Builder`](crate::pool::Builder::interrupts).
///
/// ```
/// use procession::{Process, process::Interrupts};
/// let saves = || "saved".to_string(); // is not interrupted while it saves
/// let p = Process::builder().interrupts(Interrupts::MainOnly).spawn(saves, ())?;
/// assert_eq!(p.join()?, "saved");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupts {
    /// The process treats SIGINT as main did at its first spawn. Usually, SIGINT ends the process. This is
    /// the default of [`Process`](super::Process).
    #[default]
    Shared,
    /// The process ignores SIGINT, and so do the programs that it executes. If SIGINT ends main, the process
    /// ends with the family. If main handles SIGINT, the process continues. This is the default of the
    /// workers of a [`Pool`](crate::Pool).
    MainOnly,
}
