//! Fixes: byte for byte, only what is certain, and nothing left to do the second time.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use fairlead_step_lint::{Config, Finding, fixed, lint};
use proptest::prelude::*;

fn find(text: &str) -> Vec<Finding> {
    lint("Dockerfile", text, &Config::default(), None, "2026-01-01".parse().unwrap()).findings
}

fn mend(text: &str) -> String {
    fixed("Dockerfile", text, &Config::default(), None, "2026-01-01".parse().unwrap())
}

fn broken(text: &str) -> usize {
    find(text).iter().filter(|finding| finding.code == "FLD0001").count()
}

#[test]
fn a_first_try_becomes_what_it_should_have_been() {
    let first = include_str!("corpus/python-first-try.Dockerfile");
    assert_eq!(
        mend(first),
        "FROM python:3.11\n\
         WORKDIR /app\n\
         RUN apt-get update && \\\n    \
             apt-get install -y curl && \\\n    \
             apt-get install -y vim && \\\n    \
             apt-get install -y git \\\n    \
             && rm -rf /var/lib/apt/lists/*\n\
         COPY . .\n\
         RUN pip install --no-cache-dir -r requirements.txt\n\
         CMD [\"python\", \"app.py\"]\n"
    );
}

#[test]
fn each_fix_changes_what_it_is_about_and_nothing_else() {
    for (before, after) in [
        ("ADD a /b", "COPY a /b"),
        ("ADD a.tar.gz /b", "ADD a.tar.gz /b"),
        ("ADD *.txt /b", "ADD *.txt /b"),
        (
            "MAINTAINER A <a@example.com>",
            "LABEL org.opencontainers.image.authors=\"A <a@example.com>\"",
        ),
        ("RUN apk add curl=8", "RUN apk add --no-cache curl=8"),
        ("RUN apt install -y a=1", "RUN apt-get install -y a=1"),
        ("RUN yum install httpd-2", "RUN yum install -y httpd-2"),
        ("RUN zypper in a=1", "RUN zypper -n in a=1"),
        ("RUN useradd -u 123456 x", "RUN useradd -l -u 123456 x"),
        ("RUN echo x && \\\n\n  echo y", "RUN echo x && \\\n  echo y"),
        ("CMD python app.py", "CMD [\"python\", \"app.py\"]"),
        ("CMD python $APP", "CMD python $APP"),
        ("CMD a && b", "CMD a && b"),
        ("ENV A b", "ENV A=b"),
        ("ENV A b c", "ENV A=\"b c\""),
        ("ENV A b \"c\"", "ENV A b \"c\""),
        ("COPY a b /c", "COPY a b /c/"),
        ("COPY [\"a\", \"b\", \"/c\"]", "COPY [\"a\", \"b\", \"/c/\"]"),
        ("run x", "RUN x"),
        ("RUN apt-get update", "RUN apt-get update"),
        ("RUN cd /x\nRUN apt-get install -y a=1", "RUN cd /x\nRUN apt-get install -y a=1"),
        // Joined lines would be in another folder.
        (
            "RUN apt-get update && cd /x\nRUN apt-get install -y a=1",
            "RUN apt-get update && cd /x\nRUN apt-get install -y a=1",
        ),
    ] {
        let head = "FROM debian:12\n# a comment, with ä\n";
        assert_eq!(mend(&format!("{head}{before}\n")), format!("{head}{after}\n"));
    }
    let windows = "# escape=`\r\nFROM debian:12 as x\r\nRUN apk add a=1\r\n";
    assert_eq!(
        mend(windows),
        "# escape=`\r\nFROM debian:12 AS x\r\nRUN apk add --no-cache a=1\r\n"
    );
    let platform = "FROM --platform=$TARGETPLATFORM debian:12\n";
    assert_eq!(mend(platform), "FROM debian:12\n");
}

#[test]
fn fixing_twice_is_fixing_once() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut mended = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "Dockerfile") {
            continue;
        }
        let name = path.display();
        let text = std::fs::read_to_string(&path).unwrap();
        let once = mend(&text);
        assert_eq!(mend(&once), once, "{name}");
        assert!(broken(&once) <= broken(&text), "{name}");
        let left: Vec<_> = find(&once)
            .into_iter()
            .filter(|finding| finding.fix.as_ref().is_some_and(|fix| fix.certain))
            .collect();
        assert!(left.is_empty(), "{name}: {left:?}");
        mended += usize::from(once != text);
    }
    assert!(mended > 15, "{mended}");
}

/// Lines that meet the corners of the reader.
fn line() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        Just("FROM debian:12 AS a"),
        Just("RUN"),
        Just("apt-get install"),
        Just("&& \\"),
        Just("\\"),
        Just("# hadolint ignore=DL3008"),
        Just("<<EOF"),
        Just("EOF"),
        Just("[\"a\", \"b\"]"),
        Just("\""),
        Just("'"),
        Just("$("),
        Just(")"),
        Just("`"),
        Just("ENV A b"),
        Just("COPY --from=a x y"),
        Just("|"),
        Just("ONBUILD"),
        Just("ä${"),
        Just("# escape=`"),
        Just("case x in a) b;; esac"),
        Just("\r"),
        Just(""),
    ];
    proptest::collection::vec(words, 0..5).prop_map(|words| words.join(" "))
}

#[test]
fn a_heredoc_is_no_destination() {
    let text = "FROM debian:12\nCOPY a b <<ONE <<TWO\n1\nONE\n2\nTWO\n";
    assert_eq!(mend(text), text);
    assert!(!find(text).iter().any(|finding| finding.message.contains("does not end with `/`")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_is_written_is_looked_at(lines in proptest::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        for finding in find(&text) {
            prop_assert!(text.get(finding.place.start..finding.place.end).is_some(), "{finding:?}");
        }
        let once = mend(&text);
        prop_assert!(broken(&once) <= broken(&text));
        prop_assert_eq!(mend(&once), once);
    }

    #[test]
    fn bytes_of_any_kind_are_looked_at(text in "\\PC{0,200}") {
        find(&text);
    }
}
