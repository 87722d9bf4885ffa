//! Memory limits of control groups, read from simulated hierarchies. The `hostile` tests use real control
//! groups.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::family::Board;
use procession::internals::memory_limit_by;

const MIB: u64 = 1 << 20;

/// A simulated machine: directories of control groups, and the text that `/proc` shows about them.
struct Machine {
    root: Board,
    mounts: Vec<u8>,
    groups: Vec<u8>,
}

impl Machine {
    fn new() -> Machine {
        let root = Board::new();
        let mut mounts = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n".to_vec();
        mounts.extend(b"31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n");
        mounts.extend(b"32 31 0:29 / /nowhere/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n");
        Machine { root, mounts, groups: b"11:cpuset:/\n10:cpu,cpuacct:/made/up\n1:name=systemd:/\n".to_vec() }
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        PathBuf::from(self.root.path()).join(OsStr::from_bytes(path))
    }

    /// Mounts the group `root` of a hierarchy at `point`. The caller escapes `point` as the kernel would.
    fn mounts(mut self, kind: &str, options: &str, root: &str, point: &str) -> Machine {
        let place = self.place(point.as_bytes());
        let line =
            format!("40 31 0:35 {root} {} rw,nosuid shared:9 - {kind} {kind} {options}\n", place.display());
        self.mounts.extend(line.into_bytes());
        self
    }

    /// Puts this process into a group, by a line as in `/proc/self/cgroup`.
    fn joins(mut self, line: &[u8]) -> Machine {
        self.groups.extend(line);
        self.groups.push(b'\n');
        self
    }

    /// Writes a file of a group.
    fn says(self, group: impl AsRef<[u8]>, file: &str, text: impl ToString) -> Machine {
        let directory = self.place(group.as_ref());
        fs::create_dir_all(&directory).expect("a directory can be made");
        fs::write(directory.join(file), text.to_string()).expect("a file can be written");
        self
    }

    fn limit(&self) -> Option<u64> {
        memory_limit_by(&self.groups, &self.mounts)
    }
}

#[test]
fn without_a_group_there_is_no_limit() {
    assert_eq!(memory_limit_by(b"", b""), None);
    assert_eq!(Machine::new().limit(), None);
    assert_eq!(Machine::new().mounts("cgroup2", "rw", "/", "two").limit(), None);
    assert_eq!(Machine::new().joins(b"0::/a").limit(), None);
    let damaged = b"0\n::\n0:\n4:memory\nx - cgroup\n - cgroup2\n- cgroup a b memory\n\\\\04 - - -\n";
    assert_eq!(memory_limit_by(damaged, damaged), None);
}

#[test]
fn version_2_applies_the_limit_of_every_ancestor() {
    let machine = || Machine::new().mounts("cgroup2", "rw,nsdelegate", "/", "two").joins(b"0::/a/b/c");
    assert_eq!(machine().says("two/a/b/c", "memory.max", "max\n").limit(), None);
    let own = || machine().says("two/a/b/c", "memory.max", format!("{}\n", 300 * MIB));
    assert_eq!(own().limit(), Some(300 * MIB));
    assert_eq!(own().says("two/a", "memory.max", 200 * MIB).limit(), Some(200 * MIB));
    assert_eq!(own().says("two/a/b", "memory.max", 400 * MIB).limit(), Some(300 * MIB));
    assert_eq!(own().says("two/a/other", "memory.max", MIB).limit(), Some(300 * MIB));
}

#[test]
fn version_2_applies_the_limit_that_slows_a_group_down() {
    let machine = Machine::new().mounts("cgroup2", "rw", "/", "two").joins(b"0::/a");
    let machine = machine.says("two/a", "memory.max", 300 * MIB).says("two/a", "memory.high", 100 * MIB);
    assert_eq!(machine.limit(), Some(100 * MIB));
}

const NO_LIMIT: u64 = 0x7fff_ffff_ffff_f000;

