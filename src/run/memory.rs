//! The memory of this process.

/// Memory that this process may still take, in bytes: the least of what the machine has free,
/// its cgroup's limit (version 2 or 1) and its own address space limit.
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

/// What the control group of this process leaves.
fn cgroup() -> Option<u64> {
    let own = read("/proc/self/cgroup")?;
    let left = |limit: String, used: String| {
        let limit = number(read(&limit)?)?;
        Some(limit.saturating_sub(number(read(&used)?)?))
    };
    let two = own.lines().find_map(|line| line.strip_prefix("0::"));
    let two = two.and_then(|path| {
        let folder = format!("/sys/fs/cgroup{path}");
        left(
            format!("{folder}/memory.max"),
            format!("{folder}/memory.current"),
        )
    });
    // Version 1 names the controllers of each hierarchy: `5:memory:/path`.
    let one = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == "memory")
            .then_some(path)
    });
    let one = one.and_then(|path| {
        // In a container the group's own path is mounted at the root.
        [
            "/sys/fs/cgroup/memory".to_string() + path,
            "/sys/fs/cgroup/memory".to_string(),
        ]
        .into_iter()
        .find_map(|folder| {
            left(
                format!("{folder}/memory.limit_in_bytes"),
                format!("{folder}/memory.usage_in_bytes"),
            )
        })
    });
    two.or(one)
}

/// The most memory that this process has had resident, in bytes.
pub fn peak_memory() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(text: String) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number of a line like `VmHWM:   1234 kB`, in bytes.
fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = read(file)?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number = line.split_whitespace().nth(1)?;
    number.parse::<u64>().ok().map(|kb| kb << 10)
}
