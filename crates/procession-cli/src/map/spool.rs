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
/// The sizes of a spool's first extent in the file, and of its largest. Each extent is twice as large as the one
/// before. Large extents are few, so that a spool is dropped by a few system calls.
const EXTENT_BYTES: (u64, u64) = (4 << 10, 16 << 20);

/// The state that all spools of a run share.
#[derive(Clone, Debug)]
pub struct Store(Rc<RefCell<Shared>>);

#[derive(Debug)]
struct Shared {
    memory: usize,
    directory: PathBuf,
    file: Option<File>,
    end: u64,
    /// The number of extents that are in use. The file is closed when there are none.
    extents: u64,
}

/// A part of the file. It may be longer than its content.
#[derive(Debug)]
struct Extent {
    start: u64,
    size: u64,
    /// The bytes before this position have been taken out.
    taken: u64,
    filled: u64,
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
        Store(Rc::new(RefCell::new(Shared { memory: 0, directory, file: None, end: 0, extents: 0 })))
    }

    pub fn spool(&self) -> Spool {
        Spool { store: self.clone(), head: Vec::new(), extents: VecDeque::new(), length: 0 }
    }
}

impl Shared {
    fn allocate(&mut self, size: u64) -> io::Result<Extent> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(&self.directory)?);
        }
        let start = self.end;
        self.end += size;
        self.extents += 1;
        Ok(Extent { start, size, taken: 0, filled: 0 })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the output that waits has no file"))
    }

    /// Frees the disk space of an extent. A file system without holes frees the space only when the file is
    /// closed.
    fn release(&mut self, extent: &Extent) {
        self.extents -= 1;
        if self.extents == 0 {
            (self.file, self.end) = (None, 0);
        } else if let Some(file) = &self.file {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(file, flags, extent.start, extent.size);
        }
    }
}

impl Spool {
    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// The file cannot be created or written. The error names its directory.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut shared = self.store.0.borrow_mut();
        if self.extents.is_empty() && shared.memory + bytes.len() <= MEMORY_BYTES {
            shared.memory += bytes.len();
            self.head.extend_from_slice(bytes);
            self.length += bytes.len() as u64;
            return Ok(());
        }
        drop(shared);
        self.push_to_file(bytes).map_err(|e| {
            let directory = self.store.0.borrow().directory.display().to_string();
            io::Error::new(e.kind(), format!("output cannot wait in {directory}: {e}"))
        })
    }

    fn push_to_file(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut shared = self.store.0.borrow_mut();
        while !bytes.is_empty() {
            if self.extents.back().is_none_or(|last| last.filled == last.size) {
                let (first, most) = EXTENT_BYTES;
                let size = self.extents.back().map_or(first, |last| (last.size * 2).min(most));
                self.extents.push_back(shared.allocate(size)?);
            }
            let Some(last) = self.extents.back_mut() else { break };
            let room = usize::try_from(last.size - last.filled).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            shared.file()?.write_all_at(now, last.start + last.filled)?;
            last.filled += now.len() as u64;
            self.length += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Appends the content of another spool.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn append(&mut self, mut other: Spool) -> io::Result<()> {
        let head = other.take_head();
        if !head.is_empty() {
            self.push(&head)?;
        }
        if other.length > PIECE_BYTES as u64 {
            self.length += other.length - head.len() as u64;
            self.extents.append(&mut other.extents);
            return Ok(());
        }
        // Many small extents would take more memory than their content.
        loop {
            let bytes = other.take()?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.push(&bytes)?;
        }
    }

    /// Returns how many bytes were pushed in total.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether nothing is in the file.
    pub fn is_in_memory(&self) -> bool {
        self.extents.is_empty()
    }

    fn take_head(&mut self) -> Vec<u8> {
        let head = std::mem::take(&mut self.head);
        self.store.0.borrow_mut().memory -= head.len();
        head
    }

    /// Takes the next bytes out, in the order in which they came. Returns nothing at the end.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        if !self.head.is_empty() {
            return Ok(self.take_head());
        }
        let mut shared = self.store.0.borrow_mut();
        let Some(first) = self.extents.front_mut() else { return Ok(Vec::new()) };
        let length = (first.filled - first.taken).min(PIECE_BYTES as u64);
        let mut bytes = vec![0; length as usize];
        shared.file()?.read_exact_at(&mut bytes, first.start + first.taken)?;
        first.taken += length;
        if first.taken == first.filled
            && let Some(extent) = self.extents.pop_front()
        {
            shared.release(&extent);
        }
        Ok(bytes)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let mut shared = self.store.0.borrow_mut();
        shared.memory -= self.head.len();
        self.extents.iter().for_each(|extent| shared.release(extent));
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

    fn content(mut spool: Spool) -> Vec<u8> {
        let pieces = std::iter::from_fn(|| Some(spool.take().unwrap()).filter(|bytes| !bytes.is_empty()));
        pieces.flatten().collect()
    }

    #[test]
    fn spools_can_be_joined() {
        let store = Store::new(std::env::temp_dir());
        for lengths in [[3, 5, 7], [3, 5 << 20, 100_000], [5 << 20, 10, 5 << 20], [4 << 20, 4 << 20, 1]] {
            let mut all = store.spool();
            let mut expected = Vec::new();
            for (length, byte) in lengths.into_iter().zip(*b"abc") {
                let (bytes, mut next) = (vec![byte; length], store.spool());
                next.push(&bytes).unwrap();
                all.append(next).unwrap();
                expected.extend(bytes);
            }
            assert_eq!(all.length(), expected.len() as u64);
            assert!(content(all) == expected, "{lengths:?}");
        }
        let shared = store.0.borrow();
        assert!(shared.memory == 0 && shared.file.is_none(), "{shared:?}");
    }

    #[test]
    fn a_large_spool_has_few_extents_and_the_file_closes_with_the_last_one() {
        let store = Store::new(std::env::temp_dir());
        let (mut one, mut other) = (store.spool(), store.spool());
        for _ in 0..1000 {
            one.push(&[0; 64 << 10]).unwrap();
            other.push(&[0; 64 << 10]).unwrap();
        }
        assert!(one.extents.len() < 20, "{}", one.extents.len());
        drop(one);
        assert!(store.0.borrow().file.is_some());
        drop(other);
        assert!(store.0.borrow().file.is_none());
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let store = Store::new("/no/such/directory".into());
        let error = store.spool().push(&vec![0; MEMORY_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }
}
