//! A job: everything that it takes to make one attempt, as data.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_plan::{Cache, RenderedInput};
use fairlead_run::{AttemptToken, LogKey, MAX_LOG_BYTES};
use fairlead_step::{
    Artifact, ByteSize, Digest, History, HumanDuration, Limits, RunId, RunInfo, StepId, Workspace,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Demand;

/// One attempt to make. It names secrets and holds none; what it refers to is found by digest.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// The run.
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The step.
    pub step: StepId,
    /// Which attempt; counts from 1.
    pub attempt: u32,
    /// What its result must carry.
    pub token: AttemptToken,
    /// The step kind.
    pub kind: String,
    /// Its version: an attempt must not meet another one.
    pub kind_version: String,
    /// The input, with the names of secrets in the places of their values.
    pub input: RenderedInput,
    /// What relative paths start from.
    pub workspace: Workspace,
    /// How long it may take.
    pub timeout: Option<HumanDuration>,
    /// What it may use.
    pub limits: Limits,
    /// Whether an earlier result stands for this attempt, and its own for later ones.
    pub cache: Option<Cache>,
    /// The pool of runners; the process itself when there is none.
    pub pool: Option<String>,
    /// What a runner must say of itself.
    pub labels: BTreeMap<String, String>,
    /// The artifacts that the input names, and that whoever makes the attempt may read.
    pub artifacts: Vec<Digest>,
    /// What the run has done so far, for a kind that declares that it tells of it.
    pub history: Option<Box<History>>,
    /// The most bytes of its log.
    pub max_log: u64,
}

/// Why bytes are no job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A newer build wrote it.
    #[error("the job has the format `{format}`, which this build does not know: update the runner")]
    Newer {
        /// Its format.
        format: String,
    },
    /// It is not what any build writes.
    #[error("the bytes are no job")]
    Malformed(#[source] serde_json::Error),
}

/// The format of a job that this build writes.
const FORMAT: &str = "fairlead.dev/job/v1";

/// Version 1 of the stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobV1 {
    format: String,
    run: RunId,
    pipeline: String,
    step: StepId,
    attempt: u32,
    token: AttemptToken,
    kind: String,
    kind_version: String,
    with: Value,
    /// The JSON pointer of each leaf of `with` that is a secret, and the secret's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<(String, String)>,
    workspace: Workspace,
    #[serde(default)]
    limits: LimitsV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<Cache>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<Digest>,
    /// Kinds that an older build has are sent none, so that it reads what it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<Box<History>>,
    /// Not told when it is what it is anyhow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_log: Option<u64>,
}

/// The stored form of what an attempt may use.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsV1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<HumanDuration>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    /// Thousandths of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pids: Option<u32>,
}

impl JobSpec {
    /// Which run, step and attempt.
    #[must_use]
    pub fn info(&self) -> RunInfo {
        RunInfo {
            run: self.run.clone(),
            pipeline: self.pipeline.clone(),
            step: self.step.clone(),
            attempt: self.attempt,
        }
    }

    /// Whose log it writes.
    #[must_use]
    pub fn log_key(&self) -> LogKey {
        LogKey { run: self.run.clone(), step: self.step.clone(), attempt: self.attempt }
    }

