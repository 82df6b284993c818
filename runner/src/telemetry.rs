//! Where traces go: a collector that takes OTLP over HTTP, in its JSON form.

use std::time::Duration;

use fairlead_exec::SecretProvider;
use fairlead_http::reqwest::{self, Url, header};
use fairlead_server::{ExportError, TraceExporter};
use fairlead_step::{BoxFuture, Egress, Secret, error_chain};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// What a server says of itself to other machines.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetrySettings {
    /// Where the trace of each run goes when it has ended; nowhere when it is not given.
    traces: Option<TracesSettings>,
}

/// A collector of traces.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TracesSettings {
    /// The address for traces over HTTP, such as `http://localhost:4318/v1/traces`.
    endpoint: String,
    /// The name of the server's own secret that is sent as the header `Authorization`.
    authorization: Option<String>,
}

/// Sends traces to a collector.
#[derive(Debug)]
pub(crate) struct Otlp {
    endpoint: Url,
    http: reqwest::Client,
    authorization: Option<Secret<String>>,
}

impl Otlp {
    /// The collector of `settings`; none where there is none.
    ///
    /// # Errors
    /// Says what is wrong with the settings.
    pub(crate) async fn open(
        settings: &TelemetrySettings,
        secrets: &dyn SecretProvider,
    ) -> Result<Option<Self>, String> {
        let Some(traces) = &settings.traces else { return Ok(None) };
        let wrong = |problem: String| format!("`telemetry.traces`: {problem}");
        let endpoint = Url::parse(&traces.endpoint);
        let endpoint = endpoint.map_err(|e| wrong(format!("`endpoint` is no address: {e}")))?;
        if !matches!(endpoint.scheme(), "http" | "https") {
            return Err(wrong("`endpoint` must begin with `https://` or `http://`".to_owned()));
        }
        let authorization = match &traces.authorization {
            Some(name) => Some(secrets.get(name).await.map_err(|e| wrong(error_chain(&e)))?),
            None => None,
        };
        // An operator who names it means it, wherever it is.
        let mut builder =
            fairlead_http::builder(&Egress::open()).connect_timeout(CONNECT).timeout(ANSWER);
        if endpoint.host_str().is_some_and(fairlead_oci::is_loopback) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| wrong(error_chain(&e)))?;
        Ok(Some(Self { endpoint, http, authorization }))
    }
}

impl TraceExporter for Otlp {
    fn export(&self, body: Value) -> BoxFuture<'_, Result<(), ExportError>> {
        Box::pin(async move {
            let request = self.http.post(self.endpoint.clone());
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let request = match &self.authorization {
                Some(secret) => {
                    let value = header::HeaderValue::from_str(secret.line());
                    let mut value = value.map_err(|_| ExportError {
                        message: "the secret for the collector is no header".to_owned(),
                        again: false,
                    })?;
                    value.set_sensitive(true);
                    request.header(header::AUTHORIZATION, value)
                }
                None => request,
            };
            let sent = request.body(body.to_string()).send().await;
            let response = sent.map_err(|error| ExportError {
                message: error_chain(&error.without_url()),
                again: true,
            })?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let again = status.is_server_error() || status.as_u16() == 429;
            Err(ExportError { message: format!("the collector answered {status}"), again })
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::secrets::Secrets;

    /// A small receiver that answers one request with `status`, and gives what it was sent.
    async fn receiver(status: u16) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            while !String::from_utf8_lossy(&received).contains("resourceSpans\":[]}") {
                let mut piece = [0; 1024];
                let count = stream.read(&mut piece).await.unwrap();
                received.extend_from_slice(&piece[..count]);
            }
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&received).into_owned()
        });
        (port, task)
    }

    fn settings(endpoint: &str) -> TelemetrySettings {
        let traces = TracesSettings { endpoint: endpoint.to_owned(), authorization: None };
        TelemetrySettings { traces: Some(traces) }
    }

    #[tokio::test]
    async fn a_trace_is_sent_as_json_and_the_answer_says_whether_to_send_it_again() {
        let secrets = Secrets::new(Vec::new(), None);
        for (status, want) in
            [(200, None), (400, Some(false)), (503, Some(true)), (429, Some(true))]
        {
            let (port, task) = receiver(status).await;
            let endpoint = format!("http://127.0.0.1:{port}/v1/traces");
            let otlp = Otlp::open(&settings(&endpoint), &secrets).await.unwrap().unwrap();
            let sent = otlp.export(serde_json::json!({ "resourceSpans": [] })).await;
            assert_eq!(sent.err().map(|error| error.again), want, "{status}");
            let received = task.await.unwrap();
            assert!(received.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{received}");
            assert!(received.contains("content-type: application/json"), "{received}");
        }
    }

    #[tokio::test]
    async fn what_is_no_collector_is_told() {
        let secrets = Secrets::new(Vec::new(), None);
        for endpoint in ["localhost:4318", "grpc://localhost:4317", ""] {
            let error = Otlp::open(&settings(endpoint), &secrets).await.unwrap_err();
            assert!(error.starts_with("`telemetry.traces`: `endpoint`"), "{error}");
        }
        assert!(Otlp::open(&TelemetrySettings::default(), &secrets).await.unwrap().is_none());
    }
}
