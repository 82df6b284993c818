//! A control group for each attempt, where the system has some that this process may make: what it may
//! use is bounded, all that it started is found whoever its parent is by now, and is killed at once.
//!
//! Both versions are used, also at a time: version 2 kills and, where it has them, bounds; on systems that
//! have kept the controllers in version 1, the bounds are there.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_step::{ByteSize, Limits};

/// The file with the processes of a group.
const PROCESSES: &str = "cgroup.procs";

/// What this program is told first when it is to become another one in a group: see [`become_confined`].
pub const CONFINE: &str = "confine-process";

/// What stands between the groups and the program.
const BECOME: &str = "--";

/// How much sooner than this process those of attempts are ended when the machine has no memory left.
const FIRST_TO_GO: &str = "500";

/// Where groups for attempts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// In version 2.
    unified: Option<PathBuf>,
    /// The controllers that version 2 has there.
    controllers: BTreeSet<String>,
    /// In version 1, by controller.
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Cgroups {
    /// The place for groups of this process, called `name`; none where it may make none.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let v1 = |controller: &str| {
            let folder = version_1(&own, &mounts, controller)?.join(name);
            made(&folder).then_some(folder)
        };
        let (memory, pids, cpu) = (v1("memory"), v1("pids"), v1("cpu"));
        let unified = version_2(&own, &mounts).and_then(|own| delegated(&own, name));
        let (unified, controllers) = unified.unzip();
        let none = unified.is_none() && memory.is_none() && pids.is_none();
        let controllers = controllers.unwrap_or_default();
        (!none).then_some(Self { unified, controllers, memory, pids, cpu })
    }

    /// What it can do, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let bounds = |name: &str, v1: &Option<PathBuf>| {
            (v1.is_some() || self.controllers.contains(name)).then(|| name.to_owned())
        };
        let able =
            [bounds("memory", &self.memory), bounds("pids", &self.pids), bounds("cpu", &self.cpu)];
        let mut able: Vec<String> = able.into_iter().flatten().collect();
        able.extend(self.unified.is_some().then(|| "kill".to_owned()));
        able.join(", ")
    }

    /// A group for one attempt. What is bounded is bounded, or this fails.
    pub(crate) fn make(&self, name: &str, bounds: Limits) -> io::Result<Cgroup> {
        let mut group = Cgroup { folders: Vec::new(), unified: None, memory: None };
        let failed = |group: Cgroup, error| {
            group.remove();
            Err(error)
        };
        if let Err(error) = self.fill(&mut group, name, bounds) {
            return failed(group, error);
        }
        Ok(group)
    }

    fn fill(&self, group: &mut Cgroup, name: &str, bounds: Limits) -> io::Result<()> {
        let lacking = |what: &str| {
            io::Error::other(format!("this machine has no control groups that bound {what}"))
        };
        if let Some(unified) = &self.unified {
            let folder = group.add(unified.join(name))?;
            if self.controllers.contains("memory") {
                if let Some(ByteSize(memory)) = bounds.memory {
                    fs::write(folder.join("memory.max"), memory.to_string())?;
                    // Without it the bound is on what is not swapped out.
                    let _ = fs::write(folder.join("memory.swap.max"), "0");
                }
                // The step fails as a whole, and not with one process of it missing.
                let _ = fs::write(folder.join("memory.oom.group"), "1");
                group.memory = Some(folder.join("memory.events"));
            }
            if let (Some(pids), true) = (bounds.pids, self.controllers.contains("pids")) {
                fs::write(folder.join("pids.max"), pids.to_string())?;
            }
            if let (Some(cpu), true) = (bounds.cpu_millis, self.controllers.contains("cpu")) {
                fs::write(folder.join("cpu.max"), format!("{} 100000", cpu * 100))?;
            }
            group.unified = Some(folder);
        }
        match (&self.memory, self.controllers.contains("memory")) {
            (Some(memory), false) => {
                let folder = group.add(memory.join(name))?;
                if let Some(ByteSize(bytes)) = bounds.memory {
                    fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string())?;
                    let _ =
                        fs::write(folder.join("memory.memsw.limit_in_bytes"), bytes.to_string());
                }
                group.memory = Some(folder.join("memory.oom_control"));
            }
            (None, false) if bounds.memory.is_some() => return Err(lacking("memory")),
            (Some(_) | None, _) => {}
        }
        match (&self.pids, self.controllers.contains("pids")) {
            (Some(folder), false) => {
                let folder = group.add(folder.join(name))?;
                if let Some(pids) = bounds.pids {
                    fs::write(folder.join("pids.max"), pids.to_string())?;
                }
            }
            (None, false) if bounds.pids.is_some() => return Err(lacking("processes")),
            (Some(_) | None, _) => {}
        }
        match (&self.cpu, self.controllers.contains("cpu"), bounds.cpu_millis) {
            (Some(folder), false, Some(cpu)) => {
                let folder = group.add(folder.join(name))?;
                fs::write(folder.join("cpu.cfs_period_us"), "100000")?;
                fs::write(folder.join("cpu.cfs_quota_us"), (cpu * 100).to_string())?;
            }
            (None, false, Some(_)) => return Err(lacking("processor time")),
            (Some(_) | None, _, _) => {}
        }
        Ok(())
    }

    /// Removes the groups that an earlier process of this name left, with what is in them.
    pub fn sweep(&self) {
        let places = [&self.unified, &self.memory, &self.pids, &self.cpu];
        for place in places.into_iter().flatten() {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                let folder = entry.path();
                if folder.is_dir() {
                    let _ = fs::write(folder.join("cgroup.kill"), "1");
                    let _ = fs::remove_dir(folder);
                }
            }
        }
    }
}

