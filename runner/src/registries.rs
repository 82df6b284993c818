//! Registries: credentials as `docker login` keeps them, plain HTTP where it is allowed.

use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use fairlead_oci::is_loopback;
use fairlead_step::{
    BoxFuture, Egress, Registries, RegistryAccess, RegistryAuth, Secret, StepError,
};

use crate::settings::variable;

/// Registries by Docker's configuration: `config.json`, credential helpers and stores.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    plain_http: Vec<String>,
    extra_ca: Vec<u8>,
    egress: Egress,
}

impl DockerConfig {
    pub(crate) fn new(plain_http: Vec<String>, extra_ca: Vec<u8>) -> Self {
        Self { plain_http, extra_ca, egress: Egress::open() }
    }

    /// The same, and no host is spoken to but where `egress` lets it.
    pub(crate) fn within(&self, egress: Egress) -> Self {
        let Self { plain_http, extra_ca, .. } = self;
        Self { plain_http: plain_http.clone(), extra_ca: extra_ca.clone(), egress }
    }
}

impl Registries for DockerConfig {
    fn access(&self, host: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        let plain_http = is_loopback(host) || self.plain_http.iter().any(|known| known == host);
        let host = host.to_owned();
        Box::pin(async move {
            // A credential helper is a program: it may take its time.
            let asked = tokio::task::spawn_blocking(move || credential(&host));
            let auth = asked.await.map_err(|error| {
                StepError::retryable("reading registry credentials was broken off").because(error)
            })??;
            Ok(RegistryAccess {
                auth,
                plain_http,
                extra_ca: self.extra_ca.clone(),
                egress: self.egress.clone(),
            })
        })
    }
}

/// Whether Docker's configuration is there. The library does not tell a file that is absent from
/// one that cannot be read.
fn has_config() -> bool {
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")));
    folder.is_some_and(|folder| folder.join("config.json").exists())
}

/// Where Podman, Buildah and Skopeo keep logins, where one of their files is there.
fn has_auth_file() -> bool {
    let folder = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    folder.is_some_and(|folder| folder.join("containers/auth.json").is_file())
}

/// The login for `key`: of the file that `REGISTRY_AUTH_FILE` names and of no other where it is set, else
/// Docker's, else Podman's.
fn looked_up(key: &str) -> Result<DockerCredential, CredentialRetrievalError> {
    if variable("REGISTRY_AUTH_FILE").is_some() {
        return docker_credential::get_podman_credential(key);
    }
    let docker = if has_config() {
        docker_credential::get_credential(key)
    } else {
        Err(CredentialRetrievalError::ConfigNotFound)
    };
    match docker {
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured,
        ) if has_auth_file() => docker_credential::get_podman_credential(key),
        other => other,
    }
}

fn credential(host: &str) -> Result<RegistryAuth, StepError> {
    let key = match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    match looked_up(key) {
        Ok(DockerCredential::UsernamePassword(user, password)) if user == "<token>" => {
            Ok(RegistryAuth::IdentityToken(Secret::new(password)))
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic { user, password: Secret::new(password) })
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(RegistryAuth::IdentityToken(Secret::new(token)))
        }
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        // What a helper printed may hold a secret: it is not repeated.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => Err(StepError::terminal(
            format!("the credential helper `{helper}` failed for registry {host}"),
        )
        .hint(format!("run `docker login {host}`, or mend the helper"))),
        Err(error) => {
            Err(StepError::terminal(format!("the credentials for registry {host} cannot be read"))
                .because(error.to_string())
                .hint(
                    "look at config.json in ~/.docker or DOCKER_CONFIG, and at what REGISTRY_AUTH_FILE names",
                ))
        }
    }
}
