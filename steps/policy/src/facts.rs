//! What is found at an image, as far as a policy asks for it.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_evidence::{
    Answer, Demand, PredicateType, attestations, find_bundles, find_legacy, overall,
};
use fairlead_oci::{Client, Error};
use fairlead_step::Image;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::Policy;
use crate::document::{Asks, RuleMode};

/// How many keys are asked for side by side.
const SIDE_BY_SIDE: usize = 4;

/// A key, and whether the image's own repository must be named.
pub(crate) type By = (String, bool);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub(crate) signatures: BTreeMap<By, Answer>,
    pub(crate) attestations: BTreeMap<(By, PredicateType), Attested>,
}

/// What one key says of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attested {
    pub(crate) answer: Answer,
    pub(crate) predicates: Vec<Value>,
}

/// Looks for what `policy` asks for at `image`, and for nothing else.
///
/// # Errors
/// When the image is not there, or the registry cannot be asked.
pub async fn gather(client: &Client, image: &Image, policy: &Policy) -> Result<Facts, Error> {
    // "No signature" is an answer about an image that is there, and no other.
    client.manifest(image).await?;
    let mut signed: BTreeSet<By> = BTreeSet::new();
    let mut attested: BTreeMap<By, BTreeSet<PredicateType>> = BTreeMap::new();
    for rule in policy.rules.iter().filter(|rule| rule.mode != RuleMode::Off) {
        match &rule.asks {
            Asks::Signature { by, here, .. } => {
                signed.extend(by.iter().map(|key| (key.clone(), *here)));
            }
            Asks::Attestation { kind, by, here, .. } => {
                for key in by {
                    attested.entry((key.clone(), *here)).or_default().insert(kind.clone());
                }
            }
        }
    }
    let mut facts = Facts::default();
    let demand = |here: bool| Demand {
        reference: here.then(|| image.repository.clone()),
        ..Demand::default()
    };
    let look = signed.into_iter().filter_map(|by| Some((policy.keys.get(&by.0)?, by)));
    let look: Vec<_> = look
        .map(|(key, by)| async move {
            let demand = demand(by.1);
            let (mut seen, bundles) = futures::join!(
                find_legacy(client, image, key, &demand),
                find_bundles(client, image, key, &demand),
            );
            seen.merge(bundles);
            let answer = overall(&seen.findings);
            match seen.failure {
                Some(error) if answer != Answer::Verified => Err(error),
                Some(_) | None => Ok((by, answer)),
            }
        })
        .collect();
    facts.signatures = stream::iter(look).buffered(SIDE_BY_SIDE).try_collect().await?;
    let look =
        attested.into_iter().filter_map(|(by, kinds)| Some((policy.keys.get(&by.0)?, by, kinds)));
    let look: Vec<_> = look
        .map(|(key, by, kinds)| async move {
            let kinds: Vec<PredicateType> = kinds.into_iter().collect();
            let found = attestations(client, image, key, &kinds, &demand(by.1)).await;
            let (proven, failure) = found;
            let all = proven.iter().all(|proven| proven.answer() == Answer::Verified);
            match failure {
                Some(error) if !all => Err(error),
                Some(_) | None => Ok((by, proven)),
            }
        })
        .collect();
    let mut looked = stream::iter(look).buffered(SIDE_BY_SIDE);
    while let Some((by, proven)) = looked.try_next().await? {
        for proven in proven {
            let predicates = proven.statements().map(|said| said.predicate.clone()).collect();
            let said = Attested { answer: proven.answer(), predicates };
            facts.attestations.insert((by.clone(), proven.kind), said);
        }
    }
    Ok(facts)
}
