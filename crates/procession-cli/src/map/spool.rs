//! [`Spool`]: output of a command that cannot be written yet. A small part is in memory, and the rest is in a file
//! without a name.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FallocateFlags, fallocate};

/// The memory limit of all spools together.
const MEMORY_BYTES: usize = 4 << 20;
const PIECE_BYTES: usize = 64 << 10;

/// The state that all spools of a run share.
#[derive(Clone, Debug)]
pub struct Store(Rc<RefCell<Shared>>);

#[derive(Debug)]
struct Shared {
    memory: usize,
    directory: PathBuf,
    file: Option<File>,
    end: u64,
}

/// A part of the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    length: u64,
}

#[derive(Debug)]
pub struct Spool {
    store: Store,
    /// The first bytes. All later bytes, from the moment when memory was full, are in the file.
    head: Vec<u8>,
    extents: VecDeque<Extent>,
    length: u64,
}

impl Store {
    pub fn new(directory: PathBuf) -> Store {
        Store(Rc::new(RefCell::new(Shared { memory: 0, directory, file: None, end: 0 })))
    }

    pub fn spool(&self) -> Spool {
        Spool { store: self.clone(), head: Vec::new(), extents: VecDeque::new(), length: 0 }
    }
}

impl Shared {
    fn append(&mut self, bytes: &[u8]) -> io::Result<Extent> {
        let start = self.end;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.directory)?),
        };
        file.write_all_at(bytes, start)?;
        self.end += bytes.len() as u64;
        Ok(Extent { start, length: bytes.len() as u64 })
    }

    /// Frees the disk space of an extent. A file system without holes frees the space only when the file is
    /// closed.
    fn release(&self, extent: Extent) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Some(file) = &self.file {
            let _ = fallocate(file, flags, extent.start, extent.length);
        }
    }
}

impl Spool {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut shared = self.store.0.borrow_mut();
        self.length += bytes.len() as u64;
        if self.extents.is_empty() && shared.memory + bytes.len() <= MEMORY_BYTES {
            shared.memory += bytes.len();
            self.head.extend_from_slice(bytes);
            return Ok(());
        }
        let directory = shared.directory.display().to_string();
        let extent = shared
            .append(bytes)
            .map_err(|e| io::Error::new(e.kind(), format!("output cannot wait in {directory}: {e}")))?;
        match self.extents.back_mut() {
            Some(last) if last.start + last.length == extent.start => last.length += extent.length,
            _ => self.extents.push_back(extent),
        }
        Ok(())
    }

    /// Returns how many bytes were pushed in total.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes out, in the order in which they came. Returns nothing at the end.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        let mut shared = self.store.0.borrow_mut();
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            shared.memory -= head.len();
            return Ok(head);
        }
        let Some(first) = self.extents.front_mut() else { return Ok(Vec::new()) };
        let piece = Extent { start: first.start, length: first.length.min(PIECE_BYTES as u64) };
        let mut bytes = vec![0; piece.length as usize];
        let file =
            shared.file.as_ref().ok_or_else(|| io::Error::other("the output that waits has no file"))?;
        file.read_exact_at(&mut bytes, piece.start)?;
        first.start += piece.length;
        first.length -= piece.length;
        if first.length == 0 {
            self.extents.pop_front();
        }
        shared.release(piece);
        Ok(bytes)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let mut shared = self.store.0.borrow_mut();
        shared.memory -= self.head.len();
        self.extents.iter().for_each(|extent| shared.release(*extent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_also_through_the_file() {
        let store = Store::new(std::env::temp_dir());
        let (mut one, mut other) = (store.spool(), store.spool());
        let piece = |n: usize| vec![n as u8; 1 << 20];
        for n in 0..10 {
            one.push(&piece(n)).unwrap();
            other.push(&piece(100 + n)).unwrap();
        }
        assert!(store.0.borrow().memory <= MEMORY_BYTES && store.0.borrow().file.is_some());
        for (spool, first) in [(&mut one, 0), (&mut other, 100)] {
            let expected: Vec<u8> = (0..10).flat_map(|n| piece(first + n)).collect();
            let mut taken = Vec::new();
            loop {
                let bytes = spool.take().unwrap();
                if bytes.is_empty() {
                    break;
                }
                taken.extend(bytes);
            }
            assert!(taken == expected);
        }
        drop((one, other));
        assert_eq!(store.0.borrow().memory, 0);
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let store = Store::new("/no/such/directory".into());
        let error = store.spool().push(&vec![0; MEMORY_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }
}
