//! The guard before every route: who asks, whether they may, and then the body, within its time.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fairlead_run::Right;

use super::body::all_of;
use super::keyed::{self, RequestKey};
use super::problem::Problem;
use super::routes::Needs;
use super::runs::run_id;
use crate::identity::{Caller, Guard, Refusal};

/// The most bytes of a request to the API. Webhooks have their own limit.
const MAX_REQUEST: usize = 1 << 20;

/// Where a request has come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    /// The peer of a request. The listener says it of each.
    pub(crate) fn of(request: &axum::http::Extensions) -> IpAddr {
        request.get::<Self>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0)
    }
}

/// Lets a request through to its route when its caller may do what the route does.
pub(crate) async fn check(
    State((guard, needs)): State<(Guard, Needs)>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    match admitted(&guard, needs, &params, request).await {
        // The event that asks for a run of a pipeline is known again by itself, and for longer.
        Ok(request) if matches!(needs, Needs::OfPipeline(_)) => next.run(request).await,
        Ok(request) => keyed::once(&guard, request, next).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets a webhook through, unless its address has sent too much that was none. Senders have many messages,
/// and some share an address with others: what counts is to be wrong.
pub(crate) async fn meter(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let address = Peer::of(request.extensions());
    if let Err(wait) = guard.rates.look(address) {
        return Problem::too_many(wait).into_response();
    }
    let response = next.run(request).await;
    if response.status().is_client_error() {
        guard.rates.charge(address);
    }
    response
}

async fn admitted(
    guard: &Guard,
    needs: Needs,
    params: &RawPathParams,
    request: Request,
) -> Result<Request, Refused> {
    let path = request.uri().path().to_owned();
    let address = Peer::of(request.extensions());
    let caller = guard.admit(address, request.headers(), &path).await;
    let caller = caller.map_err(Refused::from)?;
    may(guard, &caller, needs, params, &path).await?;
    // Nobody who may not do it makes this server read a body.
    let (mut head, body) = request.into_parts();
    let name = caller.name().to_owned();
    head.extensions.insert(caller);
    // What is brought to stay comes piece by piece, and its route sees to its size and its time.
    if head.method == axum::http::Method::PUT {
        return Ok(Request::from_parts(head, body));
    }
    let body = all_of(body, MAX_REQUEST).await?;
    let key = RequestKey::of(&head, &name, &body, guard.identity.clock.now())?;
    head.extensions.insert(key);
    Ok(Request::from_parts(head, body.into()))
}

async fn may(
    guard: &Guard,
    caller: &Caller,
    needs: Needs,
    params: &RawPathParams,
    path: &str,
) -> Result<(), Problem> {
    let named = |name| params.iter().find(|(param, _)| *param == name).map(|(_, value)| value);
    let (right, pipeline) = match needs {
        Needs::Nothing | Needs::Proof | Needs::Caller => return Ok(()),
        Needs::Somewhere(right) if caller.may_somewhere(right) => return Ok(()),
        Needs::Everywhere(right) if caller.may_everywhere(right) => return Ok(()),
        Needs::Somewhere(right) | Needs::Everywhere(right) => {
            let everywhere = matches!(needs, Needs::Everywhere(_));
            let projects = if everywhere { "every project" } else { "any project" };
            let why = format!("it takes the right to {} in {projects}", word(right));
            caller.refused(path, &why).await;
            return Err(forbidden(caller, &why));
        }
        Needs::OfPipeline(right) => {
            (right, named("pipeline").map(str::to_owned).unwrap_or_default())
        }
        Needs::OfRun(right) => {
            let run = run_id(named("run").unwrap_or_default())?;
            match guard.pipeline_of(&run).await? {
                Some(pipeline) => (right, pipeline),
                None => return Err(no_run(&run)),
            }
        }
    };
    if caller.may(right, &pipeline) {
        return Ok(());
    }
    let projects = guard.projects.get();
    let projects = projects.of(&pipeline).join("` and `");
    let why = format!("it takes the right to {} in `{projects}`", word(right));
    caller.refused(path, &why).await;
    // Whoever may not look at it does not learn that it is there.
    match needs {
        Needs::OfRun(_) if !caller.sees(&pipeline) => {
            Err(no_run(&run_id(named("run").unwrap_or_default())?))
        }
        Needs::OfPipeline(_) if !caller.sees(&pipeline) => Err(super::pipelines::no_pipeline()),
        Needs::OfRun(_)
        | Needs::OfPipeline(_)
        | Needs::Nothing
        | Needs::Proof
        | Needs::Caller
        | Needs::Somewhere(_)
        | Needs::Everywhere(_) => Err(forbidden(caller, &why)),
    }
}

const fn word(right: Right) -> &'static str {
    match right {
        Right::View => "look",
        Right::Operate => "operate",
        Right::Approve => "approve",
        Right::Administer => "administer",
    }
}

fn forbidden(caller: &Caller, why: &str) -> Problem {
    let detail = format!("`{}` may not do this: {why}", caller.name());
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "the caller may not do this", detail)
        .hint("docs/access.md says what each role may do")
}

/// The answer of a journal that has no such run.
fn no_run(run: &fairlead_step::RunId) -> Problem {
    fairlead_run::StoreError::NoSuchRun { run: run.clone() }.into()
}

/// Why a request does not reach its route.
enum Refused {
    Problem(Problem),
    /// With the challenge that RFC 9110 asks for.
    Unauthorized(Problem),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let unauthorized = |why: &str| Self::Unauthorized(Problem::unauthorized(why));
        match refusal {
            Refusal::NoToken => unauthorized("there is no `Authorization: Bearer …` header"),
            Refusal::WrongToken => unauthorized("the token is not one that this server knows"),
            Refusal::Revoked => unauthorized("the token was revoked"),
            Refusal::Expired(at) => unauthorized(&format!("the token ended at {at}")),
            Refusal::WebPage => Self::Problem(Problem::new(
                StatusCode::FORBIDDEN,
                "web-page",
                "the API is not for web pages",
                "the API has no token, so requests from web pages and other host names are refused",
            )),
            Refusal::TooMany(wait) => Self::Problem(Problem::too_many(wait)),
            Refusal::Bad(why) => unauthorized(&format!("the token is not taken: {why}")),
            Refusal::Away(why) => Self::Problem(Problem::unavailable(format!(
                "the issuer of the token cannot be asked: {why}"
            ))),
            Refusal::Store(error) => Self::Problem(error.into()),
        }
    }
}

impl Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Unauthorized(problem) => {
                let mut response = problem.into_response();
                let challenge = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
        }
    }
}
