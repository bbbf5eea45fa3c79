//! The resources that the process may use: cores and memory, as limited by its control group.

use std::{fs, path::Path, thread};

/// The number of cores that the process may use, by its affinity and the quota of its control
/// group.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The memory that the process may use, in bytes: the lowest limit of its control group and of the
/// groups above it, or else the memory of the machine. `None` if neither can be read.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    [cgroup_limit(Path::new("/sys/fs/cgroup")), total_memory()].into_iter().flatten().min()
}

fn cgroup_limit(root: &Path) -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    // Version 2 has one line, "0::/path"; version 1 has one for each controller.
    let path_of = |wanted: &str| {
        membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let ours = controllers.split(',').any(|name| name == wanted);
            ours.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let unified = path_of("").and_then(|path| least(root, &path, "memory.max"));
    let legacy = path_of("memory")
        .and_then(|path| least(&root.join("memory"), &path, "memory.limit_in_bytes"));
    [unified, legacy].into_iter().flatten().min()
}

/// The lowest limit from the group at `path` up to `root`.
fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    // In a container, the path is often that of the host, while `root` is already the group itself.
    root.join(path)
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
        .min()
}

fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.path().join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        fs::write(group.join("memory.max"), "2000\n").unwrap();
        assert_eq!(least(root.path(), "a/b", "memory.max"), Some(1000));
        assert_eq!(least(root.path(), "not/here", "memory.max"), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(cores() >= 1);
        assert!(memory_limit().is_none_or(|bytes| bytes > 1024 * 1024));
    }
}
