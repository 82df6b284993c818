//! The Run state machine, its records, and the ports to where they are kept. No stable API.
//!
//! A [`Run`] is the fold of its journal: [`Run::apply`] takes in one [`Record`] after another, and
//! [`Run::commands`] answers what is to be done. Whoever drives a run goes round one loop:
//! *take a command → append its fact durably → apply it → perform it*. Recovery is the same loop
//! behind [`Run::recovery`].
//!
//! Nothing here does I/O, reads a clock or starts a task. The ports ([`Journal`], [`EventStore`],
//! [`LogStore`], [`TokenStore`], [`AuditLog`], [`IdempotencyStore`]) are answered by `fairlead-store`; with the feature `conformance`, the module of
//! that name checks that an implementation keeps what they promise.

mod access;
mod audit;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod decide;
mod deliveries;
mod error;
mod explain;
mod export;
mod fact;
mod gates;
mod groups;
mod history;
mod idempotency;
mod inbox;
mod items;
mod journal;
mod kept;
mod limit;
mod log;
mod notices;
mod open;
mod record;
mod rerun;
mod result_cache;
mod run;
mod signal;
mod state;
mod steps;
mod stored;
mod token;
mod view;

pub use access::{Grant, GrantError, ProjectError, Projects, Right, Role, is_project_name};
pub use audit::{
    AuditAction, AuditDecodeError, AuditEntry, AuditLog, AuditRecord, MOST_ENTRIES, check_audit,
};
pub use command::Command;
pub use deliveries::{
    DeliveryFilter, DeliveryOutcome, DeliveryStore, DeliveryView, NewDelivery, StoredDelivery,
    TakeDeliveries,
};
pub use error::{ApplyError, ReplayError};
pub use explain::{Around, Explanation, StepExplanation, Unblock};
pub use export::{ImportError, MAX_EXPORT_BYTES};
pub use fact::{
    AttemptToken, CancelReason, Decision, Epoch, Failure, Origin, Purpose, Request, RunEvent, Seq,
    SkipReason, StepResult, TokenError, Vote, Voter,
};
pub use gates::Ballot;
pub use groups::Groups;
pub use idempotency::{
    IdempotencyStore, KEYED_FOR, KeptAnswer, KeyedEnd, KeyedRequest, KeyedStart, MAX_KEPT_ANSWER,
};
pub use inbox::{
    Claimed, DueEvent, EventFilter, EventRun, EventState, EventStore, EventView, Inserted,
    MAX_CHECKPOINT_BYTES, MAX_REASON_BYTES, NewEvent, Retried, StoredEvent, TagPush, UnknownState,
};
pub use journal::{
    Admission, AppendError, Batch, BoxError, Created, Group, Head, Journal, Lease, LeaseError,
    NewRun, PlanBlob, RunFilter, RunStatus, RunSummary, StoreError, StoredRun, Wake,
};
pub use kept::{Kept, KeptOutputs, KeptRecords, ResultRef};
pub use limit::bounded_text;
pub use log::{LOG_CUT, LogKey, LogLine, LogPage, LogStore, MAX_LINE_BYTES, MAX_LOG_BYTES};
pub use record::{ChainError, Record, RecordHash, SealError, check_chain};
pub use rerun::RerunError;
pub use result_cache::{CachedResult, ResultCache};
pub use run::{Cancel, MOST_LOST_ATTEMPTS, Queue, Run};
pub use signal::{Signal, SignalId, StoredSignal};
pub use stored::{DecodeError, RECORD_VERSION};
pub use token::{
    ApiTokenError, MOST_TOKENS, Revoked, StoredToken, TOKEN_PREFIX, TokenStore, new_token,
    token_hash,
};
pub use view::{Attempt, AttemptEnd, GateView, StepStatus, StepView};
