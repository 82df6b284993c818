//! Faults on demand: what happens to one attempt of one step, for tests and for rehearsals.
//!
//! Written as `STEP=FAULT@ATTEMPT`, such as `scan=lost@1`; without `@ATTEMPT` the first attempt is
//! meant. The faults:
//!
//! * `lost`: the attempt runs, and its end is never seen, as if the machine had stopped there. The
//!   run is left as it is, and waits to be resumed.
//! * `fail`: the attempt does not run, and fails in a way that another attempt may mend.
//! * `timeout`: the attempt does not run, and counts as one that ran too long.

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

/// One fault, and the attempt it happens to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Injection {
    /// The step.
    pub step: StepId,
    /// What happens.
    pub fault: Fault,
    /// To which attempt; counts from 1.
    pub attempt: u32,
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
        let (fault, attempt) = rest.split_once('@').unwrap_or((rest, "1"));
        let fault = match fault {
            "lost" => Fault::Lost,
            "fail" => Fault::Fail,
            "timeout" => Fault::Timeout,
            _ => return Err(fail("the faults are lost, fail and timeout".to_owned())),
        };
        let attempt = attempt.parse().ok().filter(|n| *n > 0);
        let attempt =
            attempt.ok_or_else(|| fail("the attempt is a number from 1 on".to_owned()))?;
        let step = step.parse().map_err(|error: fairlead_step::IdError| fail(error.to_string()))?;
        Ok(Self { step, fault, attempt })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Lost => "lost",
            Fault::Fail => "fail",
            Fault::Timeout => "timeout",
        };
        write!(f, "{}={fault}@{}", self.step, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injections_read_back_as_written() {
        for text in ["scan=lost@1", "build=fail@3", "a-b=timeout@20"] {
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
