//! [`progress_bar`]: a bar that shows how much of a map is done.

use indicatif::{ProgressBar, ProgressStyle};

use super::map::Progress;

/// Returns a hook for [`Pool::map_with_progress`](super::Pool::map_with_progress) that draws a progress bar on standard
/// error, if that is a terminal. Needs the feature `indicatif`.
///
/// ```
/// use procession::pool::{Pool, progress_bar};
/// let pool = Pool::new(2)?;
/// pool.map_with_progress(|n: u32| n, 0..100, progress_bar())?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn progress_bar() -> impl FnMut(Progress) {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} to go") {
        bar.set_style(style);
    }
    move |progress| {
        bar.set_length(progress.total.unwrap_or(progress.done) as u64);
        bar.set_position(progress.done as u64);
        if progress.total == Some(progress.done) {
            bar.finish_and_clear();
        }
    }
}
