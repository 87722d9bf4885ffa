//! [`Db`]: the file with the stock. The file is whole at every moment, no matter which process is killed.
//!
//! ```text
//! {"count": 0, "sold": [{"ticket": 1, "buyer": 3, "pid": 4711}], ...fields that are not ours}
//! ```
//!
//! CRASH: the count and the sale change in one rename. Before the rename the old file is there, and perhaps a
//! side file `.NAME.PID.aside` of the dead buyer. The process that recovers the lock removes the side file.
//! After the rename the ticket is sold, whether or not the buyer lives to report it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;

/// A JSON file on disk, as plain data that can be sent to the buyers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Db {
    // Not a `PathBuf`, which serde refuses to serialize when it is not UTF-8.
    directory: OsString,
    name: OsString,
}

/// A problem with the file.
#[derive(Debug)]
pub struct DbError {
    path: PathBuf,
    what: String,
}

impl Db {
    /// Returns the file at `path`, which may be missing. Links are followed, so a rename replaces the file and not the
    /// link.
    pub fn at(path: &Path) -> Result<Db, DbError> {
        let fail = |what: String| DbError { path: path.to_owned(), what };
        if path.as_os_str() == "-" {
            return Err(fail("standard input cannot be sold from; a file of that name is ./-".into()));
        }
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
        self.read_stamped().map(|(ledger, _)| ledger)
    }

    /// Reads and checks the file. The stamp shows later whether the file is still the same.
    pub fn read_stamped(&self) -> Result<(Ledger, Stamp), DbError> {
        let mut file = self.open()?;
        let unreadable = |e: io::Error| self.error(format!("cannot be read: {e}"));
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok((Ledger::parse(&bytes).map_err(|what| self.error(what))?, stamp))
    }

    /// Replaces the file by `ledger`: writes a side file, syncs it, and renames it. With a stamp, only if the file is
    /// still the one that was read.
    pub fn write(&self, ledger: &Ledger, read: Option<Stamp>) -> Result<(), DbError> {
        let metadata = if self.exists() { Some(self.metadata()?) } else { None };
        if read.is_some_and(|read| metadata.as_ref().map(Stamp::of) != Some(read)) {
            return Err(self.error("was changed from outside during the sale; that change was kept"));
        }
        self.replace(&ledger.to_bytes(), metadata.as_ref())
            .map_err(|e| self.error(format!("cannot be written: {e}")))
    }

    /// Checks that the file can be replaced by another one with the same owner, group and mode.
    pub fn check_replaceable(&self) -> Result<(), DbError> {
        let metadata = self.metadata()?;
        self.write_aside(b"", Some(&metadata))
            .and_then(fs::remove_file)
            .map_err(|e| self.error(format!("cannot be replaced by a file with its owner and mode: {e}")))
    }

    /// Returns the file's metadata, if this process may replace the file. A rename checks only the directory's
    /// permissions, so this asks the kernel whether this user may write to the file.
    fn metadata(&self) -> Result<Metadata, DbError> {
        self.open()?.metadata().map_err(|e| self.error(format!("cannot be read: {e}")))
    }

    fn open(&self) -> Result<File, DbError> {
        let found = fs::metadata(self.path()).map_err(|e| self.error(format!("cannot be read: {e}")))?;
        if found.is_dir() {
            return Err(self.error("is a directory"));
        }
        if !found.is_file() {
            return Err(self.error("is not a regular file"));
        }
        if found.nlink() > 1 {
            let names = found.nlink();
            return Err(
                self.error(format!("has {names} names (hard links), and only this one would be changed"))
            );
        }
        File::options().read(true).write(true).open(self.path()).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => {
                self.error("is write-protected: this user may not read and write it")
            }
            _ => self.error(format!("cannot be opened to read and write: {e}")),
        })
    }

    fn replace(&self, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
        let aside = self.write_aside(bytes, like)?;
        if let Err(e) = fs::rename(&aside, self.path()) {
            let _ = fs::remove_file(&aside);
            return Err(e);
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Writes a side file with the owner, group and mode of another one.
    fn write_aside(&self, bytes: &[u8], like: Option<&Metadata>) -> io::Result<PathBuf> {
        let pid = std::process::id();
        self.remove_aside_of(pid)?;
        let aside = self.beside(&format!("{pid}{ASIDE}"));
        let mut file = File::create_new(&aside)?;
        let written = file.write_all(bytes).and_then(|()| {
            if let Some(like) = like {
                let own = file.metadata()?;
                if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
                    fchown(&file, Some(like.uid()), Some(like.gid()))?;
                }
                file.set_permissions(like.permissions())?;
            }
            file.sync_all()
        });
        match written {
            Ok(()) => Ok(aside),
            Err(e) => {
                let _ = fs::remove_file(&aside);
                Err(e)
            }
        }
    }

    /// Removes the side file that process `pid` was writing when it died, if there is one.
    pub fn remove_aside_of(&self, pid: u32) -> io::Result<()> {
        match fs::remove_file(self.beside(&format!("{pid}{ASIDE}"))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes the side files of every process. Call it only while no sale runs.
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

    /// Returns the path of a hidden file next to this one, `.NAME.SUFFIX`.
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

/// Identifies the content of a file that was read. Every change of the file produces a different stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The suffix of a side file's name.
const ASIDE: &str = ".aside";

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for DbError {}
