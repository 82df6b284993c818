//! Whether a machine has room for one more attempt: looked at before each claim.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// What must be free before a runner takes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors {
    /// Bytes of the disk that the runner's folder is on.
    pub disk: u64,
    /// Its inodes, where it counts them.
    pub inodes: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Descriptors that this process may still open.
    pub descriptors: u64,
}

impl Default for Floors {
    /// 1 GiB of disk, 10,000 inodes, 256 MiB of memory, 256 descriptors.
    fn default() -> Self {
        Self { disk: 1 << 30, inodes: 10_000, memory: 256 << 20, descriptors: 256 }
    }
}

impl Floors {
    /// What there is too little of, where something is. What the system does not tell is passed over.
    pub(super) fn lacking(&self, folder: &Path) -> Option<String> {
        let mib = |bytes: u64| bytes >> 20;
        if let Ok(disk) = rustix::fs::statvfs(folder) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < self.disk {
                let (free, floor) = (mib(free), mib(self.disk));
                return Some(format!("{free} MiB of its disk are free, and it wants {floor}"));
            }
            if disk.f_files > 0 && disk.f_favail < self.inodes {
                let (free, floor) = (disk.f_favail, self.inodes);
                return Some(format!("{free} inodes of its disk are free, and it wants {floor}"));
            }
        }
        if let Some(free) = free_memory()
            && free < self.memory
        {
            let (free, floor) = (mib(free), mib(self.memory));
            return Some(format!("{free} MiB of its memory are free, and it wants {floor}"));
        }
        if let (Some(most), Ok(open)) =
            (getrlimit(Resource::Nofile).current, std::fs::read_dir("/proc/self/fd"))
        {
            let (free, floor) = (most.saturating_sub(open.count() as u64), self.descriptors);
            if free < floor {
                return Some(format!("it may open {free} more files, and it wants {floor}"));
            }
        }
        None
    }
}

/// The memory that can be had without swapping, as the system says.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let none = Floors { disk: 0, inodes: 0, memory: 0, descriptors: 0 };
        let lacking = |floors: Floors| floors.lacking(folder.path()).unwrap_or_default();
        assert_eq!(lacking(none), "");
        assert!(lacking(Floors { disk: u64::MAX, ..none }).contains("of its disk are free"));
        assert!(lacking(Floors { inodes: u64::MAX, ..none }).contains("inodes"));
        assert!(lacking(Floors { memory: u64::MAX, ..none }).contains("of its memory are free"));
        assert!(lacking(Floors { descriptors: u64::MAX, ..none }).contains("more files"));
    }
}
