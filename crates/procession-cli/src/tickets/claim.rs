//! [`Claim`]: one sale at a time over a file.
//!
//! Only the family of a sale knows the sale's lock. So two sales of the same file, started in two terminals,
//! would not wait for each other. Each sale therefore claims the file first, and the second sale fails.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::db::{Db, DbError};
use crate::interrupt::Interrupt;

/// An exclusive `flock` on `.NAME.sale` next to the file. The kernel releases the lock when the process ends,
/// no matter how it ends. The empty file is removed at an orderly end, and reused otherwise.
pub struct Claim {
    path: PathBuf,
    _locked: File,
}

impl Claim {
    /// Claims `db`, or fails if another sale has claimed it.
    pub fn of(db: &Db) -> Result<Claim, DbError> {
        Claim::try_of(db)?.ok_or_else(|| db.error("another sale of it is going on; --wait waits for its end"))
    }

    /// Waits until no other sale has `db`, and claims it. Fails if a signal asks for the end.
    pub fn wait_for(db: &Db, interrupt: &Interrupt) -> Result<Claim, DbError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(20);
        while interrupt.signal().is_none() {
            if let Some(claim) = Claim::try_of(db)? {
                return Ok(claim);
            }
            thread::sleep(LOOK_AGAIN);
        }
        Err(db.error("another sale of it is going on, and a signal ended the wait for it"))
    }

    fn try_of(db: &Db) -> Result<Option<Claim>, DbError> {
        let path = db.beside("sale");
        let failed = |e: io::Error| db.error(format!("cannot be claimed with {}: {e}", path.display()));
        loop {
            let file =
                File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // The previous sale may have removed the file between the two steps.
            let ours = file.metadata().map_err(failed)?;
            if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Some(Claim { path, _locked: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The file is removed while it is locked, so no other sale has it.
        let _ = fs::remove_file(&self.path);
    }
}
