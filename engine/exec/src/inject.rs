//! Faults on demand: what happens to one attempt of one step, or to the process at one write to the
//! journal, for tests and for rehearsals.
//!
//! Written as `STEP=FAULT@ATTEMPT`, such as `scan=lost@1`; without `@ATTEMPT` the first attempt is
//! meant. The faults:
//!
//! * `lost`: the attempt runs, and its end is never seen, as if the machine had stopped there. The
//!   run is left as it is, and waits to be resumed.
//! * `fail`: the attempt does not run, and fails in a way that another attempt may mend.
//! * `timeout`: the attempt does not run, and counts as one that ran too long.
//!
//! `process=killed-before@N` and `process=killed-after@N` end the process by SIGKILL right before or
//! after its write number N is durable.

use std::fmt;
use std::str::FromStr;

use fairlead_step::StepId;

/// What happens to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its end is never seen.
    Lost,
    /// It fails, and may be tried again.
    Fail,
    /// It runs too long.
    Timeout,
}

/// One fault, and what it happens to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Injection {
    /// Something happens to an attempt.
    Attempt {
        /// The step.
        step: StepId,
        /// What happens.
        fault: Fault,
        /// To which attempt; counts from 1.
        attempt: u32,
    },
    /// The process is killed at a write.
    Killed {
        /// Whether the write is durable by then.
        after: bool,
        /// Which write of this process; counts from 1.
        write: u32,
    },
}

impl Injection {
    /// What happens to this attempt of `step`.
    pub(crate) fn of(all: &[Self], step: &StepId, attempt: u32) -> Option<Fault> {
        all.iter().find_map(|injection| match injection {
            Self::Attempt { step: of, fault, attempt: n } if of == step && *n == attempt => {
                Some(*fault)
            }
            Self::Attempt { .. } | Self::Killed { .. } => None,
        })
    }

    /// Ends the process here, when that is to happen.
    pub(crate) fn strike(all: &[Self], after: bool, write: u32) {
        if all.contains(&Self::Killed { after, write }) {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

/// Why a text is no injection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a fault to inject: {problem}; write it as `scan=lost@1`")]
pub struct InjectionError {
    text: String,
    problem: String,
}

impl FromStr for Injection {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, InjectionError> {
        let fail =
            |problem: String| InjectionError { text: text.chars().take(100).collect(), problem };
        let (step, rest) = text.split_once('=').ok_or_else(|| fail("it has no `=`".to_owned()))?;
        let (fault, number) = rest.split_once('@').unwrap_or((rest, "1"));
        let number = number.parse().ok().filter(|n| *n > 0);
        let number = number.ok_or_else(|| fail("the attempt is a number from 1 on".to_owned()));
        let fault = match (step, fault) {
            ("process", "killed-before") => {
                return Ok(Self::Killed { after: false, write: number? });
            }
            ("process", "killed-after") => {
                return Ok(Self::Killed { after: true, write: number? });
            }
            (_, "lost") => Fault::Lost,
            (_, "fail") => Fault::Fail,
            (_, "timeout") => Fault::Timeout,
            _ => return Err(fail("the faults are lost, fail and timeout".to_owned())),
        };
        let attempt = number?;
        let step = step.parse().map_err(|error: fairlead_step::IdError| fail(error.to_string()))?;
        Ok(Self::Attempt { step, fault, attempt })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt { step, fault, attempt } => {
                let fault = match fault {
                    Fault::Lost => "lost",
                    Fault::Fail => "fail",
                    Fault::Timeout => "timeout",
                };
                write!(f, "{step}={fault}@{attempt}")
            }
            Self::Killed { after: false, write } => write!(f, "process=killed-before@{write}"),
            Self::Killed { after: true, write } => write!(f, "process=killed-after@{write}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injections_read_back_as_written() {
        for text in [
            "scan=lost@1",
            "build=fail@3",
            "a-b=timeout@20",
            "process=killed-before@2",
            "process=killed-after@7",
        ] {
            assert_eq!(text.parse::<Injection>().unwrap().to_string(), text);
        }
        assert_eq!("scan=lost".parse::<Injection>().unwrap().to_string(), "scan=lost@1");
        for (bad, want) in [
            ("scan", "no `=`"),
            ("scan=explode@1", "lost, fail and timeout"),
            ("scan=lost@0", "from 1 on"),
            ("scan=lost@x", "from 1 on"),
            ("Scan=lost@1", "lower-case"),
        ] {
            let error = bad.parse::<Injection>().unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("scan=lost@1"), "{error}");
        }
    }
}
