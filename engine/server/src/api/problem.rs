//! Problems: what went wrong, as RFC 9457 has it.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fairlead_plan::ParamProblem;
use fairlead_run::StoreError;
use fairlead_step::error_chain;
use serde::Serialize;
use utoipa::ToSchema;

use crate::identity::TooMany;

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind of problem, as a URI that does not change.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// The way out, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// How many seconds to wait before it is tried again.
    #[serde(skip)]
    wait: Option<u16>,
    /// Every single thing that is wrong, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        slug: &str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("https://fairlead.dev/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            wait: None,
            errors: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "the request is malformed", detail)
    }

    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is no such thing here", detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the proof is missing or wrong", detail)
    }

    /// For parameters that do not fit `what`.
    pub(crate) fn params(what: &str, problems: &[ParamProblem]) -> Self {
        let errors = problems.iter().map(|problem| match &problem.hint {
            Some(hint) => format!("{problem}; {hint}"),
            None => problem.to_string(),
        });
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let detail = format!("the parameters do not fit {what}");
        Self::new(status, "params", "the parameters do not fit", detail).errors(errors.collect())
    }

    /// For an address that has to wait.
    pub(crate) fn too_many(TooMany { wait }: TooMany) -> Self {
        let seconds = u16::try_from(wait.as_secs() + 1).unwrap_or(u16::MAX);
        let detail = format!("this address may ask again in {seconds} s");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let problem = Self::new(status, "too-many", "there were too many requests", detail);
        Self { wait: Some(seconds), ..problem }
    }

    /// For what may work when it is tried again.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "something that is needed is away", detail)
    }

    /// Says after how many seconds it may be asked again.
    #[must_use]
    pub(crate) const fn wait(mut self, seconds: u16) -> Self {
        self.wait = Some(seconds);
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchRun { .. } => Self::missing(error.to_string()),
            StoreError::Unavailable { .. } => {
                tracing::error!("{}", error_chain(&error));
                Self::unavailable(error.to_string())
            }
            // The details of a damaged store are for its keeper.
            StoreError::Damaged { .. } | StoreError::Unreadable { .. } | _ => {
                tracing::error!("{}", error_chain(&error));
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "store", "the store is damaged", "see the log of the server")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let wait = self.wait;
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        let wait = wait.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(5));
        if let Some(wait) = wait {
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        response
    }
}

pub(crate) async fn not_found() -> Problem {
    Problem::missing("there is nothing under this path")
}

pub(crate) async fn not_allowed() -> Problem {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Problem::new(status, "method", "the method is not allowed", "this path has other methods")
}
