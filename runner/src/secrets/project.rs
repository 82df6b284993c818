//! The secrets of projects: what the pipelines of a project can name, and where each comes from. They are a
//! namespace of their own: nothing in it leads to the secrets of the server itself, or of another project.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fairlead_exec::{ProcessOptions, SecretError, SecretProvider};
use fairlead_step::{BoxFuture, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Refused;
use super::command::{Asked, Command, CommandSettings};
use super::file::guarded;
use super::vault::{Vault, VaultSettings};

/// Where secrets are kept besides files: one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum StoreSettings {
    /// A program that is asked for each secret.
    Command(CommandSettings),
    /// A server with Vault's API, version 2 of its key-value engine.
    Vault(VaultSettings),
}

/// Where one secret comes from: a file, or a store.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceSettings {
    /// The absolute path of a file that nobody but the server's user and its group can read.
    file: Option<PathBuf>,
    /// The name of a store under `secret_stores`.
    store: Option<String>,
    /// Where it is in the store, such as `shop/npm`; the name of the secret when it is not given.
    path: Option<String>,
    /// Which field of what is there; `value` in a Vault when it is not given.
    field: Option<String>,
}

#[derive(Debug)]
enum Store {
    Command(Command),
    Vault(Box<Vault>),
}

/// The stores of a configuration, by name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stores(BTreeMap<String, Arc<Store>>);

impl Stores {
    /// Checks the settings of all stores; nobody is asked yet.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn new(
        settings: BTreeMap<String, StoreSettings>,
        processes: &Arc<ProcessOptions>,
    ) -> Result<Self, Vec<String>> {
        let (mut stores, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, settings) in settings {
            let store = match settings {
                StoreSettings::Command(settings) => {
                    Command::new(settings, Arc::clone(processes)).map(Store::Command)
                }
                StoreSettings::Vault(settings) => {
                    Vault::new(settings).map(|vault| Store::Vault(Box::new(vault)))
                }
            };
            match store {
                Ok(store) => {
                    stores.insert(name, Arc::new(store));
                }
                Err(problem) => problems.push(format!("`secret_stores.{name}`: {problem}")),
            }
        }
        if problems.is_empty() { Ok(Self(stores)) } else { Err(problems) }
    }

    /// Asks each store whether it lets us in: its name, and what is wrong.
    pub(crate) async fn look(&self) -> Vec<(&str, Result<(), String>)> {
        let looks = self.0.iter().map(|(name, store)| async move {
            let found = match &**store {
                Store::Command(command) => command.look(),
                Store::Vault(vault) => vault.look().await,
            };
            (name.as_str(), found)
        });
        futures::future::join_all(looks).await
    }
}

/// Where one secret comes from.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Store { store: Arc<Store>, path: Option<String>, field: Option<String> },
}

/// The secrets of one project.
#[derive(Debug)]
pub(crate) struct ProjectSecrets {
    project: String,
    sources: BTreeMap<String, Source>,
    folder: Option<PathBuf>,
}

impl ProjectSecrets {
    /// Checks where the secrets of `project` come from.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn new(
        project: &str,
        settings: BTreeMap<String, SourceSettings>,
        folder: Option<PathBuf>,
        stores: &Stores,
    ) -> Result<Self, Vec<String>> {
        let (mut sources, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, settings) in settings {
            match source(&name, settings, stores) {
                Ok(source) => {
                    sources.insert(name, source);
                }
                Err(problem) => {
                    problems.push(format!("`projects.{project}.secrets.{name}`: {problem}"));
                }
            }
        }
        if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_absolute()) {
            let shown = folder.display();
            problems.push(format!(
                "`projects.{project}.secrets_folder` is `{shown}`, and must be an absolute path"
            ));
        }
        let project = project.to_owned();
        if problems.is_empty() { Ok(Self { project, sources, folder }) } else { Err(problems) }
    }

    /// The names that are configured; a folder may have others.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Whether there may be such a secret: it is listed, or the folder may have it.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.sources.contains_key(name) || self.folder.is_some()
    }

    async fn find(&self, name: &str) -> Result<Secret<String>, Refused> {
        let project = &self.project;
        match self.sources.get(name) {
            Some(Source::File(path)) => guarded(path),
            Some(Source::Store { store, path, field }) => match &**store {
                Store::Command(command) => {
                    let (path, field) = (path.as_deref(), field.as_deref());
                    command.get(Asked { project, name, path, field }).await
                }
                Store::Vault(vault) => {
                    let path = path.as_deref().unwrap_or(name);
                    vault.get(path, field.as_deref().unwrap_or("value")).await
                }
            },
            None => {
                let plain = !name.contains('/') && !name.starts_with('.');
                match self.folder.as_ref().filter(|_| plain) {
                    Some(folder) => guarded(&folder.join(name)),
                    None => Err(Refused::Missing(format!(
                        "say where it comes from under `projects.{project}.secrets.{name}` in the server's \
                         configuration"
                    ))),
                }
            }
        }
    }
}

