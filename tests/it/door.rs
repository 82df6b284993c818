//! Before a run begins: what is missing is told at once, a tag becomes a digest, and somebody has a
//! name.

use std::process::Command;

use fairlead_tests::{Fairlead, free_port, stdout_of};
use serde_json::Value;

fn pipeline(rest: &str) -> String {
    format!("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\n{rest}")
}

fn runs(fairlead: &Fairlead) -> Vec<Value> {
    serde_json::from_str(&fairlead.run(["runs", "--json"]).code(0).stdout).unwrap()
}

#[test]
fn all_that_is_missing_is_told_before_anything_is_done() {
    let fairlead = Fairlead::new()
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .env("FAIRLEAD_SECRET_KEY", "this is no key");
    let steps = "steps:
  build: {uses: build, with: {image: registry.example.com/apps/shop}}
  sbom: {uses: sbom, with: {image: \"{{ steps.build.image }}\"}}
  scan: {uses: scan, with: {sbom: \"{{ steps.sbom.document }}\"}}
  sign: {uses: sign, needs: [scan], with: {image: \"{{ steps.build.image }}\", key: \"{{ secrets.key }}\"}}
  verify: {uses: sign, needs: [scan], with: {image: \"{{ steps.build.image }}\", key: \"{{ secrets.nobody_set }}\"}}
  never: {uses: command, when: \"false\", with: {program: nothing-of-this-name}}
on_failure:
  tell: {uses: command, with: {program: another-thing-of-no-name}}
";
    fairlead.write("x.yaml", &pipeline(steps));
    let refused = fairlead.run(["run", "x.yaml"]).code(2).stderr;
    for want in [
        "no Docker engine answers at unix:///nowhere/docker.sock",
        "there is no Dockerfile at",
        "`scan`: ",
        "fairlead db update",
        "`sign`: the signing key is not PEM",
        "the secret `nobody_set` is not set",
        "FAIRLEAD_SECRET_NOBODY_SET",
        // The step may not run: it is told, and stops nothing.
        "warning: `tell`: the program `another-thing-of-no-name` is not on this machine",
    ] {
        assert!(refused.contains(want), "{want}: {refused}");
    }
    assert!(!refused.contains("the program `nothing-of-this-name`"), "{refused}");
    assert!(runs(&fairlead).is_empty(), "nothing was begun");
    let looked = fairlead.run(["doctor", "x.yaml"]).code(1).stdout;
    assert!(looked.contains("`sign`: the signing key is not PEM"), "{looked}");
}

#[test]
fn what_an_earlier_step_may_provide_stops_nothing() {
    let fairlead = Fairlead::new();
    let steps = "steps:
  prepare: {uses: command, with: {program: echo, args: [ready]}}
  use: {uses: command, needs: [prepare], with: {program: nothing-of-this-name}}
";
    fairlead.write("x.yaml", &pipeline(steps));
    let ran = fairlead.run(["run", "x.yaml"]).code(1).stderr;
    assert!(ran.contains("warning: `use`: the program `nothing-of-this-name`"), "{ran}");
    assert_eq!(runs(&fairlead).len(), 1);
}

#[test]
fn a_tag_that_cannot_be_resolved_starts_nothing() {
    let fairlead = Fairlead::new();
    let rest = "params: {image: {type: image}}
steps:
  a: {uses: command, with: {program: echo, args: [\"{{ params.image }}\"]}}
";
    fairlead.write("x.yaml", &pipeline(rest));
    let dead = format!("127.0.0.1:{}", free_port());
    let away = fairlead.run(["run", "x.yaml", "--set", &format!("image={dead}/apps/shop:v1")]);
    let away = away.code(1).stderr;
    assert!(away.contains("parameter `image`") && away.contains("cannot be reached"), "{away}");
    let bare = fairlead.run(["run", "x.yaml", "--set", &format!("image={dead}/apps/shop")]).code(2);
    assert!(bare.stderr.contains("neither a tag nor a digest"), "{}", bare.stderr);
    assert!(runs(&fairlead).is_empty(), "nothing was begun");

    let digest = format!("sha256:{}", "a".repeat(64));
    let both = format!("image={dead}/apps/shop:v1@{digest}");
    let ran = fairlead.run(["run", "x.yaml", "--json", "--set", &both]).code(0);
    assert!(ran.stderr.contains(&format!("{dead}/apps/shop@{digest}")), "{}", ran.stderr);
}

#[test]
fn who_asks_is_the_user_of_the_system_or_whoever_is_named() {
    let fairlead = Fairlead::new();
    fairlead.write("x.yaml", &pipeline("steps: {a: {uses: command, with: {program: \"true\"}}}\n"));
    let mut command = fairlead.command(["run", "x.yaml"]);
    let done = command.env_remove("USER").env_remove("LOGNAME").output().unwrap();
    assert!(done.status.success());
    let user = stdout_of(Command::new("id").arg("-un"));
    assert_eq!(runs(&fairlead)[0]["by"], user.trim());
    let _ = fairlead.run(["run", "x.yaml", "--as", "ann"]).code(0);
    assert_eq!(runs(&fairlead)[0]["by"], "ann");
    let _ = fairlead.run(["retry", "latest", "--from", "a", "--as", "bob"]).code(0);
    assert_eq!(runs(&fairlead)[0]["by"], "bob");
    let nobody = fairlead.run(["run", "x.yaml", "--as", ""]).code(2);
    assert!(nobody.stderr.contains("--as"), "{}", nobody.stderr);
}
