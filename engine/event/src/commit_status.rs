//! The status of a commit at a forge: what is sent where. Each forge has its own words for it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::{Forge, SenderKind};

/// The most characters of a description: GitHub takes 140, GitLab and Bitbucket 255.
const MAX_DESCRIPTION: usize = 140;
/// The most characters of a key at Bitbucket.
const MAX_KEY: usize = 40;

/// What is said of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitStatus {
    /// The repository, as the forge names it.
    pub repository: String,
    /// The commit.
    pub commit: String,
    /// What says it, such as `fairlead/release`. Of one context the last status counts.
    pub context: String,
    /// How it stands.
    pub state: CommitState,
    /// A line for people.
    pub description: String,
    /// Where to read more: the path of a page of the server.
    pub path: String,
}

/// How a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitState {
    /// Something is looking at it.
    Pending,
    /// It is good.
    Success,
    /// It is not.
    Failure,
    /// Nobody can say: whatever looked at it was stopped.
    Stopped,
}

/// A request that sets a status.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusRequest {
    /// Where it goes.
    pub url: Url,
    /// The header that carries the token, and what stands before it there.
    pub token: (&'static str, &'static str),
    /// What it says.
    pub body: Value,
}

impl SenderKind {
    /// Whether forges of this kind are told of commits.
    #[must_use]
    pub const fn takes_statuses(self) -> bool {
        match self {
            Self::GitHub
            | Self::GitLab
            | Self::Gitea
            | Self::Bitbucket
            | Self::BitbucketDataCenter => true,
            Self::CloudEvents
            | Self::Distribution
            | Self::Zot
            | Self::Harbor
            | Self::DockerHub
            | Self::Ghcr
            | Self::Quay
            | Self::Acr
            | Self::Ecr
            | Self::Artifactory
            | Self::Nexus => false,
        }
    }
}

impl CommitStatus {
    /// The request that sets it at `forge`, one of `kind`. `server` is where people reach this server; without
    /// it there is no link. `api` is where the forge's API is, when that is not where it usually is.
    ///
    /// # Errors
    /// Says why there is no such request.
    pub fn request(
        &self,
        kind: SenderKind,
        forge: &Forge,
        api: Option<&str>,
        server: Option<&str>,
    ) -> Result<StatusRequest, String> {
        crate::forge::check_name(kind, &self.repository)?;
        if self.commit.is_empty() || !self.commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("the commit is no id of an object".to_owned());
        }
        let link = server.map(|server| format!("{}{}", server.trim_end_matches('/'), self.path));
        let description: String = self.description.chars().take(MAX_DESCRIPTION).collect();
        let base = api.map_or_else(|| usual_api(kind, forge), |api| Ok(api.to_owned()))?;
        let url = |path: &[&str]| -> Result<Url, String> {
            let mut url = Url::parse(base.trim_end_matches('/'))
                .map_err(|error| format!("`{base}` is no address: {error}"))?;
            // Each part is escaped: the name of a GitLab project is one part.
            url.path_segments_mut().map_err(|()| format!("`{base}` is no base"))?.extend(path);
            Ok(url)
        };
        let (context, commit, state) = (&self.context, self.commit.as_str(), self.state);
        let parts = self.repository.split('/').collect::<Vec<_>>();
        let (owner, name) = match parts.as_slice() {
            [owner, name] => (*owner, *name),
            _ => ("", ""),
        };
        use CommitState::{Failure, Pending, Stopped, Success};
        let bearer = ("authorization", "Bearer ");
        Ok(match kind {
            SenderKind::GitHub | SenderKind::Gitea => {
                let state = match state {
                    Pending => "pending",
                    Success => "success",
                    Failure => "failure",
                    Stopped => "error",
                };
                StatusRequest {
                    url: url(&["repos", owner, name, "statuses", commit])?,
                    token: if kind == SenderKind::GitHub {
                        bearer
                    } else {
                        ("authorization", "token ")
                    },
                    body: with_link(
                        json!({ "state": state, "context": context, "description": description }),
                        "target_url",
                        link,
                    ),
                }
            }
            SenderKind::GitLab => {
                let state = match state {
                    Pending => "running",
                    Success => "success",
                    Failure => "failed",
                    Stopped => "canceled",
                };
                StatusRequest {
                    url: url(&["projects", &self.repository, "statuses", commit])?,
                    token: ("private-token", ""),
                    body: with_link(
                        json!({ "state": state, "name": context, "description": description }),
                        "target_url",
                        link,
                    ),
                }
            }
            SenderKind::Bitbucket | SenderKind::BitbucketDataCenter => {
                let state = match state {
                    Pending => "INPROGRESS",
                    Success => "SUCCESSFUL",
                    Failure => "FAILED",
                    Stopped if kind == SenderKind::Bitbucket => "STOPPED",
                    Stopped => "CANCELLED",
                };
                let key: String = context.chars().take(MAX_KEY).collect();
                let link = link.ok_or_else(|| {
                    "Bitbucket takes no status without a link: say where this server is (`url`)"
                        .to_owned()
                })?;
                let path: Vec<&str> = if kind == SenderKind::Bitbucket {
                    vec!["repositories", owner, name, "commit", commit, "statuses", "build"]
                } else {
                    vec!["projects", owner, "repos", name, "commits", commit, "builds"]
                };
                StatusRequest {
                    url: url(&path)?,
                    token: bearer,
                    body: json!({ "state": state, "key": key, "name": context, "url": link,
                        "description": description }),
                }
            }
            SenderKind::CloudEvents
            | SenderKind::Distribution
            | SenderKind::Zot
            | SenderKind::Harbor
            | SenderKind::DockerHub
            | SenderKind::Ghcr
            | SenderKind::Quay
            | SenderKind::Acr
            | SenderKind::Ecr
            | SenderKind::Artifactory
            | SenderKind::Nexus => return Err(format!("`{kind}` takes no statuses of commits")),
        })
    }
}

