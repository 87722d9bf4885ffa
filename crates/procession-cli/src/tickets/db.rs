//! [`Db`]: the file with the stock. It is whole at every moment, whoever is killed.
//!
//! ```text
//! {"count": 0, "sold": [{"ticket": 1, "buyer": 3, "pid": 4711}], ...fields that are not ours}
//! ```
//!
//! CRASH: the count and the sale change in one rename. Before it the old file is there, and
//! perhaps a side file `.NAME.PID.aside` of the dead, which whoever recovers the lock removes;
//! after it the ticket is sold, whether or not the buyer lives to say so.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;

/// A JSON file on disk; plain data that travels to the buyers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Db {
    // Not `PathBuf`, which serde refuses to carry when it is not UTF-8.
    directory: OsString,
    name: OsString,
}

/// What is wrong with the file.
#[derive(Debug)]
pub struct DbError {
    path: PathBuf,
    what: String,
}

impl Db {
    /// The file at `path`, which may be missing; links are followed, so that a rename replaces
    /// the file and not the link.
    pub fn at(path: &Path) -> Result<Db, DbError> {
        let fail = |what: String| DbError { path: path.to_owned(), what };
        let resolved = match fs::canonicalize(path) {
            Ok(resolved) => resolved,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
                let name = path.file_name().ok_or_else(|| fail("is not the name of a file".into()))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")))
                    .map_err(|e| fail(format!("its directory cannot be used: {e}")))?;
                parent.join(name)
            }
            Err(e) => return Err(fail(format!("cannot be found: {e}"))),
        };
        match (resolved.parent(), resolved.file_name()) {
            (Some(directory), Some(name)) => Ok(Db { directory: directory.into(), name: name.into() }),
            _ => Err(fail("is a directory".into())),
        }
    }

    pub fn path(&self) -> PathBuf {
        Path::new(&self.directory).join(&self.name)
    }

    pub fn exists(&self) -> bool {
        self.path().symlink_metadata().is_ok()
    }

    /// Reads and checks the file.
    pub fn read(&self) -> Result<Ledger, DbError> {
        self.permissions()?;
        let bytes = fs::read(self.path()).map_err(|e| self.error(format!("cannot be read: {e}")))?;
        Ledger::parse(&bytes).map_err(|what| self.error(what))
    }

    /// Puts `ledger` in the place of the file: aside, to the disk, and by one rename.
    pub fn write(&self, ledger: &Ledger) -> Result<(), DbError> {
        let permissions = if self.exists() { Some(self.permissions()?) } else { None };
        self.replace(&ledger.to_bytes(), permissions)
            .map_err(|e| self.error(format!("cannot be written: {e}")))
    }

    /// The permissions of the file, if it is one that we may replace. A rename asks only for the
    /// directory's, so a file that is protected is protected here.
    fn permissions(&self) -> Result<Permissions, DbError> {
        let found = fs::metadata(self.path()).map_err(|e| self.error(format!("cannot be read: {e}")))?;
        match found.permissions() {
            _ if found.is_dir() => Err(self.error("is a directory")),
            _ if !found.is_file() => Err(self.error("is not a regular file")),
            permissions if permissions.readonly() => Err(self.error("is write-protected")),
            permissions => Ok(permissions),
        }
    }

    fn replace(&self, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
        let pid = std::process::id();
        self.remove_aside_of(pid)?;
        let aside = self.beside(&format!("{pid}{ASIDE}"));
        let mut file = File::create_new(&aside)?;
        let written = file.write_all(bytes).and_then(|()| {
            permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions))?;
            file.sync_all()?;
            fs::rename(&aside, self.path())
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&aside);
            return Err(e);
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Removes what process `pid` was writing when it died; nothing, if it was not.
    pub fn remove_aside_of(&self, pid: u32) -> io::Result<()> {
        match fs::remove_file(self.beside(&format!("{pid}{ASIDE}"))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes the side files of every process. Only while no sale is going on.
    pub fn remove_asides(&self) -> Result<(), DbError> {
        let listed = fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let listed = listed.map_err(|e| self.error(format!("its directory cannot be listed: {e}")))?;
        for entry in listed {
            if let Some(pid) = self.pid_of_aside(&entry.file_name()) {
                self.remove_aside_of(pid).map_err(|e| self.error(format!("has a stale side file: {e}")))?;
            }
        }
        Ok(())
    }

    fn pid_of_aside(&self, name: &OsStr) -> Option<u32> {
        let name = name.as_encoded_bytes().strip_prefix(b".")?;
        let rest = name.strip_prefix(self.name.as_encoded_bytes())?.strip_prefix(b".")?;
        let digits = rest.strip_suffix(ASIDE.as_bytes())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// A hidden file next to this one, `.NAME.SUFFIX`.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".");
        name.push(suffix);
        Path::new(&self.directory).join(name)
    }

    pub fn error(&self, what: impl Into<String>) -> DbError {
        DbError { path: self.path(), what: what.into() }
    }
}

/// How the name of a side file ends.
const ASIDE: &str = ".aside";

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for DbError {}
