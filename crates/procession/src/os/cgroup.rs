//! The control groups that limit this process's memory, in both versions of the interface.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The version of a hierarchy of control groups. A machine can have both at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    One,
    Two,
}

/// A mounted hierarchy that controls memory, and this process's group in it.
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Where the hierarchy is mounted. A container may see only a part of it.
    top: PathBuf,
    /// The directory of this process's group. If the group lies outside of the mounted part, this is the
    /// mount point itself.
    pub(crate) own: PathBuf,
}

impl Hierarchy {
    /// Returns the hierarchies that `/proc/self/cgroup` and `/proc/self/mountinfo` name.
    pub(crate) fn all() -> Vec<Hierarchy> {
        let read = |file| fs::read(file).unwrap_or_default();
        Hierarchy::from_files(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// As [`all`](Hierarchy::all), from the contents of the two files.
    fn from_files(groups: &[u8], mounts: &[u8]) -> Vec<Hierarchy> {
        let mounts = mounts.split(|&byte| byte == b'\n').filter_map(Mount::parse);
        let mounts: Vec<Mount> = mounts.collect();
        let groups = groups.split(|&byte| byte == b'\n').filter_map(memory_group);
        groups.flat_map(|(version, path)| Hierarchy::of_group(version, &path, &mounts)).collect()
    }

    fn of_group(version: Version, path: &Path, mounts: &[Mount]) -> Vec<Hierarchy> {
        let mounts = || mounts.iter().filter(|mount| mount.version == version);
        let shown = mounts().filter_map(|mount| {
            let own = mount.point.join(path.strip_prefix(&mount.root).ok().filter(|below| is_plain(below))?);
            own.is_dir().then(|| Hierarchy { version, top: mount.point.clone(), own })
        });
        let shown: Vec<Hierarchy> = shown.collect();
        if !shown.is_empty() {
            return shown;
        }
        // In a container, the path may name a directory that the container does not see. Then the mount point
        // shows the container's own group.
        mounts()
            .map(|mount| Hierarchy { version, top: mount.point.clone(), own: mount.point.clone() })
            .collect()
    }

    /// Returns the lowest of the limits of the group and of all visible groups above it.
    fn memory_limit(&self) -> Option<u64> {
        let groups = self.own.ancestors().take_while(|group| group.starts_with(&self.top));
        groups.filter_map(|group| self.version.memory_limit(group)).min()
    }
}

impl Version {
    /// Returns what one group allows, in bytes. If a group exceeds its `memory.high`, the kernel slows the
    /// group down until it hardly runs. So `memory.high` is a limit, too.
    fn memory_limit(self, group: &Path) -> Option<u64> {
        let read = |file| fs::read_to_string(group.join(file)).unwrap_or_default();
        // The file of a group without a limit contains `max`, which is not a number, or a number larger than
        // any machine's memory.
        let number = |file| read(file).trim().parse::<u64>().ok();
        match self {
            Version::Two => [number("memory.max"), number("memory.high")].into_iter().flatten().min(),
            Version::One => {
                let stat = read("memory.stat");
                // This line includes the limits of groups further up that a container does not see.
                let all = stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "));
                let all = all.and_then(|bytes| bytes.trim().parse().ok());
                [number("memory.limit_in_bytes"), all].into_iter().flatten().min()
            }
        }
    }
}

/// Returns how many bytes of memory this process's control groups allow, or `None` if they set no limit.
pub(crate) fn memory_limit() -> Option<u64> {
    Hierarchy::all().iter().filter_map(Hierarchy::memory_limit).min()
}

/// As [`memory_limit`], from the contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
#[cfg(feature = "internals")]
pub(crate) fn memory_limit_by(groups: &[u8], mounts: &[u8]) -> Option<u64> {
    Hierarchy::from_files(groups, mounts).iter().filter_map(Hierarchy::memory_limit).min()
}

/// Returns the version and the path from a line of `/proc/self/cgroup` (`4:memory:/a/b` or `0::/a/b`), if the
/// line names a group that may limit memory.
fn memory_group(line: &[u8]) -> Option<(Version, PathBuf)> {
    let mut parts = line.splitn(3, |&byte| byte == b':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let has_memory = controllers.split(|&byte| byte == b',').any(|name| name == b"memory");
    let version = if has_memory { Version::One } else { Version::Two };
    (has_memory || number == b"0").then(|| (version, OsStr::from_bytes(path).into()))
}

/// Returns whether a relative path stays below the directory that it starts from. A group outside of this
/// process's namespace has a path such as `/../other`.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// A mount of a hierarchy that may control memory.
struct Mount {
    version: Version,
    /// The group that is visible at the mount point.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Reads a line of `/proc/self/mountinfo`: `36 35 0:3 ROOT POINT options [more] - TYPE source options`.
    fn parse(line: &[u8]) -> Option<Mount> {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = words.iter().position(|&word| word == b"-")?;
        let has_memory = || words.get(dash + 3)?.split(|&byte| byte == b',').find(|&name| name == b"memory");
        let version = match *words.get(dash + 1)? {
            b"cgroup2" => Version::Two,
            b"cgroup" if has_memory().is_some() => Version::One,
            _ => return None,
        };
        Some(Mount { version, root: unescaped(words.get(3)?), point: unescaped(words.get(4)?) })
    }
}

/// Returns a path from `mountinfo` without escapes. The kernel writes a space as `\040`, and escapes some
/// other bytes in the same way.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), word);
    while let [first, after @ ..] = rest {
        let code =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsStr::from_bytes(&bytes).into()
}
