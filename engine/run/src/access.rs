//! Who may do what: roles, and what each allows in which project.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fairlead_step::Globs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To look at pipelines, runs, logs and events.
    View,
    /// To start runs, stop them, make them again, and decide about lost attempts.
    Operate,
    /// To vote at gates.
    Approve,
    /// To make and revoke tokens, and to read the audit log.
    Administer,
}

/// What somebody is in a project.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks at everything.
    Viewer,
    /// Looks, starts runs and stops them. Has no vote: who ships does not approve.
    Operator,
    /// Looks and votes. Starts nothing.
    Approver,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Whether it allows what is wanted.
    #[must_use]
    pub const fn allows(self, right: Right) -> bool {
        match (self, right) {
            (Self::Admin, _) | (_, Right::View) => true,
            (Self::Operator, Right::Operate) | (Self::Approver, Right::Approve) => true,
            (Self::Viewer | Self::Approver, Right::Operate)
            | (Self::Viewer | Self::Operator, Right::Approve)
            | (Self::Viewer | Self::Operator | Self::Approver, Right::Administer) => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A role in one project, or in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The project; [`Grant::EVERYWHERE`] stands for all, also those that are yet to come, and for what
    /// is in none.
    pub project: String,
    /// The pipelines of it that the grant is about; all when nothing is said.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub pipelines: Globs,
}

impl Grant {
    /// All projects.
    pub const EVERYWHERE: &'static str = "*";
    /// The most bytes of the name of a project.
    const MAX_NAME: usize = 63;

    /// A role in every project.
    #[must_use]
    pub fn everywhere(role: Role) -> Self {
        Self { role, project: Self::EVERYWHERE.to_owned(), pipelines: Globs::default() }
    }

    /// Whether it allows that for a pipeline of a project.
    #[must_use]
    pub fn allows(&self, right: Right, project: &str, pipeline: &str) -> bool {
        let here = self.project == Self::EVERYWHERE || self.project == project;
        here && self.role.allows(right) && self.pipelines.is_match(pipeline)
    }

    /// Whether it allows that for what belongs to no pipeline, such as events and tokens.
    #[must_use]
    pub fn allows_everywhere(&self, right: Right) -> bool {
        self.project == Self::EVERYWHERE && self.pipelines.is_empty() && self.role.allows(right)
    }
}

/// A text says no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no role in a project: say ROLE or ROLE:PROJECT with viewer, operator, approver or admin"
)]
pub struct GrantError {
    text: String,
}

/// `ROLE`, in every project, or `ROLE:PROJECT`.
impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let fail = || GrantError { text: text.chars().take(80).collect() };
        let (role, project) = text.split_once(':').unwrap_or((text, Self::EVERYWHERE));
        let role = Role::ALL.into_iter().find(|it| it.name() == role).ok_or_else(fail)?;
        if project != Self::EVERYWHERE && !is_project_name(project) {
            return Err(fail());
        }
        Ok(Self { role, project: project.to_owned(), pipelines: Globs::default() })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, project, .. } = self;
        if project == Self::EVERYWHERE { role.fmt(f) } else { write!(f, "{role}:{project}") }
    }
}

/// Whether a text can name a project.
#[must_use]
pub fn is_project_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= Grant::MAX_NAME && text.bytes().all(plain)
}

/// Which pipeline belongs to which project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Projects(BTreeMap<String, Globs>);

/// What is wrong with a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// Its name would not do in a grant.
    #[error("`{name}` cannot name a project: use at most 63 lower-case letters, digits and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// Whatever no pattern names is in it.
    #[error(
        "project `{}` is that of the pipelines that no other project names; call this one otherwise",
        Projects::DEFAULT
    )]
    Default,
    /// It would have no pipelines, or all of them, by mistake.
    #[error("project `{name}` names no `pipelines`")]
    NoPipelines {
        /// The project.
        name: String,
    },
}

impl Projects {
    /// The project of the pipelines that no project names.
    pub const DEFAULT: &'static str = "default";

