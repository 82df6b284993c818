//! Processes that left the group of the one that started them: daemons, `setsid`, jobs of a shell.
//!
//! They are known by a variable of their environment, which what they start inherits, and by their
//! parents. What cleared its environment and lost its parent, or runs as another user, is not found.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks a process and all that it starts.
pub const VARIABLE: &str = "FAIRLEAD_PROCESS";

/// The most processes that one message names.
const NAMED: usize = 8;

/// What marks one process of this host, and what it starts.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The whole value of the variable.
    value: String,
    /// The part of it that is this process's own.
    own: String,
}

impl Mark {
    /// A new one, behind that of the process in which this host runs.
    pub(super) fn new(outer: Option<&str>) -> Self {
        let own = format!("{:032x}", rand::random::<u128>());
        let value = match outer {
            Some(outer) => format!("{outer},{own}"),
            None => own.clone(),
        };
        Self { value, own }
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

/// A process, told apart from a later one with the same number by when it began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stray {
    id: i32,
    began: u64,
    name: String,
}

impl Stray {
    /// Whether it lives, and is no zombie.
    pub(super) fn lives(&self) -> bool {
        Stat::of(self.id).is_some_and(|stat| stat.began == self.began && stat.runs)
    }

    /// Sends a signal to it, and to no other.
    pub(crate) fn signal(&self, signal: Signal) {
        let handle = Pid::from_raw(self.id).map(|id| pidfd_open(id, PidfdFlags::empty()));
        // The number may have gone to another before it was opened; what is open stays who it is.
        if let Some(Ok(handle)) = handle
            && self.lives()
        {
            // It fails only when nobody is left to hear it.
            let _ = pidfd_send_signal(&handle, signal);
        }
    }
}

/// What the system says of a process: proc_pid_stat(5).
struct Stat {
    name: String,
    parent: i32,
    group: i32,
    began: u64,
    runs: bool,
}

impl Stat {
    fn of(id: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name stands in parentheses, and may hold any.
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            began: fields.get(19)?.parse().ok()?,
            runs: !matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

/// Every process that can be seen.
fn all() -> Vec<(i32, Stat)> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| Stat::of(id).map(|stat| (id, stat))).collect()
}

/// Whether every process of the group has ended and merely waits to be reaped by a parent that
/// does not hurry: that of an orphan is the first process of the machine or of the container. False
/// where the system does not tell.
pub(super) fn only_zombies(group: i32) -> bool {
    let all = all();
    !all.is_empty() && !all.iter().any(|(_, stat)| stat.group == group && stat.runs)
}

/// The living processes out of group `group` that carry `mark`, or come from a process of the group.
pub(super) fn find(group: i32, mark: &Mark) -> Vec<Stray> {
    let all = all();
    let mut ours: BTreeSet<i32> = all
        .iter()
        .filter(|(id, stat)| stat.group == group || carries(*id, mark))
        .map(|(id, _)| *id)
        .collect();
    // A process may have a lower number than its parent, so this goes on until nothing comes in.
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(id, stat)| !ours.contains(id) && ours.contains(&stat.parent))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    all.into_iter()
        .filter(|(id, stat)| ours.contains(id) && stat.group != group && stat.runs)
        .map(|(id, stat)| Stray { id, began: stat.began, name: stat.name })
        .collect()
}

/// The living processes that carry a mark which was given to a host as its own, whoever started them.
pub(crate) fn marked(mark: &str) -> Vec<Stray> {
    let mark = Mark { value: mark.to_owned(), own: mark.to_owned() };
    let all = all().into_iter().filter(|(id, stat)| stat.runs && carries(*id, &mark));
    all.map(|(id, stat)| Stray { id, began: stat.began, name: stat.name }).collect()
}

/// Those of these processes that live.
pub(crate) fn living(ids: impl IntoIterator<Item = i32>) -> Vec<Stray> {
    let found = ids.into_iter().filter_map(|id| Stat::of(id).map(|stat| (id, stat)));
    let found = found.filter(|(_, stat)| stat.runs);
    found.map(|(id, stat)| Stray { id, began: stat.began, name: stat.name }).collect()
}

fn carries(id: i32, mark: &Mark) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{id}/environ")) else { return false };
    let variables = environment.split(|byte| *byte == 0);
    let value = |variable: &[u8]| {
        let (name, value) = variable.split_at_checked(VARIABLE.len() + 1)?;
        (name.strip_suffix(b"=") == Some(VARIABLE.as_bytes())).then(|| value.to_vec())
    };
    variables.filter_map(value).any(|value| {
        value.split(|byte| *byte == b',').any(|mark_of| mark_of == mark.own.as_bytes())
    })
}

/// Their names and numbers, for a message.
pub(crate) fn named(strays: &[Stray]) -> String {
    let mut names: Vec<String> =
        strays.iter().take(NAMED).map(|s| format!("{} ({})", s.name, s.id)).collect();
    if strays.len() > NAMED {
        names.push(format!("{} more", strays.len() - NAMED));
    }
    names.join(", ")
}
