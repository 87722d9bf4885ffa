//! How a process names a function for another process of the same executable.
//!
//! Each function that is ever spawned has a constant [`EntryPoint`] in the executable's read-only data. A
//! process names a function by this constant's distance from the executable's base, together with a hash of
//! the function's type name. The other process checks both before it uses the constant.

use std::sync::OnceLock;

use crate::arena::Arena;
use crate::os::image;
use crate::{Error, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"prc-entr");

/// The result of a call.
pub(crate) enum Returned {
    /// The function returned a value, which is in this block. 0 stands for an empty value.
    Value(u64),
    /// As `Value`, but the value is an `Err`. Also contains its text.
    Err(u64, String),
    /// The function returned a value that cannot be sent. Contains the reason, and the text of the value.
    Unsendable(Error, String),
}

/// Runs a function on encoded arguments, and frees the block with the arguments.
pub(crate) type Run = fn(arena: &'static Arena, args: u64) -> Result<Returned>;

/// One function of the executable.
#[repr(C)]
pub(crate) struct EntryPoint {
    magic: u64,
    run: Run,
    type_name: fn() -> &'static str,
}

impl EntryPoint {
    pub(crate) const fn new(run: Run, type_name: fn() -> &'static str) -> EntryPoint {
        EntryPoint { magic: MAGIC, run, type_name }
    }

    /// Returns the offset of this entry in the executable, and the hash of its type.
    pub(crate) fn name(&'static self) -> (u64, u64) {
        (image::offset_of(self), hash((self.type_name)()))
    }

    pub(crate) fn run(&self) -> Run {
        self.run
    }
}

/// Returns the entry that another process named.
pub(crate) fn resolve(offset: u64, type_hash: u64) -> Result<&'static EntryPoint> {
    let unknown = |why| Error::Unsupported(format!("the function to run is not in this executable: {why}"));
    let aligned = offset.is_multiple_of(align_of::<EntryPoint>() as u64);
    if !aligned || !constants().contains(offset, size_of::<EntryPoint>() as u64) {
        return Err(unknown("its place is not in the read-only data"));
    }
    // SAFETY: the memory is mapped, read-only, large enough and aligned. Any bytes are valid for the magic,
    // and the other fields are read only if the magic is right.
    let entry = unsafe { &*((image::base() + offset as usize) as *const EntryPoint) };
    if entry.magic != MAGIC {
        return Err(unknown("there is something else in its place"));
    }
    if hash((entry.type_name)()) != type_hash {
        return Err(unknown("another function is in its place"));
    }
    Ok(entry)
}

/// Returns the range of the executable's read-only data. It is found once, and children inherit it from the supervisor.
pub(crate) fn constants() -> &'static image::Constants {
    static CONSTANTS: OnceLock<image::Constants> = OnceLock::new();
    CONSTANTS.get_or_init(image::Constants::of_this_process)
}

/// Returns the FNV-1a hash of a text.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
