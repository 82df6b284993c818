//! What an attempt will need, told before the run begins: [`Preflight`] and [`Missing`].

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::StepError;

/// Something that an attempt will need, and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// One lower-case sentence fragment that names the thing and where it was looked for.
    pub message: String,
    /// The way out, one sentence fragment.
    pub hint: Option<String>,
}

impl Missing {
    /// Something that is not there.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<StepError> for Missing {
    /// The error that the attempt would end with.
    fn from(error: StepError) -> Self {
        Self { message: error.chain(), hint: error.way_out().map(str::to_owned) }
    }
}

/// What a kind may look at before a run begins: as much of the input as is known by then, and the
/// machine. It may read, and nothing else.
pub struct Preflight<'a> {
    with: &'a Value,
    workspace: &'a Path,
    first: bool,
    now: Timestamp,
    has_program: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

impl<'a> Preflight<'a> {
    /// A look at `with`, in which null stands for what is not known yet. `first` says that the step
    /// waits for no other; `has_program` looks a name up as the host does when it starts one.
    #[must_use]
    pub const fn new(
        with: &'a Value,
        workspace: &'a Path,
        first: bool,
        now: Timestamp,
        has_program: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> Self {
        Self { with, workspace, first, now, has_program }
    }

    /// What stands at a JSON pointer of the input, such as `/container/image`. None where nothing
    /// does, and null where something does that is not known yet: it comes from another step.
    #[must_use]
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.with.pointer(pointer)
    }

    /// The text at a JSON pointer of the input, `default` where nothing stands there, and none where it
    /// is not known yet.
    #[must_use]
    pub fn text(&self, pointer: &str, default: &'static str) -> Option<&str> {
        self.get(pointer).map_or(Some(default), Value::as_str)
    }

    /// The folder that relative paths of the input start from. An earlier step may still make files in
    /// it: ask for one only where [`Preflight::is_first`] says so.
    #[must_use]
    pub const fn workspace(&self) -> &Path {
        self.workspace
    }

    /// Whether the step waits for no other one. Nothing can come from another step then; and as it says
    /// at once what it lacks when it runs, what is costly to look at can be left to that.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.first
    }

    /// The time now.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether the host finds the program `name`.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        (self.has_program)(name)
    }
}

impl fmt::Debug for Preflight<'_> {
    /// The input may hold secrets, and does not show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preflight").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}
