//! A copy of the shared memory at the last check.
//!
//! Recovery depends on the shared memory alone, so a state that has been checked need not be checked again.
#![allow(unsafe_code, reason = "reads memory that other processes may write")]

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::mapping::{Extent, Mapping};

const PAGE: usize = 4096;

pub(crate) struct Snapshot {
    mapping: Mapping,
    reader: File,
    extents: Vec<Extent>,
    /// The extents' bytes, one after the other.
    bytes: Vec<u8>,
    /// Pages allocated when the extents were found, in the file system's blocks.
    blocks: u64,
}

impl Snapshot {
    pub(crate) fn take(mapping: Mapping) -> Snapshot {
        let reader = mapping.reader();
        let mut snapshot = Snapshot { mapping, reader, extents: Vec::new(), bytes: Vec::new(), blocks: 0 };
        snapshot.retake();
        snapshot
    }

    pub(crate) fn reader(&self) -> &File {
        &self.reader
    }

    fn blocks_now(&self) -> u64 {
        self.reader.metadata().map_or(0, |data| data.blocks())
    }

    fn retake(&mut self) {
        self.blocks = self.blocks_now();
        self.extents = self.mapping.extents(&self.reader);
        self.bytes.clear();
        self.bytes.resize(self.extents.iter().map(|extent| extent.len).sum(), 0);
        self.renew_pages();
    }

    /// Updates the copy. Returns whether anything had changed.
    pub(crate) fn renew(&mut self) -> bool {
        if self.blocks != self.blocks_now() {
            self.retake();
            return true;
        }
        self.renew_pages()
    }

    fn renew_pages(&mut self) -> bool {
        let mut rest = &mut self.bytes[..];
        let mut changed = false;
        for extent in &self.extents {
            let (copy, behind) = rest.split_at_mut(extent.len);
            rest = behind;
            for (page, copy) in copy.chunks_mut(PAGE).enumerate() {
                // SAFETY: extents lie inside the mapping, and the file has pages there. The C library compares and
                // copies, so no reference is created to bytes that other processes may write.
                unsafe {
                    let shared = self.mapping.addr.add(extent.start + page * PAGE);
                    if libc::memcmp(shared.cast(), copy.as_ptr().cast(), copy.len()) != 0 {
                        libc::memcpy(copy.as_mut_ptr().cast(), shared.cast(), copy.len());
                        changed = true;
                    }
                }
            }
        }
        changed
    }
}
