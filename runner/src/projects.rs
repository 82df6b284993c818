//! What a server lets its pipelines do: the part of its configuration about projects, their secrets, and the
//! hosts that may be spoken to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fairlead_exec::{Allow, Containers, Policy, ProcessOptions, Project};
use fairlead_http::reqwest::Url;
use fairlead_run::{ProjectError, Projects};
use fairlead_step::{Egress, EgressRule, Globs};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::secrets::project::{ProjectSecrets, SourceSettings, StoreSettings, Stores};
use crate::settings::variable;

/// A project: some pipelines, and what they may do. The project `default` has those that no other has.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProjectSettings {
    /// Its pipelines, by patterns of their names. Not for `default`.
    pipelines: Option<Globs>,
    /// What they may have; whatever is not named is refused.
    allow: Allow,
    /// How their containers are shut in.
    containers: Containers,
    /// The secrets that they can name, and where each comes from.
    secrets: BTreeMap<String, SourceSettings>,
    /// A folder with a file for each further secret, as container platforms mount them.
    secrets_folder: Option<PathBuf>,
}

/// Which hosts events and pipelines may make the server speak to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EgressSettings {
    /// Hosts that are not of the public internet. The registries and forges of sources, and the hosts under
    /// `forges`, need not be repeated.
    allow: Vec<EgressRule>,
}

/// What an engine lets runs do.
#[derive(Clone)]
pub(crate) struct Permits {
    pub(crate) policy: Policy,
    pub(crate) egress: Egress,
}

impl Permits {
    /// Everything: for a person's own machine.
    pub(crate) fn open() -> Self {
        Self { policy: Policy::open(), egress: Egress::open() }
    }
}

/// The secrets of each project, by its name.
type SecretsOfProjects = BTreeMap<String, Arc<ProjectSecrets>>;

/// The policy of `projects`, and the secrets of each, which it has.
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn policy(
    projects: &BTreeMap<String, ProjectSettings>,
    stores: &Stores,
) -> Result<(Policy, SecretsOfProjects), Vec<String>> {
    let (mut made, mut known, mut problems) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, settings) in projects {
        let ProjectSettings { pipelines, allow, containers, secrets, secrets_folder } =
            settings.clone();
        match ProjectSecrets::new(name, secrets, secrets_folder, stores) {
            Ok(secrets) => {
                let pipelines = pipelines.unwrap_or_default();
                let secrets = Arc::new(secrets);
                known.insert(name.clone(), Arc::clone(&secrets));
                made.insert(name.clone(), Project { pipelines, allow, containers, secrets });
            }
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let policy = Policy::closed(made).map_err(|error| vec![error.to_string()])?;
    Ok((policy, known))
}

/// Which pipeline belongs to which project, for the roles of callers.
///
/// # Errors
/// The first project that is wrong.
pub(crate) fn membership(
    projects: &BTreeMap<String, ProjectSettings>,
) -> Result<Projects, ProjectError> {
    let named = projects.iter().filter(|(name, _)| *name != Projects::DEFAULT);
    Projects::new(
        named.map(|(name, project)| (name.clone(), project.pipelines.clone().unwrap_or_default())),
    )
}

/// The stores of `settings`.
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn stores(
    settings: &BTreeMap<String, StoreSettings>,
    processes: &ProcessOptions,
) -> Result<Stores, Vec<String>> {
    Stores::new(settings.clone(), &Arc::new(processes.clone()))
}

/// The rules of egress: `settings`, and the hosts that are configured elsewhere, as `host`, `host:port` or
/// the address of a forge.
///
/// # Errors
/// Says which of them is no host.
pub(crate) fn egress<'a>(
    settings: &EgressSettings,
    configured: impl IntoIterator<Item = &'a str>,
) -> Result<Egress, String> {
    let mut rules = settings.allow.clone();
    for place in configured {
        rules.push(rule_of(place)?);
    }
    // A proxy of the machine's own settings is where connections really go.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]
    {
        let proxy = variable(name).and_then(|proxy| proxy.into_string().ok());
        rules.extend(proxy.and_then(|proxy| rule_of(&proxy).ok()));
    }
    Ok(Egress::public_and(rules))
}

fn rule_of(place: &str) -> Result<EgressRule, String> {
    let Ok(url) = Url::parse(place) else { return place.parse() };
    match (url.host_str(), place.contains("://")) {
        (Some(host), true) => {
            let port = url.port_or_known_default().or((url.scheme() == "ssh").then_some(22));
            port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")).parse()
        }
        // `host:port` reads as a scheme and a path.
        _ => place.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_elsewhere_may_be_spoken_to() {
        let settings = EgressSettings { allow: vec!["10.0.0.0/8".parse().unwrap()] };
        let places = [
            "127.0.0.1:5000",
            "registry.internal",
            "https://git.internal",
            "ssh://git@git.internal:2222",
        ];
        let egress = egress(&settings, places).unwrap();
        for (host, port) in [
            ("127.0.0.1", 5000),
            ("registry.internal", 443),
            ("git.internal", 443),
            ("git.internal", 2222),
            ("10.1.2.3", 80),
        ] {
            assert!(egress.asks(host, Some(port)).is_ok(), "{host}:{port}");
        }
        assert!(egress.asks("git.internal", Some(80)).is_err());
        assert!(egress.asks("127.0.0.1", Some(5001)).is_err());
        assert!(super::egress(&settings, ["a b"]).is_err());
    }

    #[test]
    fn a_configuration_makes_a_policy() {
        let text = r#"{
            "shop": {
                "pipelines": ["shop-*"],
                "allow": {"kinds": "*", "images": {"tag": "docker.io/library/*"}, "networks": ["none"]},
                "containers": {"memory": "512MiB", "cpus": 0.5, "user": "1000:1000"},
                "secrets": {"npm": {"file": "/run/secrets/npm"}}
            },
            "default": {}
        }"#;
        let projects = serde_json::from_str(text).unwrap();
        let (policy, secrets) = policy(&projects, &Stores::default()).unwrap();
        assert!(secrets["shop"].may_have("npm") && !secrets["default"].may_have("npm"));
        assert_eq!(policy.project_of("shop-api"), Ok(Some("shop".to_owned())));
        assert_eq!(policy.project_of("release"), Ok(Some("default".to_owned())));
        for (text, want) in [
            (r#"{"shop": {}}"#, "`pipelines` says by patterns which ones it has"),
            (r#"{"default": {"pipelines": "*"}}"#, "`pipelines` is not for it"),
            (r#"{"default": {"containers": {"cpus": 0}}}"#, "more than 0"),
            (r#"{"default": {"containers": {"memory": 1}}}"#, "at least 6MiB"),
            (r#"{"default": {"containers": {"capabilities": ["CAP_CHOWN"]}}}"#, "without `CAP_`"),
        ] {
            let projects = serde_json::from_str(text).unwrap();
            let problems = super::policy(&projects, &Stores::default()).unwrap_err();
            assert!(problems[0].contains(want), "{problems:?}");
        }
    }
}
