//! What hadolint does not look at, rule by rule; what ignores findings; the page about the rules.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write as _;

use fairlead_step_lint::{Config, Context, Linted, RULES, Severity, lint, rule};

fn linted(text: &str, config: &str, context: Option<&Context>) -> Linted {
    let config = Config::read("lint.yaml", config).unwrap();
    lint("Dockerfile", text, &config, context, "2026-06-01".parse().unwrap())
}

/// The codes that begin with `FLD` and are found at each line.
fn codes(text: &str) -> Vec<(usize, &'static str)> {
    let quiet = ["FLD0103", "FLD0602", "FLD0603", "FLD0307"];
    let all = linted(text, "", None).findings.into_iter();
    all.filter(|f| !quiet.contains(&f.code)).map(|f| (f.place.line, f.code)).collect()
}

fn has(text: &str, line: usize, code: &str) {
    let found = codes(text);
    assert!(
        found.iter().any(|(at, other)| *at == line && *other == code),
        "{text}{code}: {found:?}"
    );
}

fn has_not(text: &str, code: &str) {
    let found = codes(text);
    assert!(found.iter().all(|(_, other)| *other != code), "{text}{code}: {found:?}");
}

#[test]
fn what_costs_space_and_time() {
    let split = "FROM debian:12\nRUN apt-get update\nRUN apt-get install -y a=1\n";
    has(split, 3, "FLD0206");
    has_not("FROM debian:12\nRUN apt-get update && apt-get install -y a=1\n", "FLD0206");
    let early = "FROM python:3.12\nCOPY . .\nRUN pip install -r requirements.txt\n";
    has(early, 2, "FLD0406");
    let late = "FROM node:20\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm run build\n";
    has_not(late, "FLD0406");
    has("FROM debian:12\nRUN a\nRUN rm -rf /x\n", 3, "FLD0312");
    has_not("FROM debian:12\nRUN a && rm -rf /x\n", "FLD0312");
    has("FROM debian:12\nCOPY a /app\nRUN chown -R x /app\n", 3, "FLD0408");
    has_not("FROM debian:12\nCOPY --chown=x a /app\n", "FLD0408");
    has("FROM debian:12\nRUN apt-get install -y vim=1\n", 2, "FLD0227");
    let stages = "FROM debian:12 AS b\nRUN apt-get install -y gcc=1 git=1\nFROM scratch\nCOPY --from=b /a /a\n";
    has_not(stages, "FLD0227");
    has_not(stages, "FLD0228");
    has("FROM debian:12\nRUN apt-get install -y build-essential\n", 2, "FLD0228");
    has_not("FROM alpine:3\nRUN apk add --virtual .d gcc && make && apk del .d\n", "FLD0228");
    has("FROM golang:1.22\nRUN go build\n", 1, "FLD0506");
    has("FROM node:20\nRUN npm run build\n", 2, "FLD0506");
    has_not("FROM golang:1.22 AS b\nRUN go build\nFROM scratch\nCOPY --from=b /a /a\n", "FLD0506");
    has("FROM debian:12 AS unused\nFROM debian:12\n", 1, "FLD0504");
    has_not("FROM debian:12 AS a\nFROM debian:12\nRUN --mount=from=a,target=/x y\n", "FLD0504");
}

#[test]
fn what_gives_secrets_away() {
    has("FROM a:1\nENV API_KEY=secret123\n", 2, "FLD0701");
    has("FROM a:1\nARG NPM_TOKEN\n", 2, "FLD0702");
    has_not("FROM a:1\nENV PASSWORD_FILE=/run/x PASSWORD=\n", "FLD0701");
    has("FROM a:1\nRUN git clone https://bob:hunter2@example.com/x\n", 2, "FLD0703");
    has_not("FROM a:1\nRUN git clone https://bob:$PASS@example.com/x\n", "FLD0703");
    has(&format!("FROM a:1\nENV X=ghp_{}\n", "a1".repeat(18)), 2, "FLD0703");
    has("FROM a:1\nRUN echo '-----BEGIN RSA PRIVATE KEY-----' > k\n", 2, "FLD0703");
    has("FROM a:1\nCOPY .env /app/\n", 2, "FLD0407");
    has_not("FROM a:1\nCOPY --from=0 .env /app/\n", "FLD0407");
    // A finding never holds the secret.
    let found = linted("FROM a:1\nENV DB_PASSWORD=hunter2\nRUN x https://a:hunter2@b\n", "", None);
    let told = serde_json::to_string(&found.findings).unwrap();
    assert!(found.findings.len() > 3 && !told.contains("hunter2"), "{told}");
}

