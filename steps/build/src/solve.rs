//! One build on the engine: what is asked of BuildKit, and how its failure is told.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bollard::grpc::build::moby::buildkit::v1::control_client::ControlClient;
use bollard::grpc::build::moby::buildkit::v1::{SolveRequest, StatusRequest};
use fairlead_step::{Digest, Log, StepError};
use hyper_util::rt::TokioIo;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::Network;
use crate::engine::{Engine, EngineError, Raw};
use crate::progress::{Failed, Teller};
use crate::session::Session;

/// The largest message to take from the engine.
const MAX_MESSAGE: usize = 16 << 20;
/// How long the last reports may take to come in after the build itself has ended.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// What the engine calls the exporter into its own store of images.
const EXPORTER: &str = "moby";
/// The key under which the exporter answers the image's id.
const IMAGE_ID: &str = "containerimage.digest";

/// What one build is asked for.
pub(crate) struct Request<'a> {
    pub(crate) dockerfile: &'a str,
    /// The folder of what is sent that is the context; all of it otherwise.
    pub(crate) subfolder: Option<&'a str>,
    pub(crate) target: Option<&'a str>,
    pub(crate) platform: Option<String>,
    pub(crate) args: &'a BTreeMap<String, String>,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) no_cache: bool,
    pub(crate) network: Network,
    /// What to call the image in the engine's store, where it is to be called anything.
    pub(crate) hold: Option<&'a str>,
}

impl Request<'_> {
    /// The attributes of BuildKit's Dockerfile frontend.
    fn attributes(&self, context_url: String) -> HashMap<String, String> {
        let mut out = HashMap::from([
            ("context".to_owned(), context_url),
            ("filename".to_owned(), self.dockerfile.to_owned()),
        ]);
        if let Some(folder) = self.subfolder {
            out.insert("contextsubdir".into(), folder.to_owned());
        }
        if let Some(target) = self.target {
            out.insert("target".into(), target.to_owned());
        }
        if let Some(platform) = &self.platform {
            out.insert("platform".into(), platform.clone());
        }
        if self.no_cache {
            // Empty means every stage.
            out.insert("no-cache".into(), String::new());
        }
        match self.network {
            Network::Default => {}
            Network::Host => drop(out.insert("force-network-mode".into(), "host".into())),
            Network::None => drop(out.insert("force-network-mode".into(), "none".into())),
        }
        for (name, value) in self.args {
            out.insert(format!("build-arg:{name}"), value.clone());
        }
        for (name, value) in self.labels {
            out.insert(format!("label:{name}"), value.clone());
        }
        out
    }
}

/// Runs one build to its end and answers the image's id in the engine's store. Dropping the future
/// stops the build on the engine.
pub(crate) async fn solve(
    engine: &Engine,
    session: &Session,
    name: &str,
    request: &Request<'_>,
    log: &dyn Log,
) -> Result<Digest, StepError> {
    let channel = Endpoint::from_static("http://engine")
        .connect_with_connector(Connector(Arc::new(engine.clone())))
        .await
        .map_err(|error| unreachable(engine, error))?;
    let mut control = ControlClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);

    let entitlements = match request.network {
        Network::Host => vec!["network.host".to_owned()],
        Network::Default | Network::None => Vec::new(),
    };
    let solve = SolveRequest {
        r#ref: name.to_owned(),
        session: session.id().to_owned(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: request.attributes(session.context_url()),
        // Engines before 25 know no other field for the exporter.
        exporter_deprecated: EXPORTER.into(),
        exporter_attrs_deprecated: request
            .hold
            .map(|hold| ("name".to_owned(), hold.to_owned()))
            .into_iter()
            .collect(),
        entitlements,
        ..SolveRequest::default()
    };

    let mut reports = control.clone();
    let mut teller = Teller::new(log);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let telling = tell(&mut reports, name, &mut teller, end);
    let solving = async {
        let answer = control.solve(solve).await;
        drop(ended);
        answer
    };
    let (answer, ()) = tokio::join!(solving, telling);
    match answer {
        Ok(answer) => image_id(&answer.into_inner().exporter_response),
        Err(status) => {
            // Our own trouble comes first: the engine only knows that something broke.
            Err(session.trouble().unwrap_or_else(|| failure(&status, teller.failed())))
        }
    }
}

