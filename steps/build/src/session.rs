//! The session: what the engine may ask us while it builds. It asks for the context, for the build's
//! secrets by name, and for who to be at a registry that it pulls from.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::grpc::build::health::health_check_response::ServingStatus;
use bollard::grpc::build::health::health_server::{Health, HealthServer};
use bollard::grpc::build::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard::grpc::build::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::grpc::build::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::grpc::build::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::grpc::build::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use bollard::grpc::build::moby::upload::v1::BytesMessage;
use bollard::grpc::build::moby::upload::v1::upload_server::{Upload, UploadServer};
use fairlead_step::{Registries, RegistryAuth, Secret, StepError};
use futures::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::engine::{Engine, EngineError};

/// The methods that the engine may call, by their full names.
const METHODS: [&str; 3] = [
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.upload.v1.Upload/Pull",
];

/// What a session has to offer.
pub(crate) struct Offer {
    /// The context.
    pub(crate) context: Arc<Context>,
    /// The secrets by the name that the Dockerfile asks for.
    pub(crate) secrets: BTreeMap<String, Secret<String>>,
    /// Who to be at registries.
    pub(crate) registries: Arc<dyn Registries>,
}

/// An open session. It ends when this is dropped.
pub(crate) struct Session {
    id: String,
    trouble: Arc<Trouble>,
    _end: oneshot::Sender<()>,
}

/// What went wrong on our side while the engine asked. The engine passes on no more than a code.
#[derive(Default)]
struct Trouble(Mutex<Option<StepError>>);

impl Trouble {
    fn note(&self, error: StepError) {
        // The first cause counts; what follows from it does not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn take(&self) -> Option<StepError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Session {
    /// Opens a session called `id` with the engine.
    pub(crate) async fn open(
        engine: &Engine,
        id: String,
        offer: Offer,
    ) -> Result<Self, EngineError> {
        let mut headers = vec![
            format!("X-Docker-Expose-Session-Uuid: {id}"),
            "X-Docker-Expose-Session-Name: fairlead".to_owned(),
        ];
        headers.extend(METHODS.map(|m| format!("X-Docker-Expose-Session-Grpc-Method: {m}")));
        let connection = engine.hijack("/session", &headers).await?;

        let trouble = Arc::new(Trouble::default());
        let path = format!("/{id}");
        let service = Service { offer: Arc::new(offer), trouble: Arc::clone(&trouble), path };
        let (end, ended) = oneshot::channel::<()>();
        let router = tonic::transport::Server::builder()
            .http2_adaptive_window(Some(true))
            .add_service(HealthServer::new(Alive))
            .add_service(AuthServer::new(service.clone()))
            .add_service(SecretsServer::new(service.clone()))
            .add_service(UploadServer::new(service));
        // One connection comes in, and no other.
        let incoming = futures::stream::once(std::future::ready(Ok::<_, io::Error>(connection)))
            .chain(futures::stream::pending());
        tokio::spawn(async move {
            let until = async {
                let _ = ended.await;
            };
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, until).await {
                tracing::debug!(%error, "the session with the engine broke");
            }
        });
        Ok(Self { id, trouble, _end: end })
    }

    /// The name by which a build refers to this session.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The address of the context, for the engine alone: sessions answer for this host. It is
    /// different for each session, for the engine takes equal addresses for equal content, also
    /// between builds that run at once.
    pub(crate) fn context_url(&self) -> String {
        format!("http://buildkit-session/{}", self.id)
    }

    /// What went wrong on our side, if anything did: the cause of a build that failed after it.
    pub(crate) fn trouble(&self) -> Option<StepError> {
        self.trouble.take()
    }
}

#[derive(Clone)]
struct Service {
    offer: Arc<Offer>,
    trouble: Arc<Trouble>,
    /// The path under which the engine fetches the context.
    path: String,
}

#[tonic::async_trait]
impl Upload for Service {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get("urlpath").and_then(|path| path.to_str().ok());
        if path != Some(self.path.as_str()) {
            return Err(Status::not_found("this session has one context"));
        }
        let chunks = self.offer.context.stream();
        let trouble = Arc::clone(&self.trouble);
        Ok(Response::new(Box::pin(messages(chunks, trouble))))
    }
}

fn messages(
    chunks: mpsc::Receiver<io::Result<bytes::Bytes>>,
    trouble: Arc<Trouble>,
) -> impl Stream<Item = Result<BytesMessage, Status>> {
    futures::stream::unfold((chunks, trouble), |(mut chunks, trouble)| async move {
        let message = match chunks.recv().await? {
            Ok(chunk) => Ok(BytesMessage { data: chunk.into() }),
            Err(error) => {
                let text = format!("cannot send the build context: {error}");
                trouble.note(
                    StepError::terminal(&text)
                        .hint("let nothing write to the context while it is built"),
                );
                Err(Status::aborted(text))
            }
        };
        Some((message, (chunks, trouble)))
    })
}

#[tonic::async_trait]
impl Secrets for Service {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        // The engine turns "not found" into "go without" where the Dockerfile says `required=false`.
        let secret = self.offer.secrets.get(&id).ok_or_else(|| {
            Status::not_found(format!("the build step was given no secret called `{id}`"))
        })?;
        Ok(Response::new(GetSecretResponse { data: secret.expose().clone().into_bytes() }))
    }
}

#[tonic::async_trait]
impl Auth for Service {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        // What people call `docker.io` is served by this host.
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host.as_str() };
        let access = match self.offer.registries.access(host).await {
            Ok(access) => access,
            Err(error) => {
                let status = Status::unavailable(format!("no credentials for {host}: {error}"));
                self.trouble.note(error);
                return Err(status);
            }
        };
        // A secret without a user is an identity token.
        let (username, secret) = match access.auth {
            RegistryAuth::Anonymous => Default::default(),
            RegistryAuth::Basic { user, password } => (user, password.expose().clone()),
            RegistryAuth::IdentityToken(token) => (String::new(), token.expose().clone()),
        };
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }
}

/// The engine asks every few seconds whether the session lives.
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("ask for one service"))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask, and ask again"))
    }
}
