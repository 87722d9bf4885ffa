//! The executable: where it is loaded, and whether this library is part of it.
//!
//! A function is sent to another process as an offset into the executable. This is sound only if the code
//! that computes the offset and the code that uses the offset are in the same file.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

unsafe extern "C" {
    /// The first byte of the file (executable or library) that this code was linked into.
    #[link_name = "__ehdr_start"]
    static FIRST_BYTE: u8;
    #[link_name = "__init_array_start"]
    static INIT_ARRAY_START: InitFn;
    #[link_name = "__init_array_end"]
    static INIT_ARRAY_END: InitFn;
}

/// The paths by which the supervisor and a child execute the program. Both lead to the same file as
/// `/proc/self/exe`. The kernel keeps the executed path, and no constructor can change the kernel's copy. So
/// a process can see from the path alone that it must not run `main`, even if its environment and descriptors
/// were changed.
pub(crate) const AS_SUPERVISOR: &CStr = c"/proc/self/./exe";
pub(crate) const AS_CHILD: &CStr = c"/proc/self/././exe";

/// Returns the path by which this process was executed. The kernel keeps this path.
pub(crate) fn executed_path() -> Option<&'static CStr> {
    // SAFETY: the kernel stores a C string there. The string stays while the process runs this program.
    unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!path.is_null()).then(|| CStr::from_ptr(path))
    }
}

/// Returns whether this process executed the program as a helper of a family.
pub(crate) fn is_helper() -> bool {
    executed_path().is_some_and(|path| [AS_SUPERVISOR, AS_CHILD].contains(&path))
}

/// Returns whether this code is in the executable itself. The alternative is a library that a helper loaded
/// later.
pub(crate) fn is_in_executable() -> bool {
    // SAFETY: every loaded file begins with its header, which contains the offset of its program headers.
    let headers = unsafe { (base() as *const libc::Elf64_Ehdr).read().e_phoff };
    // SAFETY: a plain call.
    base() as u64 + headers == unsafe { libc::getauxval(libc::AT_PHDR) }
}

/// A function that the dynamic loader calls before `main`.
pub(crate) type InitFn = extern "C" fn(argc: i32, argv: *const *const u8, envp: *const *const u8);

/// Returns the address at which the executable is loaded in this process.
pub(crate) fn base() -> usize {
    (&raw const FIRST_BYTE) as usize
}

/// Returns the distance of an address of the executable from its base.
pub(crate) fn offset_of<T>(at: *const T) -> u64 {
    (at as usize).wrapping_sub(base()) as u64
}

/// Calls every entry of `.init_array` that comes after `hook`. The loader would have called these entries if
/// `hook` had returned.
///
/// # Safety
/// `hook` calls this. The loader has called `hook` with these arguments, as an entry of that array.
pub(crate) unsafe fn run_later_constructors(
    hook: InitFn,
    argc: i32,
    argv: *const *const u8,
    envp: *const *const u8,
) {
    let (mut at, end) = (&raw const INIT_ARRAY_START, &raw const INIT_ARRAY_END);
    let mut found = false;
    while at < end {
        // SAFETY: between the two symbols, the linker puts function pointers. The loader skips null and -1,
        // and these two must not become a `fn`.
        let entry = unsafe { at.cast::<usize>().read() };
        if found && entry != 0 && entry != usize::MAX {
            // SAFETY: the entry is a constructor that the loader would call with the same arguments.
            unsafe { at.read()(argc, argv, envp) };
        }
        found |= entry == hook as usize;
        // SAFETY: the pointer stays within the array or one past its end.
        at = unsafe { at.add(1) };
    }
}

/// The ranges of memory that cannot have changed: mapped, readable, not writable.
pub(crate) struct Constants(Vec<(u64, u64)>);

impl Constants {
    pub(crate) fn of_this_process() -> Constants {
        let maps = fs::read(MAPS).unwrap_or_default();
        let constant = Mapping::all(&maps).filter(|m| m.read && !m.write);
        Constants(constant.map(|m| (m.from, m.to)).collect())
    }