    /// Projects, each with the pipelines that it names.
    ///
    /// # Errors
    /// The first project that is wrong.
    pub fn new(named: impl IntoIterator<Item = (String, Globs)>) -> Result<Self, ProjectError> {
        let mut projects = BTreeMap::new();
        for (name, pipelines) in named {
            if name == Self::DEFAULT {
                return Err(ProjectError::Default);
            }
            if !is_project_name(&name) {
                return Err(ProjectError::Name { name: name.chars().take(80).collect() });
            }
            if pipelines.is_empty() {
                return Err(ProjectError::NoPipelines { name });
            }
            projects.insert(name, pipelines);
        }
        Ok(Self(projects))
    }

    /// Whether there is a project of this name. [`Projects::DEFAULT`] is always there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        name == Self::DEFAULT || self.0.contains_key(name)
    }

    /// The projects that a pipeline belongs to: never none. One that several name belongs to all of
    /// them, and whoever wants to do something with it needs the right in each.
    #[must_use]
    pub fn of(&self, pipeline: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(_, pipelines)| pipelines.is_match(pipeline));
        let named: Vec<&str> = named.map(|(name, _)| name.as_str()).collect();
        if named.is_empty() { vec![Self::DEFAULT] } else { named }
    }

    /// Whether these grants allow that for a pipeline.
    #[must_use]
    pub fn allow(&self, grants: &[Grant], right: Right, pipeline: &str) -> bool {
        let allowed =
            |project: &str| grants.iter().any(|grant| grant.allows(right, project, pipeline));
        self.of(pipeline).into_iter().all(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_allows_what_it_says() {
        use Right::{Administer, Approve, Operate, View};
        for (role, allowed) in [
            (Role::Viewer, &[View][..]),
            (Role::Operator, &[View, Operate]),
            (Role::Approver, &[View, Approve]),
            (Role::Admin, &[View, Operate, Approve, Administer]),
        ] {
            for right in [View, Operate, Approve, Administer] {
                assert_eq!(role.allows(right), allowed.contains(&right), "{role} {right:?}");
            }
        }
    }

    #[test]
    fn a_grant_is_for_its_project_and_its_pipelines() {
        let mut grant: Grant = "operator:shop".parse().unwrap();
        assert!(grant.allows(Right::Operate, "shop", "release"));
        assert!(!grant.allows(Right::Operate, "bank", "release"));
        assert!(!grant.allows_everywhere(Right::View), "one project is not all of them");
        grant.pipelines = serde_json::from_str(r#"["rel*"]"#).unwrap();
        assert!(grant.allows(Right::Operate, "shop", "release"));
        assert!(!grant.allows(Right::Operate, "shop", "rescan"));
        let mut all: Grant = "viewer".parse().unwrap();
        assert!(all.allows(Right::View, "bank", "x") && all.allows_everywhere(Right::View));
        assert!(!all.allows_everywhere(Right::Operate));
        all.pipelines = serde_json::from_str(r#"["rel*"]"#).unwrap();
        assert!(!all.allows_everywhere(Right::View), "some pipelines are not everything");
        for bad in ["", "root", "viewer:", "viewer:A b", "viewer:*x", ":shop", "Viewer"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }
    #[test]
    fn a_pipeline_of_two_projects_needs_the_right_in_both() {
        let projects = |text: &str| {
            let settings: BTreeMap<String, Globs> =
                serde_json::from_str(text).map_err(|error| error.to_string())?;
            Projects::new(settings).map_err(|error| error.to_string())
        };
        let ours = projects(r#"{"shop": "shop-*", "security": "*-scan"}"#);
        let ours = ours.unwrap();
        assert_eq!(ours.of("shop-release"), ["shop"]);
        assert_eq!(ours.of("shop-scan"), ["security", "shop"]);
        assert_eq!(ours.of("other"), ["default"]);
        let one: [Grant; 1] = ["operator:shop".parse().unwrap()];
        assert!(ours.allow(&one, Right::Operate, "shop-release"));
        assert!(!ours.allow(&one, Right::Operate, "shop-scan"));
        assert!(!ours.allow(&one, Right::View, "other"));
        let both = ["operator:shop", "admin:security"].map(|text| text.parse().unwrap());
        assert!(ours.allow(&both, Right::Operate, "shop-scan"));
        assert!(!ours.allow(&both, Right::Approve, "shop-scan"));
        assert!(!ours.allow(&[], Right::View, "shop-release"));
        for bad in [r#"{"default": "a"}"#, r#"{"A": "a"}"#, r#"{"a": []}"#] {
            assert!(projects(bad).is_err(), "{bad}");
        }
    }
}
