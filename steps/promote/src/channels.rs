//! Channels: tags that are meant to move, each by compare-and-swap, with a record of where it was.

use std::collections::BTreeMap;

use fairlead_oci::{Client, Error};
use fairlead_step::{Digest, Image, StepContext, StepError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::record::{self, Record};
use crate::{Input, Way};

/// A channel that points to the promoted image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Where it pointed before this step, if anywhere. The same as `to` where it pointed to the
    /// promoted image already.
    pub from: Option<Digest>,
    /// Where it points now.
    pub to: Digest,
}

/// From where each channel is to move.
pub(crate) struct Plan {
    from: BTreeMap<String, Option<Digest>>,
    /// The digest of the closure, where an earlier attempt wrote this plan down.
    recorded: Option<Digest>,
    /// Whether the image is at the destination by digest.
    there: bool,
}

impl Plan {
    /// Where each channel pointed before.
    pub(crate) const fn from(&self) -> &BTreeMap<String, Option<Digest>> {
        &self.from
    }

    /// Whether the image was seen at the destination.
    pub(crate) const fn is_there(&self) -> bool {
        self.there
    }

    /// The digest of the closure, where an earlier attempt wrote it down.
    pub(crate) const fn recorded(&self) -> Option<&Digest> {
        self.recorded.as_ref()
    }
}

/// The channels as they are in the end, and the digest of what was copied.
pub(crate) struct Moved {
    pub(crate) channels: Vec<Channel>,
    pub(crate) closure: Digest,
}

/// Looks where the channels are. Nothing is changed.
pub(crate) async fn plan(
    client: &Client,
    input: &Input,
    promoted: &Image,
    context: &StepContext,
) -> Result<Plan, StepError> {
    let looked = input.channels.iter().map(|name| async move {
        Ok::<_, Error>((name.clone(), client.tag_digest(&promoted.repository, name).await?))
    });
    let now: BTreeMap<String, Option<Digest>> =
        futures::future::try_join_all(looked).await?.into_iter().collect();
    // An earlier attempt leaves its record before it moves anything, so a record can exist only
    // where the image does.
    let there = !now.is_empty() && client.has_manifest(&input.to, &promoted.digest).await?;
    if there && let Some(record) = record::find(client, promoted, context).await? {
        return Ok(Plan { from: record.channels, recorded: Some(record.closure), there });
    }
    for (name, expected) in &input.expect {
        let found = now.get(name).cloned().flatten();
        if found.as_ref() != Some(expected) && found.as_ref() != Some(&promoted.digest) {
            return Err(moved(promoted, name, Some(expected), found.as_ref()));
        }
    }
    Ok(Plan { from: now, recorded: None, there })
}

/// Fails when a channel is neither where it was nor where it is to go.
pub(crate) async fn check(
    client: &Client,
    input: &Input,
    promoted: &Image,
    plan: &Plan,
) -> Result<(), StepError> {
    let looked = input.channels.iter().map(|name| async move {
        Ok::<_, Error>((name, client.tag_digest(&promoted.repository, name).await?))
    });
    for (name, found) in futures::future::try_join_all(looked).await? {
        let from = plan.from.get(name).cloned().flatten();
        if found != from && found.as_ref() != Some(&promoted.digest) {
            return Err(moved(promoted, name, from.as_ref(), found.as_ref()));
        }
    }
    Ok(())
}

/// Moves what is not there yet.
pub(crate) async fn move_all(
    client: &Client,
    input: &Input,
    way: &Way,
    context: &StepContext,
) -> Result<Moved, StepError> {
    let Way { promoted, plan, closure, .. } = way;
    let to = &promoted.digest;
    let moves = plan.from.values().any(|from| from.as_ref() != Some(to));
    if moves && plan.recorded.is_none() {
        let info = context.info();
        let record = Record {
            key: info.idempotency_key(),
            pipeline: info.pipeline.clone(),
            source: input.image.clone(),
            image: promoted.clone(),
            closure: closure.clone(),
            tags: input.tags.clone(),
            channels: plan.from.clone(),
            at: context.now().to_string(),
        };
        record::write(client, &record, way.manifest()).await?;
    }
    let mut channels = Vec::new();
    for name in &input.channels {
        let from = plan.from.get(name).cloned().flatten();
        if from.as_ref() != Some(to) {
            let done = client.move_tag_to(promoted, way.manifest(), name, from.as_ref()).await;
            let done = done.map_err(|error| {
                if let Error::TagMoved { expected, found, .. } = &error {
                    return moved(promoted, name, expected.as_ref(), found.as_ref());
                }
                error.into()
            })?;
            if done.from.as_ref() != Some(to) {
                let before = from.as_ref().map_or("nothing".to_owned(), ToString::to_string);
                context.say(format!("channel {name} moved from {before} to {to}"));
            }
        }
        channels.push(Channel { name: name.clone(), from, to: to.clone() });
    }
    // Within one repository the record is itself attached to the image by now, so what belongs to
    // the image has another digest than in the attempt that wrote it.
    Ok(Moved { channels, closure: closure.clone() })
}

fn moved(
    promoted: &Image,
    name: &str,
    expected: Option<&Digest>,
    found: Option<&Digest>,
) -> StepError {
    let text = |digest: Option<&Digest>| digest.map_or("nothing".to_owned(), ToString::to_string);
    StepError::terminal(format!(
        "channel `{name}` of {} points to {}, but {} was expected",
        promoted.repository,
        text(found),
        text(expected)
    ))
    .hint("somebody else moved it; look at both images, and promote again if this one shall win")
}
