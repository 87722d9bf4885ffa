//! [`Found`]: the paths of programs, and the environment of all commands of a run.

use std::collections::HashMap;
use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The maximum number of descriptors per command, and the number of other descriptors of this process.
const COMMAND_FILES: u64 = 4;
const OTHER_FILES: u64 = 64;

/// The overhead of a word: its terminator and a pointer.
pub const WORD_BYTES: usize = 9;

/// Programs that were found on the search path.
#[derive(Default)]
pub struct Found(HashMap<Vec<u8>, CString>);

impl Found {
    /// Returns the path of a program. Names without a slash are searched for in `PATH`.
    pub fn find(&mut self, name: &[u8]) -> io::Result<&CStr> {
        if !self.0.contains_key(name) {
            let path = if name.contains(&b'/') { name.to_owned() } else { search(name)? };
            self.0.insert(name.to_owned(), CString::new(path)?);
        }
        Ok(&self.0[name])
    }
}

fn search(name: &[u8]) -> io::Result<Vec<u8>> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut refused = ErrorKind::NotFound;
    for directory in env::split_paths(&path) {
        let candidate = Path::new(&directory).join(OsStr::from_bytes(name));
        match candidate.metadata() {
            // The kernel knows the user, access control lists and file systems without programs. Mode bits do not say.
            Ok(metadata) if metadata.is_file() => {
                match accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS) {
                    Ok(()) => return Ok(candidate.into_os_string().into_vec()),
                    Err(_) => refused = ErrorKind::PermissionDenied,
                }
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                refused = ErrorKind::PermissionDenied
            }
            _ => {}
        }
    }
    Err(refused.into())
}

/// Returns the environment of the commands, with the mark of this run.
pub fn environment() -> Vec<CString> {
    let is_ours =
        |name: &OsStr| ["PROCESSION_JOB", "PROCESSION_SLOT", "PROCESSION_RUN"].iter().any(|own| name == *own);
    let variables = env::vars_os().filter(|(name, _)| !is_ours(name));
    let text = variables.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    text.chain([mark_of_run().into_bytes()]).filter_map(|text| CString::new(text).ok()).collect()
}

/// Returns how many bytes the words of a command may take with their pointers, at most 128 KiB as in other programs of
/// this kind. The kernel limits words and environment together to a quarter of the stack's limit.
pub fn line_bytes() -> usize {
    const MOST: u64 = 128 << 10;
    /// The kernel's own limits, however large or small the stack may be.
    const KERNEL: (u64, u64) = (128 << 10, 6 << 20);
    /// The variables of each command, and the name of the program, which the kernel copies as well.
    const OTHERS: usize = 4096 + 2048;
    let stack = getrlimit(Resource::Stack).current.unwrap_or(u64::MAX);
    let limit = (stack / 4).clamp(KERNEL.0, KERNEL.1);
    let environment = environment().iter().map(|text| text.count_bytes() + WORD_BYTES).sum::<usize>();
    limit.saturating_sub((environment + OTHERS) as u64).min(MOST) as usize
}

/// Returns the variable that marks all commands of this run.
pub fn mark_of_run() -> String {
    format!("PROCESSION_RUN={}", std::process::id())
}

/// Raises the limit of open files for `jobs` commands. Returns the former limit if it was too low.
pub fn raise_open_files(jobs: usize) -> Option<u64> {
    let needed = jobs as u64 * COMMAND_FILES + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let before = current.filter(|&current| current < needed)?;
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).ok()?;
    Some(before)
}
