//! Version 4: what the versions before it cannot say, and nothing else. The workspace of a run is a
//! value.

use std::path::PathBuf;

use fairlead_step::{CheckoutOptions, Digest, GitWorkspace, ObjectId, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::v3::OriginV3;
use crate::{Request, RunEvent};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FactV4 {
    Requested(Box<RequestedV4>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestedV4 {
    pipeline: String,
    plan: Digest,
    params: Value,
    event: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    by: String,
    workspace: WorkspaceV4,
    engine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<OriginV3>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum WorkspaceV4 {
    Empty {},
    Git(GitV4),
    /// Stores find what a run works on by the text of the digest.
    Archive {
        digest: Digest,
    },
    /// Beside another field that only this version has.
    Local {
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GitV4 {
    source: String,
    repository: String,
    commit: ObjectId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clone_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_url: Option<String>,
    depth: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sparse: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl From<Workspace> for WorkspaceV4 {
    fn from(workspace: Workspace) -> Self {
        match workspace {
            Workspace::Empty {} => Self::Empty {},
            Workspace::Git(git) => Self::Git(GitV4 {
                source: git.source,
                repository: git.repository,
                commit: git.commit,
                reference: git.reference,
                clone_url: git.clone_url,
                ssh_url: git.ssh_url,
                depth: git.options.depth,
                sparse: git.options.sparse,
                partial: git.options.partial,
            }),
            Workspace::Archive { digest } => Self::Archive { digest },
            Workspace::Local { path } => Self::Local { path },
        }
    }
}

impl From<WorkspaceV4> for Workspace {
    fn from(stored: WorkspaceV4) -> Self {
        match stored {
            WorkspaceV4::Empty {} => Self::Empty {},
            WorkspaceV4::Git(git) => Self::Git(GitWorkspace {
                source: git.source,
                repository: git.repository,
                commit: git.commit,
                reference: git.reference,
                clone_url: git.clone_url,
                ssh_url: git.ssh_url,
                options: CheckoutOptions {
                    depth: git.depth,
                    sparse: git.sparse,
                    partial: git.partial,
                },
            }),
            WorkspaceV4::Archive { digest } => Self::Archive { digest },
            WorkspaceV4::Local { path } => Self::Local { path },
        }
    }
}

impl FactV4 {
    /// The stored form; nothing for a fact that an older version has.
    pub(super) fn of(event: &RunEvent) -> Option<Self> {
        Some(match event.clone() {
            RunEvent::Requested(request) => Self::Requested(Box::new(RequestedV4 {
                pipeline: request.pipeline,
                plan: request.plan,
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                workspace: request.workspace.into(),
                engine: request.engine,
                group: request.group,
                origin: request.origin.map(OriginV3::from),
            })),
            RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CacheHit { .. }
            | RunEvent::Started { .. }
            | RunEvent::Finished { .. }
            | RunEvent::AttemptLost { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => return None,
        })
    }
}

impl From<FactV4> for RunEvent {
    fn from(stored: FactV4) -> Self {
        match stored {
            FactV4::Requested(request) => Self::Requested(Box::new(Request {
                pipeline: request.pipeline,
                plan: request.plan,
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                workspace: request.workspace.into(),
                engine: request.engine,
                group: request.group,
                origin: request.origin.map(Into::into),
            })),
        }
    }
}
