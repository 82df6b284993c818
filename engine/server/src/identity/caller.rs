//! A caller: a subject at the end of one request, and the guard that lets them in.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use fairlead_run::{
    AuditAction, AuditEntry, Groups, IdempotencyStore, Journal, Projects, Right, RunFilter,
    StoreError,
};
use fairlead_step::RunId;
use serde_json::{Map, Value};

use super::access::{Identity, Refusal};
use super::audit::Audit;
use super::rates::Rates;
use super::subject::{InNameOf, Subject};
use crate::current::Current;

/// What lets callers in.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) identity: Arc<Identity>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) projects: Current<Projects>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) audit: Audit,
    /// What is kept of requests that show a key.
    pub(crate) keyed: Arc<dyn IdempotencyStore>,
    /// Which pipeline a run is of, and so which project.
    pub(crate) journal: Arc<dyn Journal>,
}

/// Who has asked.
#[derive(Clone)]
pub(crate) struct Caller {
    subject: Arc<Subject>,
    address: IpAddr,
    projects: Arc<Projects>,
    groups: Arc<Groups>,
    audit: Audit,
}

impl Guard {
    /// Who a request from `address` to `path` with these headers is of.
    pub(crate) async fn admit(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Caller, Refusal> {
        self.rates.request(address).map_err(Refusal::TooMany)?;
        let why = match self.identity.subject(headers).await {
            Ok(subject) => {
                return Ok(Caller {
                    subject: Arc::new(subject),
                    address,
                    projects: self.projects.get(),
                    groups: Arc::clone(&self.groups),
                    audit: self.audit.clone(),
                });
            }
            // Nothing was shown, so nothing was tried; or nothing could be looked up.
            Err(
                refusal @ (Refusal::NoToken
                | Refusal::Store(_)
                | Refusal::Away(_)
                | Refusal::TooMany(_)),
            ) => return Err(refusal),
            Err(refusal) => refusal,
        };
        self.rates.failed(address);
        let (via, said) = match &why {
            Refusal::Revoked => ("a token", "it was revoked"),
            Refusal::Expired(_) => ("a token", "its time is over"),
            Refusal::WebPage => ("a web page", "the API is not for web pages"),
            Refusal::Bad(why) => ("a token of an issuer", *why),
            Refusal::WrongToken
            | Refusal::NoToken
            | Refusal::Store(_)
            | Refusal::Away(_)
            | Refusal::TooMany(_) => ("a token", "it is not known"),
        };
        tracing::warn!(%address, path, "a login is refused: {said}");
        self.audit
            .refused(AuditEntry {
                actor: "unknown".to_owned(),
                via: via.to_owned(),
                on_behalf_of: None,
                address: Some(address.to_string()),
                action: AuditAction::LoginRefused,
                target: path.to_owned(),
                detail: Map::from_iter([("why".to_owned(), said.into())]),
            })
            .await;
        Err(why)
    }

    /// The pipeline that a run is of; none when there is no such run.
    pub(crate) async fn pipeline_of(&self, run: &RunId) -> Result<Option<String>, StoreError> {
        let this = RunFilter { run: Some(run.clone()), limit: 1, ..RunFilter::default() };
        let found = self.journal.list(this).await?;
        Ok(found.into_iter().next().map(|run| run.pipeline))
    }
}

impl Caller {
    /// What they are called.
    pub(crate) fn name(&self) -> &str {
        &self.subject.name
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether they may do that with what belongs to a pipeline.
    pub(crate) fn may(&self, right: Right, pipeline: &str) -> bool {
        self.projects.allow(&self.subject.grants, right, pipeline)
    }

    /// Whether they may look at what belongs to a pipeline.
    pub(crate) fn sees(&self, pipeline: &str) -> bool {
        self.may(Right::View, pipeline)
    }

    /// Whether they may do that with what belongs to no pipeline.
    pub(crate) fn may_everywhere(&self, right: Right) -> bool {
        self.subject.grants.iter().any(|grant| grant.allows_everywhere(right))
    }

    /// Whether they may do that with anything at all.
    pub(crate) fn may_somewhere(&self, right: Right) -> bool {
        self.subject.grants.iter().any(|grant| grant.role.allows(right))
    }

    /// In whose name they vote, when `by` is who the vote is to be of; none when they may not say that.
    pub(crate) fn in_name_of(&self, by: Option<String>) -> Option<InNameOf> {
        self.subject.in_name_of(by, &self.groups)
    }

    /// Writes down what is about to be done. Where that is not possible it must not be done.
    pub(crate) async fn record(
        &self,
        action: AuditAction,
        target: impl Into<String>,
        on_behalf_of: Option<&str>,
        detail: Map<String, Value>,
    ) -> Result<(), StoreError> {
        self.audit.write(self.entry(action, target.into(), on_behalf_of, detail)).await
    }

    /// Writes down that they wanted what they may not.
    pub(crate) async fn refused(&self, target: &str, why: &str) {
        tracing::warn!(subject = self.name(), address = %self.address, target, "refused: {why}");
        let detail = Map::from_iter([("why".to_owned(), why.into())]);
        let action = AuditAction::AccessRefused;
        self.audit.refused(self.entry(action, target.to_owned(), None, detail)).await;
    }

    fn entry(
        &self,
        action: AuditAction,
        target: String,
        on_behalf_of: Option<&str>,
        detail: Map<String, Value>,
    ) -> AuditEntry {
        AuditEntry {
            actor: self.subject.name.clone(),
            via: self.subject.via.clone(),
            on_behalf_of: on_behalf_of.map(str::to_owned),
            address: Some(self.address.to_string()),
            action,
            target,
            detail,
        }
    }
}
