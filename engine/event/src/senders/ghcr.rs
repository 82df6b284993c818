//! Images at GitHub's container registry, by the `registry_package` and `package` webhooks of GitHub.

use serde::Deserialize;

use super::image::Named;
use super::{ReceiveError, Received, clip, json, line, time};
use crate::{Headers, SourceEvent};

const WHAT: &str = "package event of GitHub";

#[derive(Deserialize)]
struct Body {
    action: String,
    #[serde(alias = "registry_package")]
    package: Option<Package>,
    #[serde(default)]
    sender: Option<Person>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    ecosystem: Option<String>,
    #[serde(default)]
    package_type: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
    #[serde(default)]
    package_version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    package_url: Option<String>,
    #[serde(default)]
    container_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    tag: Option<Tag>,
    #[serde(default)]
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    login: Option<String>,
}

/// Whether a webhook of GitHub is one of these.
pub(super) fn is_package(event: &str) -> bool {
    matches!(event, "registry_package" | "package")
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    match super::github::event(headers)? {
        event if is_package(event) => package(body, registry),
        other => Ok(Received::nothing(format!("`{}`: not of a package", clip(other)))),
    }
}

pub(super) fn package(body: &[u8], registry: Option<&str>) -> Result<Received, ReceiveError> {
    let Body { action, package, sender } = json(WHAT, body)?;
    let malformed = |reason: &str| ReceiveError::Malformed { what: WHAT, reason: reason.into() };
    let package = package.ok_or_else(|| malformed("it has no package"))?;
    let kinds = [&package.ecosystem, &package.package_type];
    let is_image = kinds
        .into_iter()
        .flatten()
        .any(|kind| kind.eq_ignore_ascii_case("container") || kind.eq_ignore_ascii_case("docker"));
    if !is_image || !matches!(action.as_str(), "published" | "updated") {
        return Ok(Received::nothing("a package event that is no push of an image"));
    }
    if registry.is_none() {
        return Ok(Received::nothing(
            "a push of an image: the source does not say at which `registry` it is",
        ));
    }
    let version = package.package_version.ok_or_else(|| malformed("it has no version"))?;
    let metadata = version.container_metadata;
    let (tag, manifest) = metadata.map_or((None, None), |it| (it.tag, it.manifest));
    let (name, of_tag) = tag.map_or((None, None), |tag| (tag.name, tag.digest));
    // The version is the digest; what stands beside the tag is so, too, where the version is a name.
    let is_digest = |text: &String| text.starts_with("sha256:");
    let digest = version.version.filter(is_digest).or_else(|| of_tag.filter(is_digest));
    if digest.is_none() && name.as_deref().unwrap_or_default().is_empty() {
        return Ok(Received::nothing("a package without a tag and a digest"));
    }
    // The host in the address is not believed; its path is what the registry calls the package.
    let of_url = version.package_url.as_deref().and_then(path_of);
    let path = of_url.map(str::to_owned).unwrap_or_else(|| {
        let namespace = package.namespace.unwrap_or_default();
        format!("{namespace}/{}", package.name)
    });
    // Names of people have upper-case letters, names of repositories have none.
    let named = Named::new(registry, &path.to_lowercase(), name.as_deref(), digest.as_deref());
    let named = match named {
        Ok(named) => named,
        Err(why) => return Ok(Received::refused(why)),
    };
    let actor = line(sender.and_then(|sender| sender.login));
    let mut push = named.pushed(actor, time(package.updated_at.as_deref()));
    let media_type = manifest.and_then(|manifest| manifest.media_type);
    push.media_type = line(media_type).filter(|media_type| super::is_manifest(media_type));
    Ok(Received::one(SourceEvent::ImagePushed(push)))
}

/// The path in `host/path:tag`, where the tag may be empty.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once('/')?;
    let path = rest.rsplit_once(':').map_or(rest, |(path, _)| path);
    let path = path.split_once('@').map_or(path, |(path, _)| path);
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn send(change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let digest = Digest::sha256(b"a").to_string();
        let mut body = json!({ "action": "published", "sender": { "login": "Ann" },
            "registry_package": { "name": "shop", "namespace": "Acme", "ecosystem": "CONTAINER",
                "package_type": "CONTAINER", "updated_at": "2026-01-01T00:00:00Z",
                "package_version": { "version": digest,
                    "package_url": "elsewhere.example.com/Acme/shop:1.0",
                    "container_metadata": { "tag": { "name": "1.0", "digest": digest } } } } });
        change(&mut body);
        let headers = [("X-GitHub-Event", "registry_package")].into_iter().collect();
        read(&headers, body.to_string().as_bytes(), Some("images.example.com"))
    }

    #[test]
    fn an_image_is_read_with_its_digest() {
        let digest = Digest::sha256(b"a");
        let received = send(|_| ()).unwrap();
        let want = format!("images.example.com/acme/shop:1.0@{digest}");
        assert_eq!(received.events[0].subject(), want);
        // An image by digest alone has an address that ends in a colon, and a tag without a name.
        let untagged = send(|body| {
            let version = &mut body["registry_package"]["package_version"];
            version["package_url"] = json!("images.example.com/Acme/shop:");
            version["container_metadata"]["tag"]["name"] = json!("");
        });
        let want = format!("images.example.com/acme/shop@{digest}");
        assert_eq!(untagged.unwrap().events[0].subject(), want);
        let nameless = send(|body| {
            body["registry_package"]["package_version"]["package_url"] = Value::Null;
        });
        assert!(nameless.unwrap().events[0].subject().contains("/acme/shop:1.0@"));
    }

    #[test]
    fn other_packages_are_nothing_and_nonsense_is_refused() {
        let npm = send(|body| {
            body["registry_package"]["ecosystem"] = json!("npm");
            body["registry_package"]["package_type"] = json!("npm");
        });
        assert_eq!(npm.unwrap().ignored.len(), 1);
        assert_eq!(send(|body| body["action"] = json!("deleted")).unwrap().events, []);
        assert!(send(|body| body["registry_package"] = Value::Null).is_err());
        let bad = send(|body| {
            body["registry_package"]["package_version"]["package_url"] = json!("h/../x:1");
        });
        assert_eq!(bad.unwrap().refused.len(), 1);
    }
}
