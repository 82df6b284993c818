//! What a policy says to what was found. Pure: the same facts on the same day give the same report.

use std::collections::BTreeMap;

use fairlead_evidence::Answer;
use fairlead_step::{Digest, Image};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Asks, Case, Rule};
use crate::facts::{Attested, Facts};
use crate::{Policy, RuleMode};

/// What becomes of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleAnswer {
    /// It holds.
    Verified,
    /// What it asks for is not there.
    Absent,
    /// What it asks for is there, and by somebody else or for another place.
    Foreign,
    /// What it asks for is there, and does not hold or cannot be read.
    Invalid,
    /// What it asks for is there and good, and what stands in it is not what is asked.
    Unmet,
    /// It is not looked at.
    Off,
}

impl RuleAnswer {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Absent => "absent",
            Self::Foreign => "foreign",
            Self::Invalid => "invalid",
            Self::Unmet => "unmet",
            Self::Off => "off",
        }
    }

    const fn of(answer: Answer) -> Self {
        match answer {
            Answer::Verified => Self::Verified,
            Answer::Absent => Self::Absent,
            Answer::Foreign => Self::Foreign,
            Answer::Invalid => Self::Invalid,
        }
    }
}

/// One rule, explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleReport {
    /// The rule.
    pub name: String,
    /// What it means when it does not hold.
    pub mode: RuleMode,
    /// Whether it holds.
    pub answer: RuleAnswer,
    /// Why, line by line.
    pub lines: Vec<String>,
    /// Who answers for it, where it does not hold and somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excepted: Option<String>,
}

impl RuleReport {
    fn is_no(&self) -> bool {
        let holds = matches!(self.answer, RuleAnswer::Verified | RuleAnswer::Off);
        self.mode == RuleMode::Require && !holds && self.excepted.is_none()
    }
}

/// What a policy says to an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The policy's name.
    pub policy: String,
    /// The digest of its file.
    pub policy_digest: Digest,
    /// The image.
    pub image: Image,
    /// Whether the answer is yes.
    pub passes: bool,
    /// Every rule.
    pub rules: Vec<RuleReport>,
}

impl Report {
    /// Why the answer is no, in one line.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if self.passes {
            return None;
        }
        let rules = self.rules.iter().filter(|rule| rule.is_no());
        let told: Vec<String> =
            rules.map(|rule| format!("{} is {}", rule.name, rule.answer.name())).collect();
        Some(if told.is_empty() {
            format!("the policy {} says nothing of {}", self.policy, self.image.repository)
        } else {
            format!("the policy {} says no: {}", self.policy, told.join(", "))
        })
    }
}

/// Holds `facts` against `policy`, on the day `today`. A policy that says nothing of the image's repository
/// says no: a gate that was given the wrong policy stays closed.
#[must_use]
pub fn judge(policy: &Policy, image: &Image, facts: &Facts, today: Date) -> Report {
    let mut rules = Vec::new();
    let speaks = policy.speaks_of(image);
    for rule in policy.rules.iter().filter(|_| speaks) {
        let (answer, mut lines) = ask(rule, image, facts);
        let mut excepted = None;
        if !matches!(answer, RuleAnswer::Verified | RuleAnswer::Off) {
            let about = policy.exceptions.iter().filter(|e| e.is_about(&rule.name, image));
            for exception in about {
                let (owner, reason) = (&exception.owner, &exception.reason);
                if today <= exception.expires {
                    excepted = Some(format!("{owner}, until {}: {reason}", exception.expires));
                } else {
                    lines.push(format!("the exception of {owner} ended on {}", exception.expires));
                }
            }
        }
        rules.push(RuleReport {
            name: rule.name.clone(),
            mode: rule.mode,
            answer,
            lines,
            excepted,
        });
    }
    Report {
        policy: policy.name.clone(),
        policy_digest: policy.digest.clone(),
        image: image.clone(),
        passes: speaks && !rules.iter().any(RuleReport::is_no),
        rules,
    }
}

