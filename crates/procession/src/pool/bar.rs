//! [`progress_bar`]: a bar that shows how much of a map is done.

use std::io::{self, IsTerminal, Write};

use super::progress::Progress;

/// The number of characters of a full bar.
const WIDTH: usize = 24;

/// Returns a hook for [`Pool::with_progress`](super::Pool::with_progress) that draws a progress bar on standard
/// error. If standard error is not a terminal, the hook does nothing. When the map is over, the bar disappears.
///
/// ```
/// use procession::pool::{Pool, progress_bar};
/// let pool = Pool::new(2)?.with_progress(progress_bar());
/// for result in pool.imap_unordered(|n: u32| n + 1, 0..100) {
///     assert!(result? > 0);
/// }
/// # Ok::<(), procession::Error>(())
/// ```
pub fn progress_bar() -> impl FnMut(Progress) + Send + 'static {
    |progress| {
        let mut terminal = io::stderr().lock();
        if terminal.is_terminal() {
            // A bar that cannot be drawn does not harm the map.
            let _ = write!(terminal, "{}", frame(progress)).and_then(|()| terminal.flush());
        }
    }
}

/// Returns what the terminal needs in order to replace the bar. A line that is too long for the terminal is cut off
/// rather than wrapped.
fn frame(progress: Progress) -> String {
    const ERASE: &str = "\r\x1b[K";
    if progress.is_over {
        return ERASE.into();
    }
    format!("{ERASE}\x1b[?7l{}{progress}\x1b[?7h", bar(progress))
}

fn bar(progress: Progress) -> String {
    let Some(total) = progress.total else { return String::new() };
    let full = (progress.done * WIDTH).checked_div(total).unwrap_or(WIDTH).min(WIDTH);
    format!("[{}{}] ", "#".repeat(full), "-".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_bar_grows_with_the_items_that_are_done() {
        let mut progress = Progress {
            done: 0,
            failed: 0,
            retried: 0,
            total: Some(4),
            elapsed: Duration::ZERO,
            is_over: false,
        };
        assert_eq!(bar(progress), format!("[{}] ", "-".repeat(24)));
        progress.done = 3;
        assert_eq!(bar(progress), format!("[{}{}] ", "#".repeat(18), "-".repeat(6)));
        progress.total = Some(0);
        assert_eq!(bar(progress), format!("[{}] ", "#".repeat(24)));
        progress.total = None;
        assert_eq!(bar(progress), "");
    }
}