    /// Returns whether the `bytes` bytes at `offset` from the executable's base lie in one of these ranges.
    pub(crate) fn contains(&self, offset: u64, bytes: u64) -> bool {
        let range =
            (base() as u64).checked_add(offset).and_then(|from| Some((from, from.checked_add(bytes)?)));
        range.is_some_and(|(from, to)| self.0.iter().any(|&(low, high)| low <= from && to <= high))
    }
}

/// Makes forks of this process cheaper: in a fork, the code pages that this process has used are already
/// mapped.
///
/// A fork does not copy the page tables of file mappings, because page faults can fill them again. Each such
/// fault costs more than copying a hundred entries. But the kernel does copy the page table of a file mapping
/// that has a private copy of a page. So this function overwrites one byte of each code mapping with the same
/// value through `/proc/self/mem`, as a debugger does. If the kernel refuses, nothing is lost.
pub(crate) fn share_code_pages_with_forks() {
    use std::os::unix::fs::FileExt;
    let Ok(maps) = fs::read(MAPS) else { return };
    let Ok(memory) = fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem") else { return };
    for mapping in Mapping::all(&maps).filter(|m| m.execute && m.inode != 0) {
        let mut byte = [0];
        if memory.read_exact_at(&mut byte, mapping.from).is_ok() {
            let _ = memory.write_at(&byte, mapping.from);
        }
    }
}

/// The list of this process's mappings. The paths in it are bytes and need not be valid UTF-8.
const MAPS: &str = "/proc/self/maps";

struct Mapping<'a> {
    from: u64,
    to: u64,
    read: bool,
    write: bool,
    execute: bool,
    device: (u32, u32),
    inode: u64,
    path: &'a [u8],
}

impl<'a> Mapping<'a> {
    fn all(maps: &'a [u8]) -> impl Iterator<Item = Mapping<'a>> {
        // The kernel escapes a newline in a path.
        maps.split(|&byte| byte == b'\n').filter_map(Mapping::parse)
    }

    fn parse(line: &'a [u8]) -> Option<Mapping<'a>> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let ((from, to), rights, _offset) = (text()?.split_once('-')?, text()?.as_bytes(), text()?);
        let ((major, minor), inode) = (text()?.split_once(':')?, text()?);
        Some(Mapping {
            from: u64::from_str_radix(from, 16).ok()?,
            to: u64::from_str_radix(to, 16).ok()?,
            read: rights.first() == Some(&b'r'),
            write: rights.get(1) == Some(&b'w'),
            execute: rights.get(2) == Some(&b'x'),
            device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
            inode: inode.parse().ok()?,
            path: words.next().unwrap_or(b"").trim_ascii_start(),
        })
    }

    /// Returns whether `path` is the path of the mapped file.
    fn is_at(&self, path: &Path) -> bool {
        let mut escaped = Vec::with_capacity(self.path.len());
        for &byte in path.as_os_str().as_bytes() {
            match byte {
                b'\n' => escaped.extend_from_slice(b"\\012"),
                other => escaped.push(other),
            }
        }
        escaped == self.path
    }
}

/// Checks that the code at `anchor` belongs to the file that `/proc/self/exe` would execute. The check fails
/// if `dlopen` loaded this library, or if the program was started as `ld.so program`.
pub(crate) fn check_is_executable(anchor: usize) -> io::Result<()> {
    let unsupported = |why: &str| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{why}, but only code that is linked into the executable itself can spawn processes"),
        )
    };
    let maps = fs::read(MAPS)?;
    let anchor = anchor as u64;
    let mapping = Mapping::all(&maps).find(|m| m.from <= anchor && anchor < m.to);
    let mapping = mapping.ok_or_else(|| unsupported("this code is in no mapped file"))?;
    let exe = fs::metadata("/proc/self/exe")?;
    let same_file =
        exe.ino() == mapping.inode && (libc::major(exe.dev()), libc::minor(exe.dev())) == mapping.device;
    // With stacked file systems, the list of mappings shows another device than the file's metadata. Then the
    // path decides.
    let same_path = || fs::read_link("/proc/self/exe").is_ok_and(|path| mapping.is_at(&path));
    if same_file || same_path() {
        Ok(())
    } else {
        Err(unsupported("this library was loaded from another file than the program"))
    }
}

/// Returns whether the program runs with more rights than its user has, as a setuid program does.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: a plain call.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
