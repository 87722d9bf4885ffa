//! [`Board`]: the place of each buyer, which the observer can read even after the buyer's death.
//!
//! ```text
//! byte 2n     the place of buyer n + 1: one of `Place`
//! byte 2n + 1 1 if it found the lock left by a dead buyer
//! ```
//!
//! A file without a name, written by single `pwrite`s. What a buyer wrote before it was killed stays in the page cache.
//! The board does not use the library, because it is evidence about the library's locks.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use serde::Serialize;

/// The stages of a buyer.
///
/// A buyer enters `Reading` after it has acquired the lock, and `Leaving` before it releases the lock. So a buyer that
/// died in `Reading`, `Deciding` or `Writing` died holding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Starting,
    Looking,
    Waiting,
    Reading,
    Deciding,
    Writing,
    Leaving,
}

impl Place {
    pub const ALL: [Place; 7] = [
        Place::Starting,
        Place::Looking,
        Place::Waiting,
        Place::Reading,
        Place::Deciding,
        Place::Writing,
        Place::Leaving,
    ];

    /// Returns whether the buyer holds the lock.
    pub fn is_inside(self) -> bool {
        (Place::Reading..=Place::Writing).contains(&self)
    }

    /// Returns the name of the place, also for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Place::Starting => "starting",
            Place::Looking => "looking",
            Place::Waiting => "waiting",
            Place::Reading => "reading",
            Place::Deciding => "deciding",
            Place::Writing => "writing",
            Place::Leaving => "leaving",
        }
    }

    fn from_byte(byte: u8) -> Place {
        Place::ALL.get(usize::from(byte)).copied().unwrap_or(Place::Starting)
    }
}

/// The board, open in this process. Buyers are numbered from 1.
#[derive(Debug)]
pub struct Board {
    file: File,
    buyers: u32,
}

impl Board {
    /// Creates a board on which every buyer is `Starting`.
    pub fn new(buyers: u32) -> io::Result<Board> {
        let file = tempfile::tempfile()?;
        file.set_len(2 * u64::from(buyers))?;
        Ok(Board { file, buyers })
    }

    /// Returns the path by which another process opens the board. The file has no other name, so it disappears with its
    /// last process.
    pub fn address(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub fn open(address: &str) -> io::Result<Board> {
        let file = File::options().read(true).write(true).open(address)?;
        let buyers = u32::try_from(file.metadata()?.len() / 2).unwrap_or(u32::MAX);
        Ok(Board { file, buyers })
    }

    pub fn enter(&self, buyer: u32, place: Place) -> io::Result<()> {
        self.file.write_all_at(&[place as u8], offset(buyer))
    }

    /// Enters `Reading`, and records in the same write whether a dead buyer had left the lock.
    pub fn enter_reading(&self, buyer: u32, recovered: bool) -> io::Result<()> {
        self.file.write_all_at(&[Place::Reading as u8, recovered.into()], offset(buyer))
    }

    /// Returns the places of all buyers, buyer 1 first.
    pub fn places(&self) -> io::Result<Vec<Place>> {
        Ok(self.read()?.chunks_exact(2).map(|entry| Place::from_byte(entry[0])).collect())
    }

    /// Returns how many buyers found the lock left by a dead buyer.
    pub fn recoveries(&self) -> io::Result<u32> {
        Ok(self.read()?.chunks_exact(2).map(|entry| u32::from(entry[1] != 0)).sum())
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 2 * self.buyers as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

fn offset(buyer: u32) -> u64 {
    2 * u64::from(buyer - 1)
}