fn with_link(mut body: Value, key: &str, link: Option<String>) -> Value {
    if let Some(link) = link {
        body[key] = link.into();
    }
    body
}

/// Where the API of a forge usually is: on a host of its own at the large ones, else below the forge.
fn usual_api(kind: SenderKind, forge: &Forge) -> Result<String, String> {
    let base = forge.base();
    let url = Url::parse(base).map_err(|error| format!("`{base}` is no address: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    Ok(match kind {
        SenderKind::GitHub if host == "github.com" => "https://api.github.com".to_owned(),
        SenderKind::GitHub => format!("{base}/api/v3"),
        SenderKind::GitLab => format!("{base}/api/v4"),
        SenderKind::Bitbucket if host == "bitbucket.org" => {
            "https://api.bitbucket.org/2.0".to_owned()
        }
        SenderKind::Bitbucket => format!("{base}/2.0"),
        SenderKind::BitbucketDataCenter => format!("{base}/rest/api/latest"),
        SenderKind::Gitea
        | SenderKind::CloudEvents
        | SenderKind::Distribution
        | SenderKind::Zot
        | SenderKind::Harbor
        | SenderKind::DockerHub
        | SenderKind::Ghcr
        | SenderKind::Quay
        | SenderKind::Acr
        | SenderKind::Ecr
        | SenderKind::Artifactory
        | SenderKind::Nexus => format!("{base}/api/v1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(repository: &str, state: CommitState) -> CommitStatus {
        CommitStatus {
            repository: repository.to_owned(),
            commit: "a".repeat(40),
            context: "fairlead/release".to_owned(),
            state,
            description: "failed: step `scan`".to_owned(),
            path: "/api/v1/runs/01h".to_owned(),
        }
    }

    fn request(kind: SenderKind, base: &str, status: &CommitStatus) -> StatusRequest {
        let forge = Forge::new(base, None).unwrap();
        status.request(kind, &forge, None, Some("https://ci.example.com/")).unwrap()
    }

    #[test]
    fn each_forge_has_its_own_words() {
        let commit = "a".repeat(40);
        let link = "https://ci.example.com/api/v1/runs/01h";
        let failed = status("acme/shop", CommitState::Failure);
        let github = request(SenderKind::GitHub, "https://github.com", &failed);
        assert_eq!(
            github.url.as_str(),
            format!("https://api.github.com/repos/acme/shop/statuses/{commit}")
        );
        assert_eq!(github.token, ("authorization", "Bearer "));
        assert_eq!(
            github.body,
            json!({ "state": "failure", "context": "fairlead/release",
                "description": "failed: step `scan`", "target_url": link })
        );
        let own = request(SenderKind::GitHub, "https://git.example.com", &failed);
        assert_eq!(own.url.path(), format!("/api/v3/repos/acme/shop/statuses/{commit}"));

        let gitea = request(SenderKind::Gitea, "https://example.com/gitea", &failed);
        assert_eq!(gitea.url.path(), format!("/gitea/api/v1/repos/acme/shop/statuses/{commit}"));
        assert_eq!(gitea.token, ("authorization", "token "));
        assert_eq!(gitea.body, github.body);

        let pending = status("acme/tools/shop", CommitState::Pending);
        let gitlab = request(SenderKind::GitLab, "https://gitlab.example.com", &pending);
        assert_eq!(
            gitlab.url.path(),
            format!("/api/v4/projects/acme%2Ftools%2Fshop/statuses/{commit}")
        );
        assert_eq!(gitlab.token, ("private-token", ""));
        assert_eq!(
            gitlab.body,
            json!({ "state": "running", "name": "fairlead/release",
                "description": "failed: step `scan`", "target_url": link })
        );

        let stopped = status("acme/shop", CommitState::Stopped);
        let cloud = request(SenderKind::Bitbucket, "https://bitbucket.org", &stopped);
        assert_eq!(
            cloud.url.as_str(),
            format!(
                "https://api.bitbucket.org/2.0/repositories/acme/shop/commit/{commit}/statuses/build"
            )
        );
        assert_eq!(
            cloud.body,
            json!({ "state": "STOPPED", "key": "fairlead/release", "name": "fairlead/release",
                "url": link, "description": "failed: step `scan`" })
        );
        let center = request(SenderKind::BitbucketDataCenter, "https://git.example.com", &stopped);
        assert_eq!(
            center.url.path(),
            format!("/rest/api/latest/projects/acme/repos/shop/commits/{commit}/builds")
        );
        assert_eq!(center.body["state"], "CANCELLED");
        for (state, words) in [
            (CommitState::Pending, ["pending", "running"]),
            (CommitState::Success, ["success", "success"]),
            (CommitState::Failure, ["failure", "failed"]),
            (CommitState::Stopped, ["error", "canceled"]),
        ] {
            let status = status("acme/shop", state);
            for (kind, word) in [SenderKind::GitHub, SenderKind::GitLab].into_iter().zip(words) {
                assert_eq!(request(kind, "https://g.example.com", &status).body["state"], word);
            }
        }
    }

    #[test]
    fn what_makes_no_request_is_told() {
        let forge = Forge::new("https://git.example.com", None).unwrap();
        let good = status("acme/shop", CommitState::Success);
        for (kind, status, server) in [
            (SenderKind::Harbor, good.clone(), Some("https://ci.example.com")),
            (SenderKind::GitHub, status("../x", CommitState::Success), None),
            (SenderKind::GitHub, CommitStatus { commit: "a/../b".into(), ..good.clone() }, None),
            (SenderKind::Bitbucket, good.clone(), None),
        ] {
            assert!(status.request(kind, &forge, None, server).is_err(), "{kind}");
        }
        let long = CommitStatus { description: "x".repeat(1000), ..good };
        let request = long.request(SenderKind::GitHub, &forge, None, None).unwrap();
        assert_eq!(request.body["description"].as_str().unwrap().len(), 140);
        assert_eq!(request.body.get("target_url"), None, "without an address there is no link");
    }
}