    /// Where it may be made.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand {
            pool: self.pool.as_deref().map(Into::into),
            labels: self.labels.clone(),
            kind: self.pool.is_some().then(|| (self.kind.clone(), self.kind_version.clone())),
        }
    }

    /// The artifacts that a job needs: whatever in its input reads as one, and the archive it works on.
    #[must_use]
    pub fn artifacts_of(input: &RenderedInput, workspace: &Workspace) -> Vec<Digest> {
        fn look(value: &Value, found: &mut BTreeSet<Digest>) {
            match value {
                Value::Object(fields) => {
                    if let Ok(artifact) = Artifact::deserialize(value) {
                        found.insert(artifact.digest);
                        return;
                    }
                    fields.values().for_each(|field| look(field, found));
                }
                Value::Array(items) => items.iter().for_each(|item| look(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut found = BTreeSet::new();
        look(input.display(), &mut found);
        if let Workspace::Archive { digest } = workspace {
            found.insert(digest.clone());
        }
        found.into_iter().collect()
    }

    /// The bytes of its stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = JobV1 {
            format: FORMAT.to_owned(),
            run: self.run.clone(),
            pipeline: self.pipeline.clone(),
            step: self.step.clone(),
            attempt: self.attempt,
            token: self.token.clone(),
            kind: self.kind.clone(),
            kind_version: self.kind_version.clone(),
            with: self.input.display().clone(),
            secrets: self.input.places().to_vec(),
            workspace: self.workspace.clone(),
            limits: LimitsV1 {
                timeout: self.timeout,
                memory: self.limits.memory.map(|memory| memory.0),
                cpu: self.limits.cpu_millis,
                pids: self.limits.pids,
            },
            cache: self.cache,
            pool: self.pool.clone(),
            labels: self.labels.clone(),
            artifacts: self.artifacts.clone(),
            history: self.history.clone(),
            max_log: (self.max_log != MAX_LOG_BYTES).then_some(self.max_log),
        };
        // Maps with text keys, texts and numbers always have a JSON form, a path that is not UTF-8
        // excepted, which no other machine could use either.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When the bytes are no job, or one that a newer build wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JobError> {
        #[derive(Deserialize)]
        struct Format {
            format: String,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(JobError::Malformed)?;
        if format != FORMAT {
            return Err(JobError::Newer { format: format.chars().take(80).collect() });
        }
        let stored: JobV1 = serde_json::from_slice(bytes).map_err(JobError::Malformed)?;
        Ok(Self {
            run: stored.run,
            pipeline: stored.pipeline,
            step: stored.step,
            attempt: stored.attempt,
            token: stored.token,
            kind: stored.kind,
            kind_version: stored.kind_version,
            input: RenderedInput::new(stored.with, stored.secrets),
            workspace: stored.workspace,
            timeout: stored.limits.timeout,
            limits: Limits {
                memory: stored.limits.memory.map(ByteSize),
                cpu_millis: stored.limits.cpu,
                pids: stored.limits.pids,
            },
            cache: stored.cache,
            pool: stored.pool,
            labels: stored.labels,
            artifacts: stored.artifacts,
            history: stored.history,
            max_log: stored.max_log.unwrap_or(MAX_LOG_BYTES),
        })
    }
}

#[cfg(test)]
mod tests {
    use fairlead_run::Epoch;
    use serde_json::json;

    use super::*;

    fn job() -> JobSpec {
        let run = RunId::mint(1, 2);
        let step: StepId = "scan[web]".parse().unwrap();
        let sbom = json!({ "name": "a.json", "media_type": "application/json",
            "digest": Digest::sha256(b"sbom"), "size": 4 });
        let with = json!({ "sbom": sbom, "token": "{{ secrets.npm }}", "list": [1, null] });
        let input = RenderedInput::new(with, vec![("/token".into(), "npm".into())]);
        JobSpec {
            token: AttemptToken::mint(&run, &step, 3, Epoch(7)),
            run,
            pipeline: "release".into(),
            step,
            attempt: 3,
            kind: "scan".into(),
            kind_version: "2".into(),
            artifacts: JobSpec::artifacts_of(&input, &Workspace::Empty {}),
            input,
            workspace: Workspace::local("/work"),
            timeout: Some(HumanDuration(std::time::Duration::from_secs(60))),
            limits: Limits { memory: Some(ByteSize(1 << 30)), cpu_millis: None, pids: Some(100) },
            cache: Some(Cache { ttl: None }),
            pool: Some("arm64".into()),
            labels: BTreeMap::from([("disk".into(), "fast".into())]),
            history: None,
            max_log: 1 << 20,
        }
    }

    #[test]
    fn a_job_reads_back_as_written_and_names_what_it_needs() {
        let job = job();
        assert_eq!(job.artifacts, [Digest::sha256(b"sbom")]);
        let bytes = job.to_bytes();
        assert_eq!(JobSpec::from_bytes(&bytes).unwrap(), job);
        assert_eq!(job.input.secrets().into_iter().collect::<Vec<_>>(), ["npm"]);
    }

    #[test]
    fn what_is_no_job_says_why() {
        let text = String::from_utf8(job().to_bytes()).unwrap();
        let newer = JobSpec::from_bytes(text.replace("job/v1", "job/v9").as_bytes()).unwrap_err();
        assert!(newer.to_string().contains("`fairlead.dev/job/v9`"), "{newer}");
        for bad in ["", "{}", "[]", &text.replace("\"attempt\":3", "\"attempt\":-3"), &text[1..]] {
            assert!(matches!(JobSpec::from_bytes(bad.as_bytes()), Err(JobError::Malformed(_))));
        }
        let token = job().token;
        let forged = text.replace(token.as_str(), "../../etc");
        assert!(matches!(JobSpec::from_bytes(forged.as_bytes()), Err(JobError::Malformed(_))));
    }
}
