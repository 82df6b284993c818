//! Rules about secrets. A message never holds the secret itself.

use std::ops::Range;

use crate::analysis::{Analysis, Out};
use crate::dockerfile::{Instruction, Keyword};
use crate::rule;

/// Keys whose form is known: how they begin, and how many characters follow at least.
const KNOWN: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("ghp_", 36, "a token of GitHub"),
    ("gho_", 36, "a token of GitHub"),
    ("ghs_", 36, "a token of GitHub"),
    ("ghu_", 36, "a token of GitHub"),
    ("github_pat_", 50, "a token of GitHub"),
    ("glpat-", 20, "a token of GitLab"),
    ("xoxb-", 20, "a token of Slack"),
    ("xoxp-", 20, "a token of Slack"),
    ("npm_", 36, "a token of npm"),
    ("pypi-", 50, "a token of PyPI"),
    ("sk_live_", 20, "a key of Stripe"),
    ("dckr_pat_", 20, "a token of Docker Hub"),
    ("AIza", 35, "a key of Google"),
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for (_, instruction) in a.with(Keyword::Env) {
        for pair in instruction.pairs() {
            let value = pair.value.as_ref();
            if !is_secret(&pair.name.value) || value.is_none_or(|value| value.value.is_empty()) {
                continue;
            }
            let name = pair.name.value.escape_debug();
            let from_build = value.is_some_and(|value| value.has_variable());
            let message = if from_build {
                format!("`{name}` takes a value of the build into the image")
            } else {
                format!("`{name}` is written into the image")
            };
            out.tell(&rule::SECRET_ENV, instruction, pair.name.span.clone(), message);
        }
    }
    for (_, instruction) in a.with(Keyword::Arg) {
        for pair in instruction.pairs().into_iter().filter(|pair| is_secret(&pair.name.value)) {
            let name = pair.name.value.escape_debug();
            let message = format!("`{name}` is given as a build argument");
            out.tell(&rule::SECRET_ARG, instruction, pair.name.span.clone(), message);
        }
    }
    for step in &a.steps {
        texts(a.text, step.instruction, out);
    }
}

/// Whether a name is one of a secret.
fn is_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let words: Vec<&str> = upper.split(['_', '-', '.']).filter(|word| !word.is_empty()).collect();
    let last = words.last().copied().unwrap_or_default();
    // What tells of a secret, and is none.
    let about = [
        "FILE",
        "PATH",
        "DIR",
        "URL",
        "URI",
        "NAME",
        "ENDPOINT",
        "HOST",
        "PORT",
        "LENGTH",
        "TTL",
        "TYPE",
        "HEADER",
        "ALGORITHM",
        "EXPIRY",
        "EXPIRES",
        "ISSUER",
        "VERSION",
        "SIZE",
        "COUNT",
        "ENABLED",
        "PREFIX",
    ];
    if about.contains(&last) || words.contains(&"PUBLIC") || words.contains(&"PUB") {
        return false;
    }
    let sure = [
        "PASSWORD",
        "PASSWD",
        "PWORD",
        "PASSPHRASE",
        "SECRET",
        "SECRETS",
        "TOKEN",
        "APIKEY",
        "CREDENTIAL",
        "CREDENTIALS",
        "PASS",
        "PW",
        "PAT",
    ];
    let key = last == "KEY" && words.len() > 1 && {
        let before = words[words.len() - 2];
        [
            "API",
            "ACCESS",
            "PRIVATE",
            "SECRET",
            "SSH",
            "AUTH",
            "ENCRYPTION",
            "SIGNING",
            "ACCOUNT",
            "STORAGE",
            "DEPLOY",
            "LICENSE",
        ]
        .contains(&before)
    };
    // `PGPASSWORD` and the like are one word.
    key || words.iter().any(|word| sure.contains(word) || word.ends_with("PASSWORD"))
}

/// Keys of a known form, private keys, and passwords in addresses.
fn texts(text: &str, instruction: &Instruction, out: &mut Out) {
    let span = instruction.span.clone();
    let Some(whole) = text.get(span.clone()) else { return };
    let mut tell = |at: Range<usize>, what: &str| {
        let place = span.start + at.start..span.start + at.end;
        out.tell(&rule::SECRET_TEXT, instruction, place, format!("this is {what}"));
    };
    for (begins, least, what) in KNOWN {
        for (at, _) in whole.match_indices(begins) {
            let before = whole[..at].chars().next_back();
            let apart = before.is_none_or(|c| !c.is_ascii_alphanumeric());
            let rest = &whole[at + begins.len()..];
            let length =
                rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)).count();
            if apart && length >= *least {
                tell(at..at + begins.len() + length, what);
            }
        }
    }
    for (at, found) in whole.match_indices("-----BEGIN ") {
        let line = whole[at..].lines().next().unwrap_or(found);
        if line.contains("PRIVATE KEY") {
            tell(at..at + line.len().min(40), "a private key");
        }
    }
    for (at, _) in whole.match_indices("://") {
        let rest = &whole[at + 3..];
        let end =
            rest.find(|c: char| c.is_whitespace() || "/\"'`".contains(c)).unwrap_or(rest.len());
        let Some((credentials, host)) = rest[..end].rsplit_once('@') else { continue };
        let Some((_, password)) = credentials.split_once(':') else { continue };
        let example = ["password", "pass", "secret", "token", "x-oauth-basic"].contains(&password);
        if !password.is_empty()
            && !password.starts_with(['$', '<', '{', '%'])
            && !host.is_empty()
            && !example
        {
            let from = at + 3;
            tell(from..from + credentials.len(), "a password in an address");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_names_about_secrets() {
        for name in [
            "API_KEY",
            "DB_PASSWORD",
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "npm_token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "PASSWORD_FILE",
            "PUBLIC_KEY",
            "KEYBOARD",
            "TOKEN_URL",
            "PATH",
            "CACHE_KEY",
            "PYTHONPATH",
            "GPG_KEY",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