fn ask(rule: &Rule, image: &Image, facts: &Facts) -> (RuleAnswer, Vec<String>) {
    if rule.mode == RuleMode::Off {
        return (RuleAnswer::Off, Vec::new());
    }
    let mut lines = Vec::new();
    let mut worst = RuleAnswer::Absent;
    let mut see = |answer: RuleAnswer| {
        let weight = |answer| match answer {
            RuleAnswer::Absent | RuleAnswer::Off => 0,
            RuleAnswer::Foreign => 1,
            RuleAnswer::Invalid => 2,
            RuleAnswer::Unmet => 3,
            RuleAnswer::Verified => 4,
        };
        if weight(answer) > weight(worst) {
            worst = answer;
        }
    };
    match &rule.asks {
        Asks::Signature { by, min, here } => {
            let mut signed: Vec<&str> = Vec::new();
            for key in by {
                let found = facts.signatures.get(&(key.clone(), *here));
                let answer = found.copied().unwrap_or(Answer::Absent);
                lines.push(format!("signature by {key}: {answer}"));
                if answer == Answer::Verified {
                    signed.push(key);
                } else {
                    see(RuleAnswer::of(answer));
                }
            }
            signed.sort_unstable();
            signed.dedup();
            if signed.len() >= *min as usize {
                return (RuleAnswer::Verified, lines);
            }
            if !signed.is_empty() {
                lines.push(format!("{} of {min} signatures", signed.len()));
                see(RuleAnswer::Unmet);
            }
        }
        Asks::Attestation { kind, by, conditions, here } => {
            for key in by {
                let at = ((key.clone(), *here), kind.clone());
                let Some(Attested { answer, predicates }) = facts.attestations.get(&at) else {
                    lines.push(format!("{kind} by {key}: absent"));
                    continue;
                };
                lines.push(format!("{kind} by {key}: {answer}"));
                if *answer != Answer::Verified {
                    see(RuleAnswer::of(*answer));
                    continue;
                }
                for predicate in predicates {
                    let failed: Vec<String> = conditions
                        .iter()
                        .filter_map(|condition| condition.holds(predicate, image).err())
                        .collect();
                    if failed.is_empty() {
                        return (RuleAnswer::Verified, lines);
                    }
                    for line in failed {
                        if !lines.contains(&line) {
                            lines.push(line);
                        }
                    }
                }
                see(RuleAnswer::Unmet);
            }
        }
    }
    (worst, lines)
}

/// A test beside a policy that fails.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseFailure {
    /// The test.
    pub name: String,
    /// What came out instead of what it says.
    pub problems: Vec<String>,
}

/// Runs the tests that stand beside a policy; the answer is how many there are, and those that fail.
#[must_use]
pub fn run_cases(policy: &Policy, today: Date) -> (usize, Vec<CaseFailure>) {
    let failures = policy.cases.iter().filter_map(|case| {
        let problems = run_case(policy, case, today);
        (!problems.is_empty()).then(|| CaseFailure { name: case.name.clone(), problems })
    });
    (policy.cases.len(), failures.collect())
}

fn run_case(policy: &Policy, case: &Case, today: Date) -> Vec<String> {
    let repository = case.repository.as_deref().unwrap_or("registry.example.com/apps/shop");
    let image = format!("{repository}@{}", Digest::sha256(case.name.as_bytes()));
    let Ok(image) = image.parse::<Image>() else {
        return vec![format!("`{repository}` is no repository")];
    };
    let mut facts = Facts::default();
    // What does not name the place is foreign to a rule that asks for it.
    let answer = |here: bool, given: bool| {
        if !here || given { Answer::Verified } else { Answer::Foreign }
    };
    let raise =
        |known: Option<&Answer>, answer: Answer| known.copied().map_or(answer, |k| k.max(answer));
    for given in &case.signatures {
        for here in [false, true] {
            let by = (given.by.clone(), here);
            let answer = raise(facts.signatures.get(&by), answer(here, given.here));
            facts.signatures.insert(by, answer);
        }
    }
    for given in &case.attestations {
        for here in [false, true] {
            let at = ((given.by.clone(), here), given.kind.clone());
            let entry = facts
                .attestations
                .entry(at)
                .or_insert(Attested { answer: Answer::Absent, predicates: Vec::new() });
            let answer = answer(here, given.here);
            entry.answer = entry.answer.max(answer);
            if answer == Answer::Verified {
                entry.predicates.push(given.predicate.clone());
            }
        }
    }
    let report = judge(policy, &image, &facts, case.on.unwrap_or(today));
    let mut problems = Vec::new();
    if report.passes != case.passes {
        let words = |yes: bool| if yes { "yes" } else { "no" };
        let why = report.reason().unwrap_or_else(|| "every rule holds".to_owned());
        problems.push(format!(
            "the policy says {}, and {} is expected: {why}",
            words(report.passes),
            words(case.passes)
        ));
    }
    let found: BTreeMap<&str, RuleAnswer> =
        report.rules.iter().map(|rule| (rule.name.as_str(), rule.answer)).collect();
    for (rule, want) in &case.rules {
        match found.get(rule.as_str()) {
            Some(answer) if answer == want => {}
            Some(answer) => problems.push(format!(
                "{rule} is {}, and {} is expected",
                answer.name(),
                want.name()
            )),
            None => problems.push(format!("{rule} was not asked")),
        }
    }
    problems
}
