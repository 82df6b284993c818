//! A subject: who somebody is, and what they may do.

use std::collections::BTreeSet;

use fairlead_run::{Grant, Groups, Role, StoredToken, Voter};

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// What they are called, in runs and votes.
    pub(crate) name: String,
    /// How that is known, for the audit log.
    pub(crate) via: String,
    /// The groups that their issuer says they are in.
    pub(crate) groups: BTreeSet<String>,
    /// What they may do.
    pub(crate) grants: Vec<Grant>,
    /// Whether they may speak in the names of others.
    pub(crate) speaks_for_others: bool,
}

/// In whose name somebody speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InNameOf {
    /// Whose vote it is.
    pub(crate) voter: Voter,
    /// The name, where it is not that of whoever speaks.
    pub(crate) other: Option<String>,
}

/// What the token of the configuration is called in runs.
const API: &str = "api";

impl Subject {
    /// Whoever shows the one token of the configuration.
    pub(crate) fn of_configuration() -> Self {
        Self {
            name: API.to_owned(),
            via: "the token of the configuration".to_owned(),
            groups: BTreeSet::new(),
            grants: vec![Grant::everywhere(Role::Admin)],
            speaks_for_others: true,
        }
    }

    /// Whoever uses a server of their own on their own machine.
    pub(crate) fn at_the_keyboard(user: &str) -> Self {
        Self {
            name: user.to_owned(),
            via: "loopback".to_owned(),
            groups: BTreeSet::new(),
            grants: vec![Grant::everywhere(Role::Admin)],
            speaks_for_others: false,
        }
    }

    /// Whoever shows a token that is good.
    pub(crate) fn of_token(token: StoredToken) -> Self {
        Self {
            name: token.subject,
            via: format!("token {}", token.id),
            groups: BTreeSet::new(),
            grants: token.grants,
            speaks_for_others: token.speaks_for_others,
        }
    }

    /// In whose name a vote is, when `by` is who it is to be of. None when they may not say that.
    pub(crate) fn in_name_of(&self, by: Option<String>, groups: &Groups) -> Option<InNameOf> {
        match by {
            Some(other) if other != self.name => {
                let speaks = self.speaks_for_others;
                speaks.then(|| InNameOf { voter: groups.voter(&*other), other: Some(other) })
            }
            Some(_) | None => {
                let mut voter = groups.voter(&*self.name);
                voter.groups.extend(self.groups.iter().cloned());
                Some(InNameOf { voter, other: None })
            }
        }
    }
}

impl InNameOf {
    /// The reason of a vote, which says so when it is in the name of another.
    pub(crate) fn reason(&self, speaker: &Subject, reason: Option<String>) -> Option<String> {
        let Some(other) = &self.other else { return reason };
        let told = format!("{} on behalf of {other}", speaker.name);
        Some(match reason {
            Some(reason) => format!("{told}: {reason}"),
            None => told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_is_that_of_its_subject() {
        let groups: Groups =
            [("qa".to_owned(), BTreeSet::from(["bob".to_owned()]))].into_iter().collect();
        let ann = Subject {
            groups: BTreeSet::from(["release".to_owned()]),
            ..Subject::at_the_keyboard("ann")
        };
        for by in [None, Some("ann".to_owned())] {
            let own = ann.in_name_of(by, &groups).unwrap();
            assert_eq!((own.voter.name.as_str(), &own.other), ("ann", &None));
            assert_eq!(own.voter.groups, ["release".to_owned()].into());
            assert_eq!(own.reason(&ann, None), None);
        }
        assert_eq!(ann.in_name_of(Some("bob".into()), &groups), None);
        let api = Subject::of_configuration();
        let bob = api.in_name_of(Some("bob".into()), &groups).unwrap();
        assert_eq!(bob.voter.groups, ["qa".to_owned()].into());
        let told = bob.reason(&api, Some("it works".into()));
        assert_eq!(told.as_deref(), Some("api on behalf of bob: it works"));
    }
}
