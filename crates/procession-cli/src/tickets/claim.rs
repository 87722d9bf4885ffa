//! [`Claim`]: one sale at a time over a file.
//!
//! The lock of a sale is known to its own family alone. Two sales of the same file, started in two
//! terminals, would not wait for each other; so each first claims the file, and the second is told.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::db::{Db, DbError};

/// An exclusive `flock` on `.NAME.sale` next to the file. The kernel releases it with its process,
/// however that ends; the empty file is removed at the orderly end, and used again after any other.
pub struct Claim {
    path: PathBuf,
    _locked: File,
}

impl Claim {
    /// Claims `db`, or says that another sale has.
    pub fn of(db: &Db) -> Result<Claim, DbError> {
        let path = db.beside("sale");
        let failed = |e: io::Error| db.error(format!("cannot be claimed with {}: {e}", path.display()));
        loop {
            let file =
                File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(db.error("another sale of it is going on")),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // The sale before us may have removed the file between our two steps.
            let ours = file.metadata().map_err(failed)?;
            if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Claim { path, _locked: file });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked, so that nobody else has it.
        let _ = fs::remove_file(&self.path);
    }
}