fn source(name: &str, settings: SourceSettings, stores: &Stores) -> Result<Source, String> {
    match settings {
        SourceSettings { file: Some(file), store: None, path: None, field: None } => {
            if file.is_absolute() {
                return Ok(Source::File(file));
            }
            Err(format!("`file` is `{}`, and must be an absolute path", file.display()))
        }
        SourceSettings { file: None, store: Some(store), path, field } => {
            let found = stores.0.get(&store).ok_or_else(|| {
                let known: Vec<String> = stores.0.keys().map(|name| format!("`{name}`")).collect();
                let known = match known.as_slice() {
                    [] => "there is none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                format!("`store` is `{store}`, which is not under `secret_stores`: {known}")
            })?;
            let asked = path.as_deref().unwrap_or(name);
            if asked.is_empty() || asked.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(format!("`path` is `{asked}`, and is words with `/` between them"));
            }
            if asked.contains(['?', '#', '%', '\\']) || asked.chars().any(char::is_control) {
                return Err(format!(
                    "`path` is `{}`, and holds what no path has",
                    asked.escape_debug()
                ));
            }
            Ok(Source::Store { store: Arc::clone(found), path, field })
        }
        SourceSettings { file: None, store: None, .. } => {
            Err("it comes from nowhere: give `file`, or `store` and `path`".to_owned())
        }
        SourceSettings { file: Some(_), .. } => {
            Err("`file` stands alone: `store`, `path` and `field` are for stores".to_owned())
        }
    }
}

impl SecretProvider for ProjectSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        Box::pin(async move {
            self.find(name).await.map_err(|refused| match refused {
                Refused::Missing(hint) => SecretError::Missing { name: name.to_owned(), hint },
                Refused::Unavailable(message) => {
                    SecretError::Unavailable { name: name.to_owned(), message }
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn read(settings: serde_json::Value) -> BTreeMap<String, SourceSettings> {
        serde_json::from_value(settings).unwrap()
    }

    #[tokio::test]
    async fn a_project_sees_its_own_secrets_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("npm", "hunter2"), ("listed", "tok")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        }
        let listed = read(json!({ "slack": { "file": folder.path().join("listed") } }));
        let stores = Stores::default();
        let of = |folder| ProjectSecrets::new("shop", listed.clone(), folder, &stores).unwrap();
        let secrets = of(Some(folder.path().to_owned()));
        assert_eq!(secrets.get("npm").await.unwrap().expose(), "hunter2");
        assert_eq!(secrets.get("slack").await.unwrap().expose(), "tok");
        for outside in ["../npm", "/etc/passwd", ".npm", "gone"] {
            assert!(
                matches!(secrets.get(outside).await, Err(SecretError::Missing { .. })),
                "{outside}"
            );
        }
        let error = of(None).get("npm").await.unwrap_err();
        let SecretError::Missing { hint, .. } = error else { panic!("{error}") };
        assert!(hint.contains("`projects.shop.secrets.npm`"), "{hint}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let stores = json!({
            "helper": { "command": { "program": "provider" } },
            "vault": { "vault": { "address": "http://vault.example.com", "auth": { "token_file": "/t" } } },
        });
        let stores = serde_json::from_value(stores).unwrap();
        let problems = Stores::new(stores, &Arc::default()).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("`secret_stores.helper`: `program`"), "{problems:?}");

        let settings = read(json!({
            "a": {},
            "b": { "file": "key" },
            "c": { "file": "/key", "field": "x" },
            "d": { "store": "vault" },
        }));
        let problems = ProjectSecrets::new("shop", settings, Some("x".into()), &Stores::default())
            .unwrap_err();
        let text = problems.join("\n");
        for want in [
            "`projects.shop.secrets.a`: it comes from nowhere",
            "`projects.shop.secrets.b`: `file` is `key`, and must be an absolute path",
            "`projects.shop.secrets.c`: `file` stands alone",
            "`projects.shop.secrets.d`: `store` is `vault`, which is not under `secret_stores`: there is none",
            "`projects.shop.secrets_folder` is `x`",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        let known = json!({ "helper": { "command": { "program": "/bin/provider" } } });
        let stores = Stores::new(serde_json::from_value(known).unwrap(), &Arc::default()).unwrap();
        for path in ["../other", "a//b", "a?x", "", "a/%2e%2e/b"] {
            let settings = read(json!({ "a": { "store": "helper", "path": path } }));
            assert!(ProjectSecrets::new("shop", settings, None, &stores).is_err(), "{path}");
        }
    }
}