#[test]
fn what_anybody_on_the_way_could_replace() {
    has("FROM a:1\nRUN curl -fsSL https://x | sh\n", 2, "FLD0310");
    has("FROM a:1\nRUN curl https://x | tee y | bash -s -- z\n", 2, "FLD0310");
    has("FROM a:1\nRUN bash -c \"$(curl https://x)\"\n", 2, "FLD0310");
    has_not("FROM a:1\nRUN curl https://x | tar x\n", "FLD0310");
    has("FROM a:1\nRUN curl -k https://x -o y\n", 2, "FLD0313");
    has("FROM a:1\nADD https://x/y /z\n", 2, "FLD0405");
    has_not("FROM a:1\nADD --checksum=sha256:aa https://x/y /z\n", "FLD0405");
    has("FROM a:1\nRUN chmod -R 777 /x\n", 2, "FLD0311");
    has_not("FROM a:1\nRUN chmod 1777 /tmp && chmod 755 /x && chmod u+w y\n", "FLD0311");
    has("FROM a:1\nRUN --security=insecure x\n", 2, "FLD0314");
    has("FROM a:1\nEXPOSE 22\n", 2, "FLD0614");
}

#[test]
fn what_is_not_declared() {
    has("FROM debian:$TAG\n", 1, "FLD0106");
    has_not("ARG TAG=1\nFROM debian:$TAG\n", "FLD0106");
    has("ARG V=1\nFROM debian:12\nLABEL version=$V\n", 3, "FLD0612");
    has_not("ARG V=1\nFROM debian:12\nARG V\nLABEL version=$V\n", "FLD0612");
    has("FROM debian:12\nENV A=$TARGETARCH\n", 2, "FLD0612");
    // What the base image sets is not known.
    has_not("FROM golang:1\nWORKDIR $GOPATH/x\n", "FLD0612");
    has("FROM scratch\nWORKDIR $ANY\n", 2, "FLD0612");
    has("FROM a:1 AS x\nCOPY --from=y a b\nFROM a:1 AS y\n", 2, "FLD0507");
}

#[test]
fn users_health_and_shells() {
    let all = |text: &str| -> Vec<&str> {
        linted(text, "", None).findings.iter().map(|f| f.code).collect()
    };
    assert!(
        all("FROM debian:12\n").contains(&"FLD0602")
            && all("FROM debian:12\n").contains(&"FLD0603")
    );
    assert!(!all("FROM debian:12 AS a\nUSER 1\nHEALTHCHECK NONE\nFROM a\n").contains(&"FLD0602"));
    assert!(!all("FROM gcr.io/distroless/static:nonroot\n").contains(&"FLD0602"));
    let asked = linted("FROM debian:12\n", "severity: {FLD0613: warning}", None).findings;
    assert!(asked.iter().any(|f| f.code == "FLD0613" && f.severity == Severity::Warning));
    let none = linted("FROM scratch\n", "severity: {FLD0613: warning}", None).findings;
    assert!(none.iter().all(|f| f.code != "FLD0613"));
}

#[test]
fn registries_and_labels_are_those_of_the_configuration() {
    let config = "trusted_registries: ['*.example.com']\n\
                  labels: {required: {version: semver, url: url, mail: email, l: spdx, c: hash, t: rfc3339, m: text}, strict: true}";
    let text = "FROM debian:12 AS a\nFROM registry.example.com/x:1\nCOPY --from=a / /\n\
                LABEL version=1 url=x mail=y l=Foo c=zz t=now other=z\n";
    let found = linted(text, config, None).findings;
    let codes: Vec<(usize, &str)> = found.iter().map(|f| (f.place.line, f.code)).collect();
    for want in [
        (1, "FLD0104"),
        (4, "FLD0809"),
        (4, "FLD0805"),
        (4, "FLD0810"),
        (4, "FLD0807"),
        (4, "FLD0808"),
        (4, "FLD0806"),
        (4, "FLD0803"),
        (2, "FLD0802"),
    ] {
        assert!(codes.contains(&want), "{want:?}: {codes:?}");
    }
    assert!(!codes.contains(&(2, "FLD0104")));
    let good = "FROM registry.example.com/x:1\n\
                LABEL version=1.2.3 url=https://a.b mail=a@b.c l=MIT c=0123abc t=2026-01-01T00:00:00Z m=x\n";
    assert!(linted(good, config, None).findings.iter().all(|f| !f.code.starts_with("FLD08")));
}