#[test]
fn version_1_applies_the_limit_of_every_ancestor() {
    let machine = || Machine::new().mounts("cgroup", "rw,memory", "/", "one").joins(b"4:memory:/a/b");
    let own = || machine().says("one/a/b", "memory.limit_in_bytes", 300 * MIB);
    assert_eq!(machine().says("one/a/b", "memory.limit_in_bytes", NO_LIMIT).limit(), Some(NO_LIMIT));
    assert_eq!(own().limit(), Some(300 * MIB));
    assert_eq!(own().says("one/a", "memory.limit_in_bytes", 200 * MIB).limit(), Some(200 * MIB));
    assert_eq!(own().says("one", "memory.limit_in_bytes", NO_LIMIT).limit(), Some(300 * MIB));
}

#[test]
fn version_1_applies_limits_of_ancestors_that_are_not_mounted() {
    let machine =
        Machine::new().mounts("cgroup", "rw,memory", "/docker/17", "one").joins(b"4:memory:/docker/17");
    let stat =
        format!("cache 0\nhierarchical_memory_limit {}\nhierarchical_memsw_limit {NO_LIMIT}\n", 250 * MIB);
    let machine = machine.says("one", "memory.limit_in_bytes", NO_LIMIT).says("one", "memory.stat", stat);
    assert_eq!(machine.limit(), Some(250 * MIB));
}

#[test]
fn several_controllers_may_share_a_hierarchy() {
    let machine =
        Machine::new().mounts("cgroup", "rw,cpu,memory,xattr", "/", "all").joins(b"2:cpu,memory:/a");
    assert_eq!(machine.says("all/a", "memory.limit_in_bytes", 300 * MIB).limit(), Some(300 * MIB));
}

#[test]
fn both_versions_apply_at_the_same_time() {
    let hybrid = || {
        let both =
            Machine::new().mounts("cgroup", "rw,memory", "/", "one").mounts("cgroup2", "rw", "/", "two");
        both.joins(b"4:memory:/a").joins(b"0::/b").says("two/b", "cgroup.procs", "")
    };
    assert_eq!(hybrid().says("one/a", "memory.limit_in_bytes", 300 * MIB).limit(), Some(300 * MIB));
    assert_eq!(hybrid().says("two/b", "memory.max", 200 * MIB).limit(), Some(200 * MIB));
}

#[test]
fn a_container_sees_its_group_as_the_root() {
    // Without a cgroup namespace, `/proc` names the path on the host.
    let container = Machine::new().mounts("cgroup2", "rw", "/kube/pod", "two").joins(b"0::/kube/pod/app");
    let container = container.says("two/app", "memory.max", 300 * MIB).says("two", "memory.max", 200 * MIB);
    assert_eq!(container.limit(), Some(200 * MIB));
    // The mount shows a part of the hierarchy that does not contain the group of the process.
    for group in [&b"0::/elsewhere"[..], b"0::/../outside", b"0::/"] {
        let container = Machine::new().mounts("cgroup2", "rw", "/kube", "two").joins(group);
        assert_eq!(container.says("two", "memory.max", 200 * MIB).limit(), Some(200 * MIB), "{group:?}");
    }
}

#[test]
fn a_mounted_group_of_another_program_is_ignored() {
    let machine =
        Machine::new().mounts("cgroup2", "rw", "/", "two").mounts("cgroup2", "rw", "/guest", "guest");
    let machine = machine.joins(b"0::/a").says("two/a", "memory.max", 300 * MIB);
    assert_eq!(machine.says("guest", "memory.max", MIB).limit(), Some(300 * MIB));
}

#[test]
fn a_path_outside_the_mount_is_not_followed() {
    let machine = Machine::new().mounts("cgroup2", "rw", "/", "a/two").joins(b"0::/../../secret");
    let machine = machine.says("secret", "memory.max", MIB).says("a/two", "memory.max", 200 * MIB);
    assert_eq!(machine.limit(), Some(200 * MIB));
}

#[test]
fn names_of_groups_and_mounts_may_contain_any_byte() {
    let machine =
        Machine::new().mounts("cgroup2", "rw", "/", "a\\040b\\134c\\011d").joins(b"0::/x:y z/caf\xe9");
    let machine = machine.says("a b\\c\td/x:y z/caf\u{fffd}", "memory.max", MIB);
    let machine = machine.says(b"a b\\c\td/x:y z/caf\xe9", "memory.max", 300 * MIB);
    assert_eq!(machine.limit(), Some(300 * MIB));
}
