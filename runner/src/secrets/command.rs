//! Secrets from a program that is asked for each: a password manager, a cloud's own store.
//!
//! It is started without a shell, gets one line of JSON on its standard input and answers one JSON object on
//! its standard output:
//!
//! ```text
//! {"version":1,"project":"shop","name":"npm","path":"shop/npm","field":"token"}
//! {"value":"…"}                     the secret
//! {"missing":"how to set it"}       there is none
//! {"error":"what went wrong"}       it may be asked again
//! ```
//!
//! What it writes to standard error is not repeated anywhere: it may be the secret.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{Mask, ProcessHost, ProcessOptions};
use fairlead_step::{CancelToken, HumanDuration, ProcessError, ProcessSpec, Secret, Spawn as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_SECRET, Refused};
use crate::forges::Silent;

/// How long it has to answer when its settings do not say.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest that it may be given: a step waits for no secret longer.
const LONGEST: Duration = Duration::from_secs(30);
/// The most bytes of an answer: JSON may write a byte as six.
const MOST: usize = 6 * (MAX_SECRET as usize) + 1024;
/// The most characters of its own words that are repeated.
const QUOTED: usize = 300;

/// A program that gives secrets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandSettings {
    /// The program: an absolute path.
    program: PathBuf,
    /// Its arguments, each as it is. No shell reads them.
    #[serde(default)]
    args: Vec<String>,
    /// How long it has for one secret; `10s` when it is not given, and at most `30s`.
    timeout: Option<HumanDuration>,
}

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    project: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    value: Option<Secret<String>>,
    missing: Option<String>,
    error: Option<String>,
}

/// Asks the program.
#[derive(Debug)]
pub(crate) struct Command {
    settings: CommandSettings,
    processes: Arc<ProcessOptions>,
}

/// Which secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) project: &'a str,
    pub(crate) name: &'a str,
    pub(crate) path: Option<&'a str>,
    pub(crate) field: Option<&'a str>,
}