#[test]
fn the_context_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Dockerfile");
    std::fs::create_dir(folder.path().join("node_modules")).unwrap();
    let text = "FROM a:1\nCOPY . .\n";
    let find = || {
        let context = Context::read(folder.path(), &file).unwrap();
        let all = linted(text, "", Some(&context)).findings.into_iter();
        all.filter(|f| f.code.starts_with("FLD09")).map(|f| (f.code, f.message)).collect::<Vec<_>>()
    };
    assert_eq!(find()[0].0, "FLD0901");
    std::fs::write(folder.path().join(".dockerignore"), ".git\n").unwrap();
    let message = ".dockerignore lets in `.env`, `node_modules`".to_owned();
    assert_eq!(find(), [("FLD0902", message)]);
    std::fs::write(folder.path().join(".dockerignore"), "*\n!src\n").unwrap();
    assert_eq!(find(), []);
}

#[test]
fn ignored_findings_have_an_owner_and_a_day() {
    let text = "FROM debian\n";
    let entry = |day: &str| {
        format!("ignore: [{{rule: DL3006, file: 'Docker*', owner: me, reason: r, expires: {day}}}]")
    };
    let counts = |linted: &Linted| linted.findings.iter().filter(|f| f.code == "FLD0101").count();
    let until = linted(text, &entry("2026-06-01"), None);
    assert_eq!((counts(&until), until.ignored.len(), until.notes.len()), (0, 1, 0));
    let past = linted(text, &entry("2026-05-31"), None);
    assert_eq!((counts(&past), past.ignored.len()), (1, 0));
    assert!(past.notes[0].contains("expired on 2026-05-31"), "{:?}", past.notes);
    let unused = linted("FROM debian:12\n", &entry("2026-06-01"), None);
    assert!(unused.notes[0].contains("matches no finding"));
}

#[test]
fn comments_ignore_by_either_name() {
    for comment in [
        "# hadolint ignore=DL3006",
        "# fairlead ignore=FLD0101",
        "# fairlead global ignore=DL3006 # why",
    ] {
        let found = linted(&format!("{comment}\nFROM debian\n"), "", None);
        assert!(found.findings.iter().all(|f| f.code != "FLD0101"), "{comment}");
        assert_eq!(found.ignored.len(), 1, "{comment}");
    }
    has("# fairlead ignore=FLD0101\nFROM debian:12\n", 1, "FLD0008");
    let asked =
        linted("# fairlead ignore=FLD0101\nFROM debian\n", "severity: {DL1001: error}", None);
    assert!(asked.findings.iter().any(|f| f.code == "FLD0006"));
}

#[test]
fn a_finding_keeps_its_fingerprint_when_lines_are_added() {
    let prints = |text: &str| -> Vec<String> {
        linted(text, "", None).findings.into_iter().map(|f| f.fingerprint).collect()
    };
    let text = "FROM debian\nRUN cd /x\nRUN cd /x\n";
    let mut all = prints(text);
    assert_eq!(all, prints(&format!("# a comment\n\n{text}")));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), prints(text).len(), "each has its own");
}

#[test]
fn codes_are_in_order_and_of_one_rule() {
    let codes: Vec<_> = RULES.iter().map(|rule| rule.code).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted);
    assert!(codes.iter().all(|code| code.len() == 7 && rule(code).is_some()));
}

/// The table of docs/lint.md.
fn table() -> String {
    let mut table = String::from(
        "| code | hadolint | weight | what | why | the way out | `--fix` |\n|---|---|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            rule.code,
            rule.alias.unwrap_or("–"),
            rule.severity.as_str(),
            rule.title.replace('|', "\\|"),
            rule.why,
            rule.fix,
            if rule.mends { "yes" } else { "–" }
        );
    }
    table
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever asks for it has the page written")]
fn the_page_has_every_rule() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lint.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- rules -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- end of rules -->").unwrap();
    if std::env::var_os("FAIRLEAD_WRITE_DOCS").is_some() {
        let page = format!("{before}<!-- rules -->\n{}<!-- end of rules -->{after}", table());
        std::fs::write(path, page).unwrap();
        return;
    }
    assert_eq!(found, table(), "FAIRLEAD_WRITE_DOCS=1 cargo test -p fairlead-step-lint writes it");
}
