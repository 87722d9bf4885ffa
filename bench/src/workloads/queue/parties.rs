//! The parties of a run: processes, threads or forks that begin together, and the sum that proves their work.

use std::sync::atomic::Ordering;

use procession::Process;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::board::Board;
use crate::machine::{now_ns, pin};
#[cfg(feature = "peers")]
use crate::peers::fork::Forked;
use crate::workload::{Sample, ensure};

/// Where the parties of a run execute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Each on a processor of its own, as far as possible. They begin together.
    Pinned,
    /// Where the kernel puts them.
    Anywhere,
}

/// Runs one party: meets the others, works, and adds its sum to the board.
pub(super) fn party(
    board: &Board,
    which: usize,
    parties: usize,
    place: Place,
    work: impl FnOnce() -> Result<u64>,
) -> Result {
    if place == Place::Pinned {
        pin(which);
    }
    board.arrive();
    match place {
        Place::Pinned if parties == 2 => board.meet(2),
        _ => board.await_arrivals(parties as u32)?,
    }
    board.began_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    let sum = work()?;
    board.ended_ns.0.0[which].store(now_ns(), Ordering::SeqCst);
    board.counter.0.fetch_add(sum, Ordering::SeqCst);
    Ok(())
}

/// Runs `work` in `parties` processes at the same time. Returns the board, with the sum of their results.
pub(super) fn in_processes<H, F>(parties: usize, place: Place, handles: &H, work: F) -> Result<&'static Board>
where
    H: Serialize + DeserializeOwned + Clone + 'static,
    F: Fn(usize, &H) -> Result<u64> + Copy + Send + 'static,
{
    let (board, path) = Board::create()?;
    let child = move |path: String, which: usize, parties: usize, anywhere: bool, handles: H| {
        let place = if anywhere { Place::Anywhere } else { Place::Pinned };
        let board = Board::open(&path).map_err(|e| e.to_string())?;
        party(board, which, parties, place, || work(which, &handles)).map_err(|e| e.to_string())
    };
    let anywhere = place == Place::Anywhere;
    let children = (0..parties)
        .map(|which| Process::spawn(child, (path.clone(), which, parties, anywhere, handles.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        child.join()??;
    }
    Ok(board)
}

/// Does the same as [`in_processes`] in threads of this process. Each thread gets one of `parts`.
pub(super) fn in_threads<P: Send>(
    place: Place,
    parts: Vec<P>,
    work: impl Fn(usize, P) -> Result<u64> + Sync,
) -> Result<&'static Board> {
    let (board, _) = Board::create()?;
    let (parties, work) = (parts.len(), &work);
    std::thread::scope(|scope| {
        let start =
            |(which, part)| scope.spawn(move || party(board, which, parties, place, || work(which, part)));
        let threads: Vec<_> = parts.into_iter().enumerate().map(start).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    Ok(board)
}

/// Does the same as [`in_processes`] in two forks of this process. The forks prepare themselves before they
/// begin.
#[cfg(feature = "peers")]
pub(super) fn in_forks<S>(
    prepare: impl Fn(usize) -> Result<S>,
    work: impl Fn(usize, S) -> Result<u64>,
) -> Result<&'static Board> {
    let (board, _) = Board::create()?;
    let child = |which| {
        Forked::run(|| {
            let prepared = prepare(which)?;
            party(board, which, 2, Place::Pinned, || work(which, prepared))
        })
    };
    let children = [child(0)?, child(1)?];
    children.into_iter().try_for_each(Forked::join)?;
    Ok(board)
}

/// Returns operations per second, if the parties' sum is correct.
pub(super) fn rate(board: &Board, operations: u64, sum: u64) -> Result<Sample> {
    let found = board.counter.0.load(Ordering::SeqCst);
    ensure(found == sum, &format!("the sum of what arrived is {found} and should be {sum}"))?;
    Ok(Sample::new(operations as f64 / board.elapsed().as_secs_f64()))
}

/// Returns the sum of 0 to `count` - 1.
pub(super) fn sum_below(count: u64) -> u64 {
    count * (count - 1) / 2
}
