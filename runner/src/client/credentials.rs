//! What is kept to show to servers: the file `credentials.json`, which is nobody else's to read. It maps the
//! addresses of servers to tokens, and to logins, which are renewed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::profile::base_of;
use crate::exit::Stop;

/// The most bytes of the file.
const MOST: u64 = 1 << 20;
const NAME: &str = "credentials.json";

/// What is kept for one server.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Kept {
    /// A token that was made there.
    Token(String),
    /// A login at the issuer that the server believes.
    Login(Login),
}

/// A login.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// What is shown to the server.
    pub(crate) token: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// What the next one is asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    /// Who issues it.
    pub(crate) issuer: String,
    /// Whom it was issued to.
    pub(crate) client_id: String,
    /// Where the next one is asked for.
    pub(crate) token_endpoint: String,
    /// Whether the access token is shown, and not the identity token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shows_access_token: bool,
}

/// No secret of it stands in a message.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The file with what is kept.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What is kept for a server.
    pub(crate) fn of(&self, base: &str) -> Result<Option<Kept>, Stop> {
        let same = |server: &str| base_of(server).is_ok_and(|server| server == base);
        Ok(self.read()?.into_iter().find(|(server, _)| same(server)).map(|(_, kept)| kept))
    }

    /// Keeps something for a server, or nothing any more. Answers what was kept before.
    pub(crate) fn keep(&self, base: &str, kept: Option<Kept>) -> Result<Option<Kept>, Stop> {
        let _alone = self.lock()?;
        self.keep_locked(base, kept)
    }

    /// As [`Credentials::keep`], for whoever holds the lock.
    pub(crate) fn keep_locked(&self, base: &str, kept: Option<Kept>) -> Result<Option<Kept>, Stop> {
        let mut all = self.read()?;
        let same = |server: &String| base_of(server).is_ok_and(|server| server == base);
        let known = all.keys().find(|server| same(server)).cloned();
        let before = known.and_then(|server| all.remove(&server));
        if let Some(kept) = kept {
            all.insert(base.to_owned(), kept);
        }
        self.write(&all)?;
        Ok(before)
    }

    /// Held while the file is changed: of two processes that renew a login at once, one waits, and finds the
    /// new one.
    pub(crate) fn lock(&self) -> Result<File, Stop> {
        let fail = |error: std::io::Error| {
            Stop::failed(format!("cannot keep logins in {}", self.folder.display())).because(&error)
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(fail)?;
        let lock = self.folder.join("credentials.lock");
        let lock = File::options().create(true).append(true).open(lock).map_err(fail)?;
        lock.lock().map_err(fail)?;
        Ok(lock)
    }

    fn read(&self) -> Result<BTreeMap<String, Kept>, Stop> {
        let path = self.path();
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeMap::new());
            }
            Err(error) => {
                return Err(Stop::usage(format!("cannot read {}", path.display())).because(&error));
            }
        };
        if found.permissions().mode() & 0o077 != 0 {
            return Err(Stop::usage(format!("others may read {}", path.display()))
                .hint(format!("`chmod 600 {}`", path.display())));
        }
        let text = Secret::new(crate::load::text(&path, MOST)?);
        serde_json::from_str(text.expose()).map_err(|_| {
            // What is wrong with it may be a part of a token.
            Stop::usage(format!("{} is no JSON object of servers and tokens", path.display()))
                .hint("move it away; `fairlead login` writes it anew")
        })
    }

    fn write(&self, all: &BTreeMap<String, Kept>) -> Result<(), Stop> {
        let path = self.path();
        let text = serde_json::to_string_pretty(all)
            .map_err(|e| Stop::internal("cannot write JSON").because(&e))?;
        let text = Secret::new(text + "\n");
        // A temporary file is its owner's alone from the beginning, and takes the place of the old one whole.
        let written = tempfile::NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            file.write_all(text.expose().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error).map(drop)
        });
        written.map_err(|e| Stop::failed(format!("cannot write {}", path.display())).because(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_nobody_elses_and_each_server_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("fairlead");
        let kept = Credentials::new(&inner);
        assert!(kept.of("https://one.example.com").unwrap().is_none());
        let login = Login {
            token: "id-token".to_owned(),
            expires_at: Some(Timestamp::UNIX_EPOCH),
            refresh_token: Some("refresh".to_owned()),
            issuer: "https://login.example.com".to_owned(),
            client_id: "fairlead".to_owned(),
            token_endpoint: "https://login.example.com/token".to_owned(),
            shows_access_token: false,
        };
        assert!(!format!("{login:?}").contains("token"), "{login:?}");
        kept.keep("https://one.example.com", Some(Kept::Login(login.clone()))).unwrap();
        kept.keep("https://two.example.com", Some(Kept::Token("two".to_owned()))).unwrap();
        let mode = std::fs::metadata(kept.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        let found = kept.of("https://one.example.com").unwrap();
        assert!(matches!(found, Some(Kept::Login(found)) if found == login));
        assert!(kept.keep("https://one.example.com", None).unwrap().is_some());
        assert!(kept.keep("https://one.example.com", None).unwrap().is_none());
        assert!(matches!(kept.of("https://two.example.com").unwrap(), Some(Kept::Token(_))));
        std::fs::write(kept.path(), "{\"https://a\": 7}").unwrap();
        assert!(kept.of("https://two.example.com").is_err());
    }
}