/// The group of one attempt.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folders: Vec<PathBuf>,
    unified: Option<PathBuf>,
    /// The file that tells how often it ran out of memory.
    memory: Option<PathBuf>,
}

impl Cgroup {
    fn add(&mut self, folder: PathBuf) -> io::Result<PathBuf> {
        fs::create_dir(&folder)?;
        self.folders.push(folder.clone());
        Ok(folder)
    }

    /// The files that a process writes itself into.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join(PROCESSES))
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let read =
            |folder: &PathBuf| fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
        let text: String = self.folders.iter().map(read).collect();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all of them at once, where the system can.
    pub(crate) fn kill(&self) {
        if let Some(unified) = &self.unified {
            let _ = fs::write(unified.join("cgroup.kill"), "1");
        }
    }

    /// How many of its processes were ended because it had no memory left.
    pub(crate) fn out_of_memory(&self) -> u64 {
        let text = self.memory.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Removes it. It must be empty, or stays for the next sweep.
    pub(crate) fn remove(&self) {
        for folder in &self.folders {
            if let Err(error) = fs::remove_dir(folder) {
                tracing::debug!("{} is not removed: {error}", folder.display());
            }
        }
    }
}

/// The group of an attempt, and the program by which processes get into it: nobody else can be put into
/// a group before it has begun.
#[derive(Debug)]
pub(crate) struct CgroupEntry {
    pub(crate) group: Cgroup,
    pub(crate) program: PathBuf,
}

impl CgroupEntry {
    /// The arguments of the program that make it `program` with `args`, in the group.
    pub(crate) fn args(&self, program: &Path, args: &[OsString]) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![CONFINE.into()];
        all.extend(self.group.entrances().map(Into::into));
        all.push(BECOME.into());
        all.push(program.into());
        all.extend_from_slice(args);
        all
    }
}

/// Goes into the groups that the arguments name and becomes the program behind them. `args` are those
/// behind [`CONFINE`]. It comes back only with what kept it from that.
pub fn become_confined(args: impl IntoIterator<Item = OsString>) -> io::Error {
    let mut args = args.into_iter();
    for entrance in args.by_ref().take_while(|arg| arg != OsStr::new(BECOME)) {
        if let Err(error) = fs::write(&entrance, "0") {
            return io::Error::other(format!("{}: {error}", entrance.display()));
        }
    }
    let Some(program) = args.next() else { return io::Error::other("no program is named") };
    // Whoever made it may be the last to go; where this is not allowed, all are equal.
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    #[expect(
        clippy::disallowed_methods,
        reason = "it is this process that becomes another program"
    )]
    Command::new(program).args(args).exec()
}

/// The folder of this process's group in version 1, for a controller.
fn version_1(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let of = kind.next() == Some("cgroup")
            && kind.nth(1).is_some_and(|options| options.split(',').any(|name| name == controller));
        of.then(|| mounted(place)).flatten()
    })?;
    Some(below(mount, path))
}

/// The folder of this process's group in version 2.
fn version_2(own: &str, mounts: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mounted(place)).flatten()
    })?;
    Some(below(mount, path))
}

/// What is mounted, and where: the root within the file system, and the mount point.
fn mounted(place: &str) -> Option<(&str, &str)> {
    let mut fields = place.split(' ').skip(3);
    Some((fields.next()?, fields.next()?))
}

fn below((root, point): (&str, &str), path: &str) -> PathBuf {
    // In a container the mount shows a part of the tree alone.
    let path = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Path::new(point).join(path.trim_start_matches('/'))
}

fn made(folder: &Path) -> bool {
    match fs::create_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir(),
    }
}

/// A place below this process's own group in version 2, with the controllers that it can have. A group
/// that hands its controllers on has no processes of its own, so this one goes into a leaf.
fn delegated(own: &Path, name: &str) -> Option<(PathBuf, BTreeSet<String>)> {
    let folder = own.join(name);
    if !made(&folder) {
        return None;
    }
    let has = |file: PathBuf| -> BTreeSet<String> {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let wanted = ["memory", "pids", "cpu"];
    let there = has(own.join("cgroup.controllers"));
    if wanted.iter().any(|name| there.contains(*name)) {
        let control = own.join("cgroup.subtree_control");
        let missing =
            |name: &&&str| there.contains(**name) && !has(control.clone()).contains(**name);
        if wanted.iter().any(|name| missing(&name)) {
            let leaf = own.join(format!("{name}-itself"));
            if made(&leaf) {
                let _ = fs::write(leaf.join(PROCESSES), "0");
            }
        }
        for name in wanted.iter().filter(missing) {
            let _ = fs::write(&control, format!("+{name}"));
        }
    }
    let handed = has(folder.join("cgroup.controllers"));
    for name in wanted.iter().filter(|name| handed.contains(**name)) {
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"));
    }
    Some((folder.clone(), has(folder.join("cgroup.subtree_control"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_process_is_found_in_both_versions() {
        let own = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice/x\n";
        let mounts = "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 25 0:28 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      33 25 0:29 /user.slice /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            version_1(own, mounts, "memory"),
            Some(PathBuf::from("/sys/fs/cgroup/memory/a/b"))
        );
        assert_eq!(version_1(own, mounts, "cpu"), Some(PathBuf::from("/sys/fs/cgroup/cpu")));
        assert_eq!(version_1(own, mounts, "pids"), None);
        assert_eq!(version_2(own, mounts), Some(PathBuf::from("/sys/fs/cgroup/unified/x")));
    }
}
