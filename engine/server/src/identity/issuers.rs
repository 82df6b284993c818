//! Issuers of tokens that callers bring along: the identity provider of a company, and those of CI systems
//! and clusters. What a token claims is mapped to roles by the configuration alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use fairlead_run::{Grant, Role, StoredToken, is_project_name};
use fairlead_step::Globs;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::jws::Unverified;
use super::keys::{IssuerDocuments, Keys};
use super::subject::Subject;

/// How far clocks may be apart, in seconds.
const LEEWAY: f64 = 30.0;
/// The most groups of a caller.
const MAX_GROUPS: usize = 200;

/// An issuer, as it stands in the configuration under its name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Who issues, as its tokens say it in `iss`: the address under which its documents are.
    pub issuer: String,
    /// Whom its tokens must be for, as they say it in `aud`: a name of this server's own. A token that is
    /// for somebody else is not taken, so that nobody can pass one on.
    pub audience: String,
    /// The claim that names the caller.
    #[serde(default = "sub")]
    pub name: String,
    /// What stands before that name in runs and votes; the name of the issuer and a colon when nothing is
    /// said. Without it the issuer could name its callers as others are named.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The claim that lists the caller's groups, for approvals.
    #[serde(default)]
    pub groups: Option<String>,
    /// Where the keys are, where the issuer does not say it, or they are at another host.
    #[serde(default)]
    pub keys: Option<String>,
    /// A file with certificates (PEM) to trust for its host besides those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How people log in there with `fairlead login`. Without it the issuer is for machines.
    #[serde(default)]
    pub login: Option<LoginSettings>,
    /// Which claims give which roles. A caller has the roles of every entry that fits.
    pub roles: Vec<ClaimRole>,
}

/// How people log in at an issuer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSettings {
    /// What the command line is called there: a public client, with the device flow or with redirects to
    /// loopback addresses of any port.
    pub client_id: String,
    /// What is asked for. `offline_access` lets the command line renew a login.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Which token is shown to this server. It must be for the `audience`: an identity token is for the
    /// `client_id`.
    #[serde(default)]
    pub token: LoginToken,
}

/// Which token of a login is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginToken {
    /// The identity token.
    #[default]
    Id,
    /// The access token, where the issuer makes signed ones.
    Access,
}

fn scopes() -> Vec<String> {
    ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec()
}

/// Claims that give a role.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRole {
    /// The claims, each with patterns: `*` stands for anything but `/`, `**` for anything. All must fit;
    /// of a list one entry must.
    pub claims: BTreeMap<String, Globs>,
    /// The role.
    pub role: Role,
    /// The project; `*` for all.
    pub project: String,
    /// The pipelines of it that the role is for; all when nothing is said.
    #[serde(default)]
    pub pipelines: Globs,
}

fn sub() -> String {
    "sub".to_owned()
}

/// What is wrong with an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("issuer `{name}`: {problem}")]
pub struct IssuerError {
    name: String,
    problem: String,
}

struct Issuer {
    name: String,
    settings: IssuerSettings,
    keys: Keys,
}

/// The issuers of a server, by what their tokens say in `iss`.
#[derive(Default)]
pub struct Issuers(BTreeMap<String, Issuer>);

/// Why a token of an issuer is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotBelieved {
    /// It is no token of an issuer that is known.
    Foreign,
    /// It is not as it must be.
    Bad(&'static str),
    /// Its issuer cannot be asked for its keys.
    Away(String),
}