impl Command {
    /// Checks the settings; nothing is started.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn new(
        settings: CommandSettings,
        processes: Arc<ProcessOptions>,
    ) -> Result<Self, String> {
        if !settings.program.is_absolute() {
            return Err(format!(
                "`program` is `{}`, and must be an absolute path",
                settings.program.display()
            ));
        }
        if let Some(timeout) = settings.timeout
            && (timeout.0 > LONGEST || timeout.0.is_zero())
        {
            return Err(format!(
                "`timeout` is {timeout}, and is at most {}",
                HumanDuration(LONGEST)
            ));
        }
        Ok(Self { settings, processes })
    }

    /// Whether the program is there, for `fairlead doctor`.
    pub(crate) fn look(&self) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let program = &self.settings.program;
        let found =
            std::fs::metadata(program).map_err(|e| format!("{}: {e}", program.display()))?;
        if found.is_file() && found.permissions().mode() & 0o111 != 0 {
            return Ok(());
        }
        Err(format!("{} is not a program", program.display()))
    }

    pub(crate) async fn get(&self, asked: Asked<'_>) -> Result<Secret<String>, Refused> {
        let program = self.settings.program.display();
        let fail = |what: String| Refused::Unavailable(format!("{program} {what}"));
        let Asked { project, name, path, field } = asked;
        let question = Question { version: 1, project, name, path, field };
        let mut question = serde_json::to_vec(&question).map_err(|e| fail(e.to_string()))?;
        question.push(b'\n');
        let mut process =
            ProcessSpec::new(&self.settings.program, &self.settings.args).capture(MOST);
        process.stdin = Some(question.into());
        process.timeout = Some(self.settings.timeout.map_or(ANSWER, |timeout| timeout.0));
        let (_handle, cancel) = CancelToken::new();
        let host = ProcessHost::new(
            Arc::clone(&self.processes),
            "/",
            Arc::new(Silent),
            Arc::new(Mask::default()),
            cancel,
        );
        let exit = host.run(process).await.map_err(|error| match error {
            ProcessError::TimedOut { after, .. } => {
                fail(format!("did not answer within {}", HumanDuration(after)))
            }
            ProcessError::TooMuchOutput { .. } => fail("answered too much".to_owned()),
            other @ (ProcessError::NotFound { .. }
            | ProcessError::Start { .. }
            | ProcessError::Cancelled { .. }
            | _) => Refused::Unavailable(fairlead_step::error_chain(&other)),
        })?;
        if !exit.success() {
            let how = match (exit.code, exit.signal) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "did not end well".to_owned(),
            };
            return Err(fail(format!("{how}; run it by hand to see why")));
        }
        // What is wrong with the JSON would quote it.
        let answer: Answer = serde_json::from_slice(&exit.stdout).map_err(|_| {
            fail("did not answer `{\"value\": …}`, `missing` or `error`".to_owned())
        })?;
        let said = |text: String| text.chars().take(QUOTED).collect::<String>();
        match (answer.value, answer.missing, answer.error) {
            (Some(value), None, None) if value.expose().len() as u64 <= MAX_SECRET => Ok(value),
            (Some(_), None, None) => {
                Err(fail(format!("answered a secret of more than {MAX_SECRET} bytes")))
            }
            (None, Some(hint), None) => Err(Refused::Missing(said(hint))),
            (None, None, Some(error)) => Err(fail(format!("says: {}", said(error)))),
            _ => Err(fail("must answer one of `value`, `missing` and `error`".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn command(folder: &std::path::Path, script: &str, timeout: Option<&str>) -> Command {
        let program = folder.join("provider");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let timeout = timeout.map(|text| text.parse().unwrap());
        let settings = CommandSettings { program, args: vec!["-x".into()], timeout };
        let processes = ProcessOptions {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            ..ProcessOptions::default()
        };
        Command::new(settings, Arc::new(processes)).unwrap()
    }

    const ASKED: Asked<'_> =
        Asked { project: "shop", name: "npm", path: Some("shop/npm"), field: None };

    #[tokio::test]
    async fn it_is_asked_in_json_and_answers_in_json() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!(
            "cat > {0}; echo \"$1\" >> {0}; echo '{{\"value\":\"hunter2\"}}'",
            asked.display()
        );
        let secret = command(folder.path(), &script, None).get(ASKED).await.unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(
            std::fs::read_to_string(asked).unwrap(),
            "{\"version\":1,\"project\":\"shop\",\"name\":\"npm\",\"path\":\"shop/npm\"}\n-x\n"
        );
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_what_it_wrote() {
        for (script, want) in [
            ("echo '{\"missing\":\"ask ann\"}'", "ask ann"),
            ("echo '{\"error\":\"sealed\"}'", "says: sealed"),
            ("echo hunter2", "did not answer"),
            ("echo '{\"value\":\"hunter2\",\"error\":\"x\"}'", "must answer one of"),
            ("echo '{\"valeu\":\"hunter2\"}'", "did not answer"),
            ("echo hunter2 >&2; exit 3", "ended with exit code 3; run it by hand"),
            ("exec sleep 60", "did not answer within 1s"),
            ("head -c 9000000 /dev/zero", "answered too much"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let refused = command(folder.path(), script, Some("1s")).get(ASKED).await.unwrap_err();
            let (Refused::Missing(text) | Refused::Unavailable(text)) = refused;
            assert!(text.contains(want) && !text.contains("hunter2"), "{script}: {text}");
        }
    }

    #[test]
    fn its_settings_are_checked() {
        let settings = |program: &str, timeout: Option<&str>| CommandSettings {
            program: program.into(),
            args: Vec::new(),
            timeout: timeout.map(|text| text.parse().unwrap()),
        };
        let new = |settings| Command::new(settings, Arc::default()).map(drop);
        assert!(new(settings("provider", None)).unwrap_err().contains("absolute"));
        assert!(new(settings("/bin/true", Some("1m"))).unwrap_err().contains("at most 30s"));
        let gone = Command::new(settings("/no/such", None), Arc::default()).unwrap();
        assert!(gone.look().unwrap_err().contains("/no/such"));
    }
}
