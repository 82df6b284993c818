//! Results that are cached: by the digest of all that goes into an attempt of a pure kind.

use fairlead_run::CachedResult;
use fairlead_step::{Digest, Effect, StepContext, error_chain};
use serde_json::{Value, json};

use crate::attempts::AttemptResult;
use crate::host::{Host, Job};

impl Host {
    /// The digest of all that goes into the attempt; none when its result is not to be cached.
    /// The log says why.
    pub(crate) async fn cache_key(
        &self,
        job: &Job,
        with: &Value,
        context: &StepContext,
    ) -> Option<Digest> {
        let spec = job.kind.spec();
        if spec.effect != Effect::Pure {
            context.say(format!("the result is not cached: `{}` is not pure", spec.kind));
            return None;
        }
        // What a secret is must not be guessed from a digest.
        if !job.spec.input.secrets().is_empty() {
            context.say("the result is not cached: a secret went in");
            return None;
        }
        let reads = match job.stop.guard(job.kind.reads(with, context)).await {
            Ok(reads) => reads,
            Err(error) => {
                context.say(format!(
                    "the result is not cached: what else goes in cannot be told: {}",
                    error.chain()
                ));
                return None;
            }
        };
        let whole = json!({
            "format": "fairlead.dev/cache/v1",
            "kind": spec.kind,
            "version": spec.version,
            "with": with,
            "reads": reads,
        });
        Some(Digest::sha256(whole.to_string().as_bytes()))
    }

    /// The result under `key`, when there is one that still stands.
    pub(crate) async fn recall(
        &self,
        job: &Job,
        key: &Digest,
        context: &StepContext,
    ) -> Option<AttemptResult> {
        let found = match self.result_cache.recall(key).await {
            Ok(found) => found?,
            Err(error) => {
                context.say(format!("no earlier result is looked for: {}", error_chain(&error)));
                return None;
            }
        };
        let ttl = job.spec.cache.and_then(|cache| cache.ttl);
        if ttl.is_some_and(|ttl| ttl.after(found.at) <= context.now()) {
            return None;
        }
        let CachedResult { run, step, at, outputs } = found;
        context.say(format!(
            "the same went into `{step}` of run {run} at {at}: its result stands (key {key})"
        ));
        Some(AttemptResult::CacheHit { key: key.clone(), run, outputs })
    }

    /// Keeps the result of an attempt that passed.
    pub(crate) async fn remember(
        &self,
        job: &Job,
        key: &Digest,
        outputs: &Value,
        context: &StepContext,
    ) {
        let result = CachedResult {
            run: job.spec.run.clone(),
            step: job.spec.step.clone(),
            at: context.now(),
            outputs: outputs.clone(),
        };
        if let Err(error) = self.result_cache.remember(key, result).await {
            context.say(format!("the result is not cached: {}", error_chain(&error)));
        }
    }
}