impl Issuers {
    /// Looks at the settings of issuers. Nobody is asked anything yet.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn new(
        settings: BTreeMap<String, IssuerSettings>,
        documents: &Arc<dyn IssuerDocuments>,
    ) -> Result<Self, IssuerError> {
        let mut issuers = BTreeMap::new();
        for (name, settings) in settings {
            let fail = |problem: String| IssuerError { name: name.clone(), problem };
            if !is_project_name(&name) {
                let problem = "use at most 63 lower-case letters, digits and `-` for its name";
                return Err(fail(problem.to_owned()));
            }
            address(&settings.issuer).map_err(&fail)?;
            let place = settings.keys.as_deref().map(address).transpose().map_err(&fail)?;
            if let Some(login) = &settings.login
                && login.token == LoginToken::Id
                && login.client_id != settings.audience
            {
                let problem = format!(
                    "an identity token of `login` is for `{}`, and the `audience` is `{}`: make them the \
                     same, or set `login.token: access`",
                    login.client_id, settings.audience
                );
                return Err(fail(problem));
            }
            if settings.audience.is_empty() {
                return Err(fail("its `audience` is empty".to_owned()));
            }
            for role in &settings.roles {
                // Of an issuer that serves everybody, that would be everybody.
                if role.claims.is_empty() || role.claims.values().any(Globs::is_empty) {
                    let problem = "an entry of `roles` asks for no claims; write `{sub: \"**\"}` where \
                        every token of this issuer is to have the role";
                    return Err(fail(problem.to_owned()));
                }
                if role.project != Grant::EVERYWHERE && !is_project_name(&role.project) {
                    return Err(fail(format!("`{}` cannot name a project", role.project)));
                }
            }
            let ca = match &settings.ca {
                Some(path) => std::fs::read(path)
                    .map_err(|error| fail(format!("cannot read {}: {error}", path.display())))?,
                None => Vec::new(),
            };
            let (url, documents) = (settings.issuer.clone(), Arc::clone(documents));
            let keys = Keys::new(documents, url.clone(), place, ca);
            let issuer = Issuer { name: name.clone(), settings, keys };
            if let Some(other) = issuers.insert(url, issuer) {
                return Err(fail(format!("it is the same as `{}`", other.name)));
            }
        }
        Ok(Self(issuers))
    }

    /// Where people log in, by the names of the issuers.
    pub(crate) fn logins(&self) -> impl Iterator<Item = (&str, &str, &LoginSettings)> {
        let of = |issuer: &'_ Issuer| issuer.settings.login.is_some();
        let mut known: Vec<&Issuer> = self.0.values().filter(|issuer| of(issuer)).collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        known.into_iter().filter_map(|issuer| {
            let login = issuer.settings.login.as_ref()?;
            Some((issuer.name.as_str(), issuer.settings.issuer.as_str(), login))
        })
    }

    /// Who has brought a token along.
    pub(crate) async fn subject(&self, text: &str, now: Timestamp) -> Result<Subject, NotBelieved> {
        let token = Unverified::read(text).ok_or(NotBelieved::Foreign)?;
        let issuer = token.issuer().and_then(|issuer| self.0.get(issuer));
        let issuer = issuer.ok_or(NotBelieved::Foreign)?;
        let keys = issuer.keys.of(&token).await.map_err(NotBelieved::Away)?;
        let claims = token.verified(&keys).ok_or(NotBelieved::Bad("its signature is wrong"))?;
        issuer.believed(&claims, now).map_err(NotBelieved::Bad)
    }
}

/// An address that documents of an issuer may be fetched from.
fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("`{text}` is no address: {error}"))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(format!("`{text}` has no host")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address has a login in it".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        // Whoever can change what is said on this machine has it anyway.
        "http" if here => Ok(url),
        _ => Err(format!("`{text}` is not https")),
    }
}

impl Issuer {
    /// The subject of claims that are signed.
    fn believed(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Subject, &'static str> {
        let settings = &self.settings;
        let is_for = |value: &Value| value.as_str() == Some(&settings.audience);
        let ours = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_for),
            Some(one) => is_for(one),
            None => false,
        };
        if !ours {
            return Err("it is for somebody else");
        }
        let now = now.as_duration().as_secs_f64();
        let time =
            |name: &str| claims.get(name).map(|at| at.as_f64().ok_or("a time in it is none"));
        let expires = time("exp").ok_or("it says no end")??;
        let issued = time("iat").ok_or("it does not say since when it is")??;
        if now >= expires + LEEWAY {
            return Err("its time is over");
        }
        if issued > now + LEEWAY {
            return Err("it was issued in the future");
        }
        if let Some(begins) = time("nbf").transpose()?
            && begins > now + LEEWAY
        {
            return Err("its time has not come");
        }
        // An address that nobody has shown to be theirs names nobody.
        if settings.name == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
            return Err("its `email` is not verified");
        }
        let name = claims.get(&settings.name).and_then(Value::as_str);
        let name = name.ok_or("it does not name its subject")?;
        let prefix = settings.prefix.clone().unwrap_or_else(|| format!("{}:", self.name));
        let name = format!("{prefix}{name}");
        let usable = name.trim() == name && !name.is_empty() && !name.contains(char::is_control);
        if !usable || name.len() > StoredToken::MAX_SUBJECT {
            return Err("the name of its subject cannot be used");
        }
        let groups = settings.groups.as_ref().and_then(|claim| claims.get(claim));
        let groups: BTreeSet<String> = match groups {
            Some(Value::Array(several)) => {
                let several = several.iter().filter_map(Value::as_str);
                several.take(MAX_GROUPS).map(str::to_owned).collect()
            }
            Some(Value::String(one)) => BTreeSet::from([one.clone()]),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
                BTreeSet::new()
            }
        };
        let fitting = settings.roles.iter().filter(|role| role.fits(claims));
        let grants = fitting.map(|role| Grant {
            role: role.role,
            project: role.project.clone(),
            pipelines: role.pipelines.clone(),
        });
        Ok(Subject {
            name,
            via: format!("issuer {}", self.name),
            groups,
            grants: grants.collect(),
            speaks_for_others: false,
        })
    }
}

impl ClaimRole {
    fn fits(&self, claims: &Map<String, Value>) -> bool {
        self.claims.iter().all(|(name, patterns)| {
            let fits = |value: &Value| match value {
                Value::String(text) => patterns.is_match(text),
                Value::Bool(_) | Value::Number(_) => patterns.is_match(&value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => false,
            };
            match claims.get(name) {
                Some(Value::Array(several)) => several.iter().any(fits),
                Some(one) => fits(one),
                None => false,
            }
        })
    }
}