/// Tells the engine's reports until they end, or a while after the build has.
async fn tell(
    control: &mut ControlClient<Channel>,
    name: &str,
    teller: &mut Teller<'_>,
    end: tokio::sync::oneshot::Receiver<()>,
) {
    let following = async {
        match control.status(StatusRequest { r#ref: name.to_owned() }).await {
            Ok(reports) => {
                let mut reports = reports.into_inner();
                while let Ok(Some(report)) = reports.message().await {
                    teller.tell(report);
                }
            }
            // A build that fails at once may be gone before anybody asks for its reports.
            Err(status) => tracing::debug!(%status, "the engine reports no progress"),
        }
    };
    let too_late = async {
        let _ = end.await;
        tokio::time::sleep(LAST_REPORTS).await;
    };
    tokio::select! {
        () = following => {}
        () = too_late => {}
    }
}

fn image_id(response: &HashMap<String, String>) -> Result<Digest, StepError> {
    response
        .get(IMAGE_ID)
        .ok_or_else(|| StepError::terminal("the engine built the image and does not say its id"))?
        .parse()
        .map_err(|error| {
            StepError::terminal("the engine built the image and its id is malformed").because(error)
        })
}

fn unreachable(
    engine: &Engine,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StepError {
    EngineError::Unreachable { address: engine.0.to_string(), source: error.into() }.into()
}

/// Phrases by which the engine tells that a registry or a network failed, and not the build.
const PASSING: [&str; 10] = [
    "connection refused",
    "connection reset",
    "i/o timeout",
    "TLS handshake timeout",
    "no route to host",
    "temporary failure in name resolution",
    "429 Too Many Requests",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway",
];

/// Phrases by which the engine tells that a registry wants another login.
const LOGIN: [&str; 5] = [
    "pull access denied",
    "401 Unauthorized",
    "403 Forbidden",
    "authentication required",
    "authorization failed",
];

/// Tells a failed build: the instruction, what it said last, and the way out.
pub(crate) fn failure(status: &tonic::Status, failed: Option<Failed>) -> StepError {
    let said = plain(status.message());
    // An instruction that ran and failed fails again; how its own output reads does not matter.
    let ran =
        said.contains("executor failed running") || said.contains("did not complete successfully");
    if let Some(failed) = failed.as_ref().filter(|_| ran) {
        let instruction = failed.instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("the build failed at `{instruction}`: {}", exit_of(&failed.error));
        if !failed.tail.is_empty() {
            text.push_str("; its last lines: ");
            text.push_str(&failed.tail.join(" | "));
        }
        return StepError::terminal(text).hint("the step's log has all of its output");
    }
    let place = match &failed {
        Some(failed) => format!(" at `{}`", plain(&failed.instruction)),
        None => String::new(),
    };
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| said.contains(phrase));
    let text = format!("the build failed{place}: {said}");
    if has(&LOGIN) {
        return StepError::terminal(text).hint(
            "the base image is private or does not exist; check its name, or `docker login`",
        );
    }
    if has(&PASSING) || matches!(status.code(), tonic::Code::Unavailable) {
        return StepError::retryable(text).hint("is the registry of the base image reachable?");
    }
    let error = StepError::terminal(text);
    if said.contains("no such host") || said.contains("server misbehaving") {
        return error.hint(
            "the base image is not in the engine's store and its registry's name does not resolve",
        );
    }
    if said.contains("target stage") {
        return error.hint("`target:` names a stage of the Dockerfile, the word behind its `AS`");
    }
    if said.contains("secret") && said.contains("not found") {
        return error.hint("name the secret under `secrets:` of this step");
    }
    if said.contains("dockerfile parse error") || said.contains("failed to create LLB definition") {
        return error.hint("correct the Dockerfile at the line it names");
    }
    if failed.is_some() && said.contains("not found") {
        return error.hint("is it in the context, and does `.dockerignore` leave it out?");
    }
    error
}

/// The engine's message without the names of its own layers in front.
fn plain(message: &str) -> String {
    const LAYERS: [&str; 7] = [
        "failed to solve: ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to build LLB: ",
        "rpc error: code = Unknown desc = ",
        "error from sender: ",
        "failed to compute cache key: ",
        "failed to create LLB definition: ",
    ];
    let mut rest = message.trim();
    while let Some(shorter) = LAYERS.iter().find_map(|layer| rest.strip_prefix(layer)) {
        rest = shorter;
    }
    rest.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The end of a command's error: the exit code where there is one, for the command stands before it.
fn exit_of(error: &str) -> String {
    match error.rfind("exit code: ") {
        Some(at) => error[at..].trim().to_owned(),
        None => plain(error),
    }
}

/// Opens the engine's gRPC, anew whenever tonic wants a connection.
#[derive(Clone)]
struct Connector(Arc<Engine>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Raw>;
    type Error = EngineError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, EngineError>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), EngineError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let engine = Arc::clone(&self.0);
        Box::pin(async move { engine.hijack("/grpc", &[]).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str, failed: Option<(&str, &str)>) -> String {
        let failed = failed.map(|(instruction, error)| Failed {
            instruction: instruction.into(),
            error: error.into(),
            tail: vec!["make: nothing to do".into(), "sorry".into()],
        });
        let error = failure(&tonic::Status::unknown(message), failed);
        format!("{:?}: {error}\n  hint: {}", error.class(), error.way_out().unwrap_or("-"))
    }

    #[test]
    fn a_failure_names_the_instruction_and_the_way_out() {
        let run = "executor failed running [/bin/sh -c make]: exit code: 2";
        let cases = [
            told(
                &format!("failed to solve with frontend dockerfile.v0: {run}"),
                Some(("[2/2] RUN make", run)),
            ),
            told("failed to solve: dockerfile parse error line 3: unknown instruction: FORM", None),
            told(
                "failed to solve: registry.example.com/base:1: failed to do request: Head: dial tcp \
                 10.0.0.1:443: connect: connection refused",
                Some(("[internal] load metadata for registry.example.com/base:1", "x")),
            ),
            told("failed to solve: pull access denied, repository does not exist", None),
            told(
                "failed to solve: secret npm not found: not found",
                Some(("[2/2] RUN --mount=type=secret,id=npm make", "x")),
            ),
            told(
                "failed to solve: failed to compute cache key: \"/nothere\" not found: not found",
                Some(("[2/2] COPY nothere /", "x")),
            ),
            told("failed to solve: target stage nope could not be found", None),
        ];
        insta::assert_snapshot!(cases.join("\n"), @r#"
        Terminal: the build failed at `[2/2] RUN make`: exit code: 2; its last lines: make: nothing to do | sorry
          hint: the step's log has all of its output
        Terminal: the build failed: dockerfile parse error line 3: unknown instruction: FORM
          hint: correct the Dockerfile at the line it names
        Retryable: the build failed at `[internal] load metadata for registry.example.com/base:1`: registry.example.com/base:1: failed to do request: Head: dial tcp 10.0.0.1:443: connect: connection refused
          hint: is the registry of the base image reachable?
        Terminal: the build failed: pull access denied, repository does not exist
          hint: the base image is private or does not exist; check its name, or `docker login`
        Terminal: the build failed at `[2/2] RUN --mount=type=secret,id=npm make`: secret npm not found: not found
          hint: name the secret under `secrets:` of this step
        Terminal: the build failed at `[2/2] COPY nothere /`: "/nothere" not found: not found
          hint: is it in the context, and does `.dockerignore` leave it out?
        Terminal: the build failed: target stage nope could not be found
          hint: `target:` names a stage of the Dockerfile, the word behind its `AS`
        "#);
    }

    #[test]
    fn inputs_become_attributes_of_the_frontend() {
        let request = Request {
            dockerfile: "ci/Dockerfile",
            subfolder: Some("context"),
            target: Some("app"),
            platform: Some("linux/arm64".into()),
            args: &BTreeMap::from([("V".to_owned(), "1".to_owned())]),
            labels: &BTreeMap::from([("team".to_owned(), "ship".to_owned())]),
            no_cache: true,
            network: Network::None,
            hold: None,
        };
        let sorted: BTreeMap<_, _> =
            request.attributes("http://session/1".into()).into_iter().collect();
        insta::assert_compact_json_snapshot!(sorted, @r#"
        {
          "build-arg:V": "1",
          "context": "http://session/1",
          "contextsubdir": "context",
          "filename": "ci/Dockerfile",
          "force-network-mode": "none",
          "label:team": "ship",
          "no-cache": "",
          "platform": "linux/arm64",
          "target": "app"
        }
        "#);
    }
}
