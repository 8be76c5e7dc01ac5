//! The memory of this process.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// Memory that this process may still take, in bytes: the least of what the machine has free,
/// the limits of its cgroup and of those above it (version 2 or 1), and its own address space limit.
pub fn available_memory() -> Option<u64> {
    let free = kilobytes("/proc/meminfo", "MemAvailable:");
    let address = address_limit().map(|limit| {
        let used = kilobytes("/proc/self/status", "VmSize:").unwrap_or_default();
        limit.saturating_sub(used)
    });
    [free, cgroup(), address].into_iter().flatten().min()
}

/// The address space that this process may have, in bytes, if that is limited.
pub fn address_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the result.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    (got == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The files of a control group.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with the pages of files that nobody needs: the system takes them
    /// back before a limit is met.
    idle: &'static str,
}

const VERSION_2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    idle: "inactive_file",
};

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    idle: "total_inactive_file",
};

/// What the control groups of this process leave.
fn cgroup() -> Option<u64> {
    let own = read(Path::new("/proc/self/cgroup"))?;
    let two = own.lines().find_map(|line| line.strip_prefix("0::"));
    let two = two.and_then(|path| left_in(Path::new("/sys/fs/cgroup"), path, &VERSION_2));
    // Version 1 names the controllers of each hierarchy: `5:memory:/path`.
    let one = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let mut controllers = controllers.split(',');
        controllers.any(|name| name == "memory").then_some(path)
    });
    let one = one.and_then(|path| left_in(Path::new("/sys/fs/cgroup/memory"), path, &VERSION_1));
    [two, one].into_iter().flatten().min()
}

/// The least that is left by the group at `path` below `root` and by all groups above it, whose
/// limits hold for it too. In a container its own path is mounted at the root.
fn left_in(root: &Path, path: &str, files: &Files) -> Option<u64> {
    let left = |folder: PathBuf| {
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        let (limit, used) = (number(files.limit)?, number(files.used)?);
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let idle = stat.lines().find_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            (name == files.idle).then(|| bytes.trim().parse::<u64>().ok())?
        });
        Some(limit.saturating_sub(used.saturating_sub(idle.unwrap_or_default())))
    };
    let own = Path::new(path.trim_start_matches('/'));
    let groups = own.ancestors().map(|group| root.join(group));
    groups.filter_map(left).min()
}

/// The most memory that this process has had resident, in bytes.
pub fn peak_memory() -> Option<u64> {
    // getrusage counts what the process was before exec too.
    kilobytes("/proc/self/status", "VmHWM:").or_else(most_resident)
}

/// The same where there is no /proc: on macOS, and in some containers.
fn most_resident() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what the call writes, and zeros are a valid value of it.
    let usage = unsafe {
        let done = libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) == 0;
        done.then(|| usage.assume_init())?
    };
    // Bytes on macOS, kilobytes elsewhere.
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1 << 10
    };
    Some(u64::try_from(usage.ru_maxrss).ok()? * unit)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The number of a line like `VmHWM:   1234 kB`, in bytes.
fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = read(Path::new(file))?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number = line.split_whitespace().nth(1)?;
    number.parse::<u64>().ok().map(|kb| kb << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_known_without_proc_and_is_about_the_same() {
        let [status, usage] = [peak_memory().unwrap(), most_resident().unwrap()];
        assert!(usage > status / 2 && status > 1 << 20, "{status} {usage}");
    }

    #[test]
    fn the_tightest_of_a_group_and_those_above_it_counts_without_pages_that_can_be_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let group = |files: &Files, path: &str, limit: &str, used: u64, idle: u64| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
            write(files.limit, format!("{limit}\n"));
            write(files.used, format!("{used}\n"));
            write(
                "memory.stat",
                format!("anon 7\n{} {idle}\nfile 9\n", files.idle),
            );
        };
        for files in [&VERSION_2, &VERSION_1] {
            let left = |path: &str| left_in(root.path(), path, files);
            group(files, "a/b/c", "1000", 300, 0);
            assert_eq!(left("/a/b/c"), Some(700));
            group(files, "a/b", "max", 300, 0);
            group(files, "a", "900", 800, 50);
            assert_eq!(left("/a/b/c"), Some(150));
            assert_eq!(left("/a/b"), Some(150));
            // A limit below what is used leaves nothing.
            group(files, "a/b", "100", 300, 0);
            assert_eq!(left("/a/b/c"), Some(0));
            // The path of another mount.
            group(files, "", "2000", 100, 40);
            assert_eq!(left("/elsewhere"), Some(1940));
            std::fs::remove_dir_all(root.path().join("a")).unwrap();
        }
        assert_eq!(left_in(&root.path().join("none"), "/", &VERSION_2), None);
    }
}
