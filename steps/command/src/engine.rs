//! The container engine: how it is reached, what its errors mean, and how an image gets there.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use fairlead_step::{
    EngineAddress, EngineSocket, ImageRef, Progress, RegistryAuth, StepContext, StepError,
};
use futures::StreamExt as _;

/// How long the engine has to begin an answer.
const ANSWER: Duration = Duration::from_secs(120);

/// Connects to the engine at `address`, and agrees on a version of the API.
pub(crate) async fn connect(address: &EngineAddress) -> Result<Docker, StepError> {
    let (text, seconds) = (address.to_string(), ANSWER.as_secs());
    let docker = match address.socket() {
        EngineSocket::Unix(_) => Docker::connect_with_unix(&text, seconds, API_DEFAULT_VERSION),
        EngineSocket::Tcp(_) => Docker::connect_with_http(&text, seconds, API_DEFAULT_VERSION),
    };
    let unreachable = |error: bollard::errors::Error| {
        StepError::retryable(format!("cannot reach the container engine at {address}"))
            .because(error)
            .hint("is Docker running? `fairlead doctor` shows what is missing")
    };
    docker.map_err(unreachable)?.negotiate_version().await.map_err(unreachable)
}

/// What the engine's error means: what it refused stays refused, what failed may pass.
pub(crate) fn failed(doing: impl Into<String>, error: bollard::errors::Error) -> StepError {
    use bollard::errors::Error;
    let doing = doing.into();
    if let Error::DockerResponseServerError { status_code: 400..=499, message } = error {
        return StepError::terminal(format!("the engine refused to {doing}")).because(message);
    }
    StepError::retryable(format!("the engine could not {doing}")).because(error)
}

/// Whether the engine said that it does not have what was asked for.
pub(crate) fn is_missing(error: &bollard::errors::Error) -> bool {
    use bollard::errors::Error;
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Sees to it that the engine has `image`, and answers the user that it names.
pub(crate) async fn ensure_image(
    docker: &Docker,
    image: &ImageRef,
    context: &StepContext,
) -> Result<Option<String>, StepError> {
    if let Some(user) = user_of(docker, image).await? {
        return Ok(user);
    }
    context.say(format!("pulling {image}"));
    let host = image.repository.registry();
    let access = context.registries()?.access(host).await?;
    let mut pull =
        docker.create_image(Some(pull_options(image)), None, credentials(host, &access.auth));
    while let Some(step) = pull.next().await {
        let step = step.map_err(|error| pull_failed(image, error))?;
        if let (Some(id), Some(what)) = (step.id, step.status) {
            let detail = step.progress_detail.unwrap_or_default();
            let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
            context.log().progress(Progress {
                what: format!("{what} {id}"),
                done: count(detail.current).unwrap_or(0),
                total: count(detail.total),
            });
        }
    }
    user_of(docker, image).await?.ok_or_else(|| {
        StepError::retryable(format!("the engine has pulled {image}, and does not have it"))
    })
}

/// The user that `image` names, if any; none where the engine does not have the image.
async fn user_of(docker: &Docker, image: &ImageRef) -> Result<Option<Option<String>>, StepError> {
    match docker.inspect_image(&image.to_string()).await {
        Ok(found) => {
            let user = found.config.and_then(|config| config.user);
            Ok(Some(user.filter(|user| !user.is_empty())))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed(format!("look for {image}"), error)),
    }
}

fn pull_failed(image: &ImageRef, error: bollard::errors::Error) -> StepError {
    let host = image.repository.registry();
    let text = error.to_string().to_lowercase();
    let step = failed(format!("pull {image}"), error);
    if ["unauthorized", "denied", "authentication"].iter().any(|word| text.contains(word)) {
        let refused = StepError::terminal(step.chain());
        return refused.hint(format!("log in to {host}, or check the name of the image"));
    }
    if ["not found", "manifest unknown"].iter().any(|word| text.contains(word)) {
        return StepError::terminal(step.chain()).hint("check the name and the tag of the image");
    }
    step
}

fn pull_options(image: &ImageRef) -> CreateImageOptions {
    // The engine wants a digest where it else wants the tag, and without either pulls every tag.
    let pinned = image.digest.as_ref().map(ToString::to_string);
    let tag = pinned.or_else(|| image.tag.clone()).unwrap_or_else(|| "latest".to_owned());
    CreateImageOptions {
        from_image: Some(image.repository.to_string()),
        tag: Some(tag),
        ..CreateImageOptions::default()
    }
}

fn credentials(host: &str, auth: &RegistryAuth) -> Option<DockerCredentials> {
    let serveraddress = Some(host.to_owned());
    match auth {
        RegistryAuth::Anonymous => None,
        RegistryAuth::Basic { user, password } => Some(DockerCredentials {
            username: Some(user.clone()),
            password: Some(password.expose().clone()),
            serveraddress,
            ..DockerCredentials::default()
        }),
        RegistryAuth::IdentityToken(token) => Some(DockerCredentials {
            identitytoken: Some(token.expose().clone()),
            serveraddress,
            ..DockerCredentials::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_step::Secret;

    use super::*;

    #[test]
    fn a_pull_names_one_image() {
        let digest = fairlead_step::Digest::sha256(b"x").to_string();
        for (image, tag) in [
            ("docker.io/library/node", "latest"),
            ("docker.io/library/node:22", "22"),
            (&format!("docker.io/library/node:22@{digest}"), &digest),
        ] {
            let options = pull_options(&image.parse().unwrap());
            assert_eq!(options.from_image.as_deref(), Some("docker.io/library/node"));
            assert_eq!(options.tag.as_deref(), Some(tag));
        }
    }

    #[test]
    fn each_login_reaches_the_engine_in_its_own_field() {
        let secret = || Secret::new("s".to_owned());
        assert!(credentials("r", &RegistryAuth::Anonymous).is_none());
        let basic = RegistryAuth::Basic { user: "u".into(), password: secret() };
        let basic = credentials("r:5000", &basic).unwrap();
        assert_eq!(
            (basic.username.as_deref(), basic.password.as_deref(), basic.serveraddress.as_deref()),
            (Some("u"), Some("s"), Some("r:5000"))
        );
        let token = credentials("r", &RegistryAuth::IdentityToken(secret())).unwrap();
        assert_eq!((token.identitytoken.as_deref(), token.password), (Some("s"), None));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told_with_the_way_out() {
        for (address, want) in [
            ("unix:///nowhere/docker.sock", "cannot reach the container engine at unix:///nowhere"),
            ("tcp://127.0.0.1:1", "cannot reach the container engine at tcp://127.0.0.1:1"),
        ] {
            let error = connect(&address.parse().unwrap()).await.unwrap_err();
            assert!(error.chain().contains(want), "{}", error.chain());
            assert!(error.way_out().is_some());
        }
    }
}
