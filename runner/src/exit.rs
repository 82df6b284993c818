//! How the program ends: every exit code, and the errors that lead to them.

use std::error::Error;
use std::process::ExitCode;

use fairlead_plan::RunOutcome;
use fairlead_step::error_chain;

/// The exit codes. `docs/exit-codes.md` is their page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what was asked; the run passed.
    Passed,
    /// 1: the run failed, or the command did.
    Failed,
    /// 2: the command line, a file or a setting is wrong; nothing was started.
    Usage,
    /// 3: the run was rejected: a policy's answer is no.
    Rejected,
    /// 4: the run was cancelled.
    Cancelled,
    /// 5: the run was interrupted and can be resumed.
    Interrupted,
    /// 6: the run waits to be admitted, people, a moment or evidence, and `--no-wait` was given.
    Waits,
    /// 7: a runner gave up attempts: it handed them back, or nobody took their ends.
    GaveUp,
    /// 8: a runner was told to end twice, and ended what it made at once.
    Forced,
    /// 70: a defect of Fairlead.
    Internal,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Cancelled => 4,
            Self::Interrupted => 5,
            Self::Waits => 6,
            Self::GaveUp => 7,
            Self::Forced => 8,
            Self::Internal => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<RunOutcome> for Exit {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Passed => Self::Passed,
            RunOutcome::Rejected => Self::Rejected,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Cancelled => Self::Cancelled,
        }
    }
}

/// The end of a command that could not do what was asked: what to print, and the code.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// What went wrong; empty when it was printed already.
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
}

impl Stop {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    /// What was asked for is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What was asked for did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A defect.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    /// Everything is printed already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// What was asked for did not work, for the causes that `error` chains.
    pub(crate) fn of(error: &dyn Error) -> Self {
        Self::failed(error_chain(error))
    }

    /// Adds the causes that `error` chains.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        self.message = format!("{}: {}", self.message, error_chain(error));
        self
    }

    /// Adds the way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
