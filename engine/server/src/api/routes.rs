//! The routes: one table of all that there are, and what each needs. The router is built from it, and so is
//! the test of who may do what.

use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, options, post, put};
use fairlead_run::Right;

use super::state::Api;
use super::{
    artifacts, audit, decisions, events, files, guard, health, journals, live, metrics, pipelines,
    problem, retention, runs, tokens, webhook,
};

/// What a caller needs for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: whoever reaches the port may ask.
    Nothing,
    /// What the source that the path names proves itself with.
    Proof,
    /// To be known.
    Caller,
    /// The right in some project. What is shown is what the caller may look at.
    Somewhere(Right),
    /// The right in the projects of the pipeline that the path names.
    OfPipeline(Right),
    /// The right in the projects of the run that the path names.
    OfRun(Right),
    /// The right in every project: what it is about belongs to none.
    Everywhere(Right),
}

/// A route.
pub(crate) struct Route {
    /// How it is asked for.
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of who may do what asks so"))]
    pub(crate) method: Method,
    /// Where it is.
    pub(crate) path: &'static str,
    /// What it takes.
    pub(crate) needs: Needs,
    handler: MethodRouter<Api>,
}

/// Every route that there is.
pub(crate) fn table() -> Vec<Route> {
    use Needs::{Everywhere, Nothing, OfPipeline, OfRun, Proof, Somewhere};
    use Right::{Administer, Approve, Operate, View};
    let read = |path, needs, handler| Route { method: Method::GET, path, needs, handler };
    let change = |path, needs, handler| Route { method: Method::POST, path, needs, handler };
    let bring = |path, needs, handler| Route { method: Method::PUT, path, needs, handler };
    let ask = |path, needs, handler| Route { method: Method::OPTIONS, path, needs, handler };
    vec![
        read("/healthz", Nothing, get(health::alive)),
        read("/readyz", Nothing, get(health::ready)),
        read("/metrics", Everywhere(View), get(metrics::read)),
        change("/webhooks/{source}", Proof, post(webhook::receive)),
        ask("/webhooks/{source}", Proof, options(webhook::may_send)),
        change("/webhooks/{source}/{end}", Proof, post(webhook::receive_at)),
        ask("/webhooks/{source}/{end}", Proof, options(webhook::may_send_at)),
        read("/api/v1/whoami", Needs::Caller, get(tokens::whoami)),
        read("/api/v1/events", Everywhere(View), get(events::list)),
        read("/api/v1/events/{event}", Everywhere(View), get(events::show)),
        change("/api/v1/events/{event}/retry", Everywhere(Operate), post(events::retry)),
        read("/api/v1/pipelines", Somewhere(View), get(pipelines::list)),
        change("/api/v1/pipelines/{pipeline}/runs", OfPipeline(Operate), post(pipelines::start)),
        bring("/api/v1/artifacts/{digest}", Somewhere(Operate), put(artifacts::put)),
        change("/api/v1/prune", Everywhere(Administer), post(retention::prune)),
        read("/api/v1/runs", Somewhere(View), get(runs::list)),
        change("/api/v1/runs", Everywhere(Operate), post(files::start)),
        read("/api/v1/runs/{run}", OfRun(View), get(runs::show)),
        change("/api/v1/runs/{run}/cancel", OfRun(Operate), post(decisions::cancel)),
        change("/api/v1/runs/{run}/abandon", OfRun(Operate), post(decisions::abandon)),
        read("/api/v1/runs/{run}/artifacts/{digest}", OfRun(View), get(artifacts::of_run)),
        read("/api/v1/runs/{run}/explain", OfRun(View), get(decisions::explain)),
        read("/api/v1/runs/{run}/journal", OfRun(View), get(journals::export)),
        read("/api/v1/runs/{run}/logs", OfRun(View), get(journals::logs)),
        change("/api/v1/runs/{run}/retry", OfRun(Operate), post(files::retry)),
        change("/api/v1/runs/{run}/undo", OfRun(Operate), post(files::undo)),
        change("/api/v1/runs/{run}/steps/{step}/approve", OfRun(Approve), post(decisions::approve)),
        change("/api/v1/runs/{run}/steps/{step}/reject", OfRun(Approve), post(decisions::reject)),
        change("/api/v1/runs/{run}/steps/{step}/settle", OfRun(Operate), post(decisions::settle)),
        read("/api/v1/runs/{run}/logs/{step}", OfRun(View), get(runs::log)),
        read("/api/v1/runs/{run}/events", OfRun(View), get(live::events)),
        read("/api/v1/tokens", Everywhere(Administer), get(tokens::list)),
        change("/api/v1/tokens", Everywhere(Administer), post(tokens::create)),
        change("/api/v1/tokens/{token}/revoke", Everywhere(Administer), post(tokens::revoke)),
        read("/api/v1/audit", Everywhere(Administer), get(audit::list)),
    ]
}

pub(crate) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for Route { path, needs, handler, .. } in table() {
        let handler = match needs {
            Needs::Nothing => handler,
            Needs::Proof => {
                handler.route_layer(from_fn_with_state(api.guard.clone(), guard::meter))
            }
            Needs::Caller
            | Needs::Somewhere(_)
            | Needs::OfPipeline(_)
            | Needs::OfRun(_)
            | Needs::Everywhere(_) => {
                handler.route_layer(from_fn_with_state((api.guard.clone(), needs), guard::check))
            }
        };
        router = router.route(path, handler);
    }
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::not_allowed)
        .with_state(api)
}
