//! The routes: one table of all that there are, and what each needs. The router is built from it, and so is
//! the test of who may do what.

use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, options, post, put};
use fairlead_run::Right;

use super::openapi::{self, Says, says};
use super::state::Api;
use super::{
    artifacts, audit, decisions, deliveries, events, files, guard, health, journals, live, login,
    metrics, pipelines, problem, retention, runs, tokens, webhook,
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
    pub(crate) method: Method,
    /// Where it is.
    pub(crate) path: &'static str,
    /// What it takes.
    pub(crate) needs: Needs,
    /// What it says of itself.
    pub(crate) says: Says,
    handler: MethodRouter<Api>,
}

/// Every route that there is.
pub(crate) fn table() -> Vec<Route> {
    use Needs::{Everywhere, Nothing, OfPipeline, OfRun, Proof, Somewhere};
    use Right::{Administer, Approve, Operate, View};
    let read =
        |path, needs, handler, says| Route { method: Method::GET, path, needs, handler, says };
    let change =
        |path, needs, handler, says| Route { method: Method::POST, path, needs, handler, says };
    let bring =
        |path, needs, handler, says| Route { method: Method::PUT, path, needs, handler, says };
    let ask =
        |path, needs, handler, says| Route { method: Method::OPTIONS, path, needs, handler, says };
    let follows = "What the client has seen last; what came before it is not sent again";
    vec![
        read(
            "/healthz",
            Nothing,
            get(health::alive),
            says("alive", "Whether the process lives").other("text/plain", "`ok`"),
        ),
        read(
            "/readyz",
            Nothing,
            get(health::ready),
            says("ready", "Whether what is sent would be stored").json::<health::Ready>(200),
        ),
        read(
            "/metrics",
            Everywhere(View),
            get(metrics::read),
            says("metrics", "The measures of this server")
                .other(metrics::KIND, "The text form of OpenMetrics"),
        ),
        read(
            "/api/openapi.json",
            Nothing,
            get(openapi::show),
            says("describe", "This description").other("application/json", "OpenAPI 3.1"),
        ),
        change(
            "/webhooks/{source}",
            Proof,
            post(webhook::receive),
            webhook_says("receive", "Takes what a source reports"),
        ),
        ask(
            "/webhooks/{source}",
            Proof,
            options(webhook::may_send),
            says("maySend", "Whether a source may send CloudEvents").head(200),
        ),
        change(
            "/webhooks/{source}/{end}",
            Proof,
            post(webhook::receive_at),
            webhook_says("receiveAt", "Takes what a source reports whose proof is the address"),
        ),
        ask(
            "/webhooks/{source}/{end}",
            Proof,
            options(webhook::may_send_at),
            says("maySendAt", "Whether a source may send CloudEvents to this address").head(200),
        ),
        read(
            "/api/v1/login",
            Nothing,
            get(login::show),
            says("whereToLogIn", "Where people log in").json::<login::Logins>(200),
        ),
        read(
            "/api/v1/whoami",
            Needs::Caller,
            get(tokens::whoami),
            says("whoAmI", "Who the caller is, and what they may do").json::<tokens::WhoAmI>(200),
        ),
        read(
            "/api/v1/events",
            Everywhere(View),
            get(events::list),
            says("listEvents", "Lists events, newest first")
                .query::<events::ListQuery>()
                .json::<events::EventPage>(200),
        ),
        read(
            "/api/v1/events/{event}",
            Everywhere(View),
            get(events::show),
            says("showEvent", "Shows an event, its runs, and what each pipeline answers to it")
                .json::<events::EventShown>(200),
        ),
        change(
            "/api/v1/events/{event}/retry",
            Everywhere(Operate),
            post(events::retry),
            says("retryEvent", "Hands an event out again that is dead or waits")
                .json::<events::EventDue>(202),
        ),
        change(
            "/api/v1/events/{event}/replay",
            Everywhere(Operate),
            post(events::replay),
            says("replayEvent", "Lets an event happen once more, or says what would come of it")
                .may_take::<events::ReplayBody>()
                .json::<events::Replayed>(200)
                .json::<events::Replayed>(201),
        ),
        read(
            "/api/v1/deliveries",
            Everywhere(View),
            get(deliveries::list),
            says("listDeliveries", "Lists what others are told, newest first")
                .query::<deliveries::ListQuery>()
                .json::<deliveries::DeliveryPage>(200),
        ),
        change(
            "/api/v1/deliveries/{delivery}/retry",
            Everywhere(Operate),
            post(deliveries::retry),
            says("retryDelivery", "Sends a message again that is dead or waits")
                .json::<deliveries::DeliveryDue>(202),
        ),
        read(
            "/api/v1/pipelines",
            Somewhere(View),
            get(pipelines::list),
            says("listPipelines", "Lists the pipelines of this server, by name")
                .query::<pipelines::ListQuery>()
                .json::<pipelines::PipelineList>(200),
        ),
        change(
            "/api/v1/pipelines/{pipeline}/runs",
            OfPipeline(Operate),
            post(pipelines::start),
            says("startPipeline", "Asks for a run of one of the server's pipelines")
                .may_take::<pipelines::StartBody>()
                .json::<pipelines::RunStarted>(200)
                .json::<pipelines::RunStarted>(201),
        ),
        bring(
            "/api/v1/artifacts/{digest}",
            Somewhere(Operate),
            put(artifacts::put),
            says("putArtifact", "Takes bytes that are what the digest says")
                .takes_other("application/octet-stream", "The bytes")
                .json::<artifacts::ArtifactKept>(201),
        ),
        change(
            "/api/v1/prune",
            Everywhere(Administer),
            post(retention::prune),
            says("prune", "Removes runs that are over, and what nobody needs any more")
                .takes::<retention::PruneBody>()
                .other("application/json", "What went, or would go"),
        ),
        read(
            "/api/v1/runs",
            Somewhere(View),
            get(runs::list),
            says("listRuns", "Lists the runs that the caller may look at, newest first")
                .query::<runs::ListQuery>()
                .json::<runs::RunPage>(200),
        ),
        change(
            "/api/v1/runs",
            Everywhere(Operate),
            post(files::start),
            says("runFile", "Runs a pipeline file")
                .takes::<files::FileBody>()
                .json::<files::RunBegun>(200)
                .json::<files::RunBegun>(201),
        ),
        read(
            "/api/v1/runs/stream",
            Somewhere(View),
            get(live::all),
            says("followRuns", "Follows all runs that the caller may look at")
                .header("Last-Event-ID", follows)
                .other("text/event-stream", "Events `run`: a run as the list has it, at each change"),
        ),
        read(
            "/api/v1/runs/{run}",
            OfRun(View),
            get(runs::show),
            says("showRun", "Shows a run").json::<runs::RunShown>(200),
        ),
        change(
            "/api/v1/runs/{run}/cancel",
            OfRun(Operate),
            post(decisions::cancel),
            says("cancelRun", "Tells a run to stop")
                .may_take::<decisions::WordBody>()
                .json::<decisions::Told>(200)
                .json::<decisions::Told>(202),
        ),
        change(
            "/api/v1/runs/{run}/abandon",
            OfRun(Operate),
            post(decisions::abandon),
            says("abandonRun", "Ends a run that nothing else can end")
                .may_take::<decisions::WordBody>()
                .json::<decisions::Told>(200),
        ),
        read(
            "/api/v1/runs/{run}/artifacts/{digest}",
            OfRun(View),
            get(artifacts::of_run),
            says("showArtifact", "A document that the run's journal names")
                .other("application/octet-stream", "The document"),
        ),
        read(
            "/api/v1/runs/{run}/explain",
            OfRun(View),
            get(decisions::explain),
            says("explainRun", "Says why a run is where it is, and what would let it go on")
                .json::<decisions::ExplanationShown>(200),
        ),
        read(
            "/api/v1/runs/{run}/journal",
            OfRun(View),
            get(journals::export),
            says("exportJournal", "The journal of a run in its exported form")
                .other("application/x-ndjson", "A line for each record"),
        ),
        read(
            "/api/v1/runs/{run}/logs",
            OfRun(View),
            get(journals::logs),
            says("listLogs", "Which attempts of a run have logs").json::<journals::LogList>(200),
        ),
        change(
            "/api/v1/runs/{run}/retry",
            OfRun(Operate),
            post(files::retry),
            says("retryRun", "Makes a run again, from where it failed")
                .may_take::<files::RetryBody>()
                .json::<files::RunBegun>(200)
                .json::<files::RunBegun>(201),
        ),
        change(
            "/api/v1/runs/{run}/undo",
            OfRun(Operate),
            post(files::undo),
            says("undoRun", "Takes back what a run did")
                .may_take::<files::UndoBody>()
                .json::<files::RunBegun>(200)
                .json::<files::RunBegun>(201),
        ),
        change(
            "/api/v1/runs/{run}/steps/{step}/approve",
            OfRun(Approve),
            post(decisions::approve),
            says("approveStep", "Votes for a gate")
                .takes::<decisions::WordBody>()
                .json::<decisions::Told>(200)
                .json::<decisions::Told>(202),
        ),
        change(
            "/api/v1/runs/{run}/steps/{step}/reject",
            OfRun(Approve),
            post(decisions::reject),
            says("rejectStep", "Votes against a gate")
                .takes::<decisions::WordBody>()
                .json::<decisions::Told>(200)
                .json::<decisions::Told>(202),
        ),
        change(
            "/api/v1/runs/{run}/steps/{step}/settle",
            OfRun(Operate),
            post(decisions::settle),
            says("settleStep", "Decides of a lost attempt")
                .takes::<decisions::SettleBody>()
                .json::<decisions::Told>(200)
                .json::<decisions::Told>(202),
        ),
        read(
            "/api/v1/runs/{run}/logs/{step}",
            OfRun(View),
            get(runs::log),
            says("readLog", "A part of the log of an attempt")
                .query::<runs::LogQuery>()
                .json::<runs::LogShown>(200),
        ),
        read(
            "/api/v1/runs/{run}/events",
            OfRun(View),
            get(live::events),
            says("followRun", "Follows a run until it has ended")
                .header("Last-Event-ID", follows)
                .other(
                    "text/event-stream",
                    "Events `record` (of the journal, with its number as id), `line`, `progress`, `notice`",
                ),
        ),
        read(
            "/api/v1/tokens",
            Everywhere(Administer),
            get(tokens::list),
            says("listTokens", "Lists tokens, newest first")
                .query::<tokens::ListQuery>()
                .json::<tokens::TokenPage>(200),
        ),
        change(
            "/api/v1/tokens",
            Everywhere(Administer),
            post(tokens::create),
            says("createToken", "Makes a token, and shows it this once")
                .takes::<tokens::NewToken>()
                .json::<tokens::TokenMade>(201),
        ),
        change(
            "/api/v1/tokens/{token}/revoke",
            Everywhere(Administer),
            post(tokens::revoke),
            says("revokeToken", "Revokes a token, for good and at once")
                .json::<tokens::TokenRevoked>(200),
        ),
        read(
            "/api/v1/audit",
            Everywhere(Administer),
            get(audit::list),
            says("readAudit", "Reads the audit log, in the order in which it was written")
                .query::<audit::ListQuery>()
                .json::<audit::AuditPage>(200),
        ),
    ]
}

fn webhook_says(id: &'static str, summary: &'static str) -> Says {
    says(id, summary)
        .takes_other("*/*", "What the sender sends: see the kinds of sources")
        .other("application/json", "The answer to the validation of a subscription")
        .json::<webhook::Taken>(202)
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
