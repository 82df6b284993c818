//! Bad input, case by case: each ends with the right exit code in a message that names the place and
//! the way out, and nothing is half done. The messages stand in `snapshots/`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fairlead_tests::{
    BareRepository, Fairlead, Finished, GitServer, Registry, RegistryLogin, free_port, stdout_of,
};
use serde_json::Value;

use crate::registry_write::{Entry, TAR, image_of, small_image, tar};
use crate::release::plain_key;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Inputs of a step: names and values.
type Inputs<'a> = &'a [(&'a str, &'a str)];

/// Pipelines that are wrong, by what is wrong with them.
const PIPELINES: [(&str, &str); 12] = [
    ("malformed YAML", "steps:\n  a: {uses: command, with: {program: [x}\n"),
    ("a tab", "steps:\n\ta: {uses: command}\n"),
    ("a key twice", "steps:\n  a: {uses: command, with: {program: x}, uses: command}\n"),
    ("an unknown key", "steps:\n  a: {uses: command, with: {program: x}, retries: 3}\n"),
    ("an unknown input", "steps:\n  a: {uses: command, with: {program: x, arg: [y]}}\n"),
    ("an unknown step", "steps:\n  a: {uses: comand, with: {program: x}}\n"),
    (
        "a cycle",
        "steps:\n\
         \x20 build: {uses: command, needs: [test], with: {program: x}}\n\
         \x20 lint: {uses: command, needs: [build], with: {program: x}}\n\
         \x20 test:\n    uses: command\n    with: {program: x, args: [\"{{ steps.lint.exit_code }}\"]}\n",
    ),
    ("wrong types", "steps:\n  a: {uses: command, timeout: soon, with: {program: [x], args: y}}\n"),
    (
        "a reference to nothing",
        "steps:\n\
         \x20 a: {uses: command, with: {program: \"{{ steps.b.stdout }}\"}}\n\
         \x20 c: {uses: command, with: {program: \"{{ steps.a.stdot }} {{ params.x }}\"}}\n",
    ),
    ("a need that is no step", "steps:\n  a: {uses: command, needs: [b], with: {program: x}}\n"),
    (
        "a tag where an image is wanted",
        "steps:\n  a: {uses: sbom, with: {image: \"registry.example.com/apps/shop:v1\"}}\n",
    ),
    ("a missing input", "steps:\n  a: {uses: promote, with: {tags: [v1]}}\n"),
];

/// `text` with all that differs between two runs of the test replaced.
fn normal(text: &str, replace: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in replace {
        text = text.replace(from, to);
    }
    // Digests are the same from run to run, and tell a reader nothing.
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("sha256:") {
        let (before, after) = rest.split_at(at + 7);
        let hex = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(before);
        out.push_str(if hex > 0 { "…" } else { "" });
        rest = &after[hex..];
    }
    out + rest
}

/// Checks that nothing was begun here.
fn assert_no_runs(fairlead: &Fairlead) {
    assert_eq!(fairlead.run(["runs", "--json"]).code(0).stdout.trim(), "[]");
}

#[test]
fn a_wrong_pipeline_is_told_with_its_places_and_never_begun() {
    let fairlead = Fairlead::new();
    let mut page = String::new();
    for (what, steps) in PIPELINES {
        let text = format!("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\n{steps}");
        fairlead.write("x.yaml", &text);
        let lint = fairlead.run(["lint", "x.yaml"]).code(2);
        assert!(lint.stdout.contains("x.yaml:"), "{what} has no place: {}", lint.stdout);
        let run = fairlead.run(["run", "x.yaml"]).code(2);
        assert_eq!(run.stderr.trim(), lint.stdout.trim(), "{what}: run tells what lint tells");
        writeln!(page, "# {what}\n\n{}\n", lint.stdout.trim()).unwrap();
    }
    assert_no_runs(&fairlead);
    insta::assert_snapshot!("pipelines", page);
}

#[test]
fn what_is_asked_for_must_be_there_and_fit() {
    let fairlead = Fairlead::new();
    fairlead.write(
        "x.yaml",
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\nparams:\n  \
         version: {type: string, pattern: '^v\\d+$'}\n  count: {type: integer, default: 1}\n\
         steps:\n  a:\n    uses: command\n    with:\n      program: echo\n      \
         args: [\"{{ params.version }}\", \"{{ params.count | string }}\"]\n      \
         secret_env: {TOKEN: \"{{ secrets.deploy_token }}\", KEY: \"{{ secrets.cosign }}\"}\n",
    );
    let cases: [(&str, &[&str]); 9] = [
        ("a secret that is not set", &["run", "x.yaml", "--set", "version=v1"]),
        ("a parameter that is not given", &["run", "x.yaml"]),
        ("a parameter that does not fit", &["run", "x.yaml", "--set", "version=one"]),
        (
            "a parameter of the wrong type",
            &["run", "x.yaml", "--set=version=v1", "--set=count=few"],
        ),
        ("a parameter that is unknown", &["run", "x.yaml", "--set=version=v1", "--set=versoin=v2"]),
        ("a file that is not there", &["run", "nowhere.yaml"]),
        ("a run that is not there", &["resume", "01m80vgv5n635chd09"]),
        ("a kind that is not there", &["steps", "run", "comand"]),
        ("a secret on the command line", &["run", "x.yaml", "--secret", "deploy_token=hunter2"]),
    ];
    let mut page = String::new();
    for (what, args) in cases {
        let done = fairlead.run(args);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
        writeln!(page, "# {what}: {}\n{}\n", done.code.unwrap(), done.stderr.trim()).unwrap();
    }
    assert_no_runs(&fairlead);
    insta::assert_snapshot!("requests", page);
}

/// How a step that was run by itself failed.
struct Failed {
    reason: String,
    hint: String,
}

/// `fairlead steps run` with exit code 1, and what the run's record says of why.
fn fails(done: Finished, kind: &str) -> Failed {
    let done = done.code(1);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    let step = &run["steps"][kind];
    assert_eq!(step["status"], "failed", "{run:#}");
    let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
    Failed { reason: text("reason"), hint: text("hint") }
}

/// Adds a case to a page, and checks that it has both.
fn tell(page: &mut String, what: &str, failed: &Failed, replace: &[(&str, &str)]) {
    let Failed { reason, hint } = failed;
    assert!(!reason.is_empty() && !hint.is_empty(), "{what}: `{reason}`, hint `{hint}`");
    let text = format!("# {what}\n{reason}\nhint: {hint}\n");
    writeln!(page, "{}", normal(&text, replace)).unwrap();
}

fn step(fairlead: &Fairlead, kind: &str, with: &[(&str, &str)]) -> Finished {
    let mut args = vec!["steps".to_owned(), "run".into(), kind.into(), "--json".into()];
    args.extend(with.iter().map(|(name, value)| format!("--with={name}={value}")));
    fairlead.run(args)
}

#[test]
fn an_engine_a_registry_or_a_remote_that_is_away_is_named() {
    let dead = free_port().to_string();
    let host = format!("127.0.0.1:{dead}");
    let fairlead = Fairlead::new().env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    fairlead.write("Dockerfile", "FROM scratch\n");
    let image = format!("{host}/apps/shop@sha256:{}", "a".repeat(64));
    let repository = format!("{host}/apps/shop");
    let remote = format!("http://{host}/gitops.git");
    let edits = r#"[{"file": "values.yaml", "path": "replicas", "value": 2}]"#;
    let mut page = String::new();
    let replace = [(host.as_str(), "HOST"), (dead.as_str(), "PORT")];
    let cases: [(&str, &str, Inputs); 4] = [
        ("no engine", "build", &[("image", &repository)]),
        ("no registry", "sbom", &[("image", &image)]),
        (
            "no remote over HTTP",
            "gitops",
            &[("repository", &remote), ("edits", edits), ("message", "x")],
        ),
        (
            "no repository in a folder",
            "gitops",
            &[("repository", "file:///nowhere/gitops.git"), ("edits", edits), ("message", "x")],
        ),
    ];
    for (what, kind, with) in cases {
        tell(&mut page, what, &fails(step(&fairlead, kind, with), kind), &replace);
    }
    insta::assert_snapshot!("away", page);
}

/// Logs `fairlead` in at `host`, as `docker login` does.
fn log_in(fairlead: &Fairlead, host: &str, password: &str) {
    let folder = fairlead.home().join(".docker");
    std::fs::create_dir_all(&folder).unwrap();
    let user = RegistryLogin::CI.user;
    let mut base64 = Command::new("python3");
    base64
        .args(["-c", "import base64, sys; print(base64.b64encode(sys.argv[1].encode()).decode())"]);
    let auth = stdout_of(base64.arg(format!("{user}:{password}")));
    let config = serde_json::json!({"auths": {host: {"auth": auth.trim()}}});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn a_login_is_found_in_the_file_that_is_named() {
    let registry = Registry::private(RegistryLogin::CI);
    let host = registry.host();
    let fairlead = Fairlead::new();
    let image = format!("{host}/apps/shop:v1");
    let refused = fairlead.run(["trace", &image]).code(1);
    assert!(refused.stderr.contains("docker login"), "{}", refused.stderr);
    log_in(&fairlead, &host, RegistryLogin::CI.password);
    let config = fairlead.home().join(".docker/config.json");
    let named = fairlead.write("auth.json", &std::fs::read_to_string(&config).unwrap());
    std::fs::remove_file(config).unwrap();
    let fairlead = fairlead.env("REGISTRY_AUTH_FILE", named.to_str().unwrap());
    // It lets us in, and there is nothing.
    let empty = fairlead.run(["trace", &image]).code(1);
    assert!(empty.stderr.contains("was it pushed"), "{}", empty.stderr);
}

#[test]
fn a_refused_login_names_who_refused_and_the_right_one_is_let_in() {
    let registry = Registry::private(RegistryLogin::CI);
    let host = registry.host();
    let fairlead = Fairlead::new();
    let image = format!("{host}/apps/shop@sha256:{}", "a".repeat(64));
    let with = [("image", image.as_str())];
    let mut page = String::new();
    let replace = [(host.as_str(), "HOST")];
    tell(&mut page, "nobody", &fails(step(&fairlead, "sbom", &with), "sbom"), &replace);
    log_in(&fairlead, &host, "wrong");
    tell(&mut page, "a wrong password", &fails(step(&fairlead, "sbom", &with), "sbom"), &replace);
    log_in(&fairlead, &host, RegistryLogin::CI.password);
    tell(&mut page, "let in", &fails(step(&fairlead, "sbom", &with), "sbom"), &replace);

    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("values.yaml"), "replicas: 1\n").unwrap();
    let remote = BareRepository::of(tree.path());
    let server = GitServer::start(&remote, Some(("ci", "harbour-pilot")));
    let url = server.url();
    let edits = r#"[{"file": "values.yaml", "path": "replicas", "value": 2}]"#;
    let with = [("repository", url.as_str()), ("edits", edits), ("message", "More")];
    let server_root = url.trim_end_matches("/gitops.git");
    let replace = [(url.as_str(), "URL"), (server_root, "SERVER")];
    tell(&mut page, "git, nobody", &fails(step(&fairlead, "gitops", &with), "gitops"), &replace);
    let password = ("password", "{{ secrets.git }}");
    let login = [with[0], with[1], with[2], ("username", "ci"), password];
    let fairlead = fairlead.env("FAIRLEAD_SECRET_GIT", "wrong");
    let refused = fails(step(&fairlead, "gitops", &login), "gitops");
    tell(&mut page, "git, a wrong password", &refused, &replace);
    assert_eq!(remote.messages("main").len(), 1, "nothing is pushed");
    let fairlead = fairlead.env("FAIRLEAD_SECRET_GIT", "harbour-pilot");
    let _ = step(&fairlead, "gitops", &login).code(0);
    assert_eq!(remote.file("main", "values.yaml"), "replicas: 2\n");
    insta::assert_snapshot!("logins", page);
}

#[test]
fn bytes_that_do_not_match_their_digest_are_refused_and_not_passed_on() {
    let registry = Registry::start();
    let host = registry.host();
    let fairlead = Fairlead::new();
    let secrets = fairlead.home().join("keys");
    plain_key(&secrets);
    let layer = tar(&[Entry::file("etc/os-release", b"ID=debian\nVERSION_ID=12\n")]);
    let image = image_of(&registry, "apps/shop", "v1", &[(TAR, &layer)]);
    let blob = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap();
        registry
            .data()
            .join("docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    };
    let damage = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let manifest = crate::registry_view::manifest(&image);
    let stored = blob(manifest["layers"][0]["digest"].as_str().unwrap());
    let mut page = String::new();
    let replace = [(host.as_str(), "HOST")];

    damage(&stored);
    let with = [("image", image.as_str())];
    tell(&mut page, "a layer, described", &fails(step(&fairlead, "sbom", &with), "sbom"), &replace);
    let elsewhere = Registry::start();
    let to = format!("{}/prod/shop", elsewhere.host());
    let with = [("image", image.as_str()), ("to", &to), ("tags", r#"["v1"]"#)];
    let failed = fails(step(&fairlead, "promote", &with), "promote");
    tell(&mut page, "a layer, promoted", &failed, &[replace[0], (&elsewhere.host(), "ELSEWHERE")]);
    assert!(!crate::registry_view::exists(&format!("{to}:v1")), "the tag moves last");
    damage(&stored);

    damage(&blob(image.split_once('@').unwrap().1));
    let with = [("image", image.as_str())];
    tell(&mut page, "a manifest", &fails(step(&fairlead, "sbom", &with), "sbom"), &replace);
    let key = secrets.join("cosign");
    let fairlead = fairlead.env("COSIGN_PRIVATE_KEY", &std::fs::read_to_string(key).unwrap());
    let with = [("image", image.as_str()), ("key", "{{ secrets.cosign }}")];
    let failed = fails(step(&fairlead, "sign", &with), "sign");
    tell(&mut page, "a manifest, signed", &failed, &replace);
    let none = crate::registry_view::Signatures { v2: 0, v3: 0 };
    assert_eq!(crate::registry_view::signatures(&image), none);
    insta::assert_snapshot!("digests", page);
}

/// `bytes`, packed as one member of a gzip file. Members behind one another are one file.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = packer.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        packer.wait_with_output().unwrap().stdout
    })
}

#[test]
fn a_hostile_layer_is_named_and_harms_nobody() {
    let registry = Registry::start();
    let host = registry.host();
    let fairlead = Fairlead::new();
    let escape = [Entry::file("app/../../../etc/cron.d/x", b"x")];
    let absolute = [Entry::file("/etc/passwd", b"x")];
    let hard_link = [Entry { name: "a", kind: b'1', link: "../../etc/passwd", content: b"" }];
    let layers = [
        ("a name with `..`", tar(&escape)),
        ("an absolute name", tar(&absolute)),
        ("a hard link with `..`", tar(&hard_link)),
        ("no archive", b"this is no tar archive, whatever its media type says".repeat(40)),
        ("a cut archive", tar(&[Entry::file("a", &[1; 4000])])[..2000].to_vec()),
    ];
    let mut page = String::new();
    let replace = [(host.as_str(), "HOST")];
    for (what, layer) in &layers {
        let image = image_of(&registry, "apps/hostile", "v1", &[(TAR, layer)]);
        let failed = fails(step(&fairlead, "sbom", &[("image", &image)]), "sbom");
        tell(&mut page, what, &failed, &replace);
    }

    // 32 MiB of headers, 32 times: more than two million entries in less than a gibibyte.
    let headers = tar(&[Entry::file("x", b"")])[..512].repeat(65_536);
    let many = gzip(&headers).repeat(32);
    // A file of 8 GiB less a byte, of zeros, a thousand times smaller on its way here.
    let mut huge = tar(&[Entry::file("x", b"")])[..512].to_vec();
    huge[124..136].copy_from_slice(b"77777777777\0");
    huge[148..156].copy_from_slice(b"        ");
    let sum: u32 = huge.iter().map(|byte| u32::from(*byte)).sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bomb = gzip(&huge);
    bomb.extend(gzip(&vec![0; 64 << 20]).repeat(20));
    for (what, layer) in [("two million entries", many), ("a bomb", bomb)] {
        assert!(layer.len() < 16 << 20, "{what}: {} bytes", layer.len());
        let image = image_of(&registry, "apps/hostile", "v1", &[(GZIP, &layer)]);
        let mut failed = fails(step(&fairlead, "sbom", &[("image", &image)]), "sbom");
        // How far the reader was when it had enough depends on how the bytes came.
        if let Some((before, after)) = failed.reason.split_once(": a ratio above ") {
            let (place, _) = before.rsplit_once(" bytes come out of ").unwrap();
            let place = place.trim_end_matches(|c: char| c.is_ascii_digit());
            failed.reason = format!("{place}N bytes come out of N: a ratio above {after}");
        }
        tell(&mut page, what, &failed, &replace);
    }
    insta::assert_snapshot!("layers", page);
}

#[test]
fn device_files_and_links_out_of_the_image_are_looked_past() {
    let registry = Registry::start();
    let fairlead = Fairlead::new();
    let status = b"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\n\
        Version: 1:1.2.13.dfsg-1\nMaintainer: x\nDescription: x\n\n";
    let odd = |name, kind, link| Entry { name, kind, link, content: b"" };
    let layer = tar(&[
        odd("dev/sda", b'4', ""),
        odd("dev/null", b'3', ""),
        odd("dev/pipe", b'6', ""),
        odd("etc/os-release", b'2', "/proc/self/environ"),
        odd("usr/lib/os-release", b'2', "../../../../../../../etc/os-release"),
        odd("var/lib/dpkg/status.d", b'2', "/../../../../etc"),
        Entry::file("var/lib/dpkg/status", status),
    ]);
    let image = image_of(&registry, "apps/odd", "v1", &[(TAR, &layer)]);
    let done = step(&fairlead, "sbom", &[("image", &image)]).code(0);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(run["steps"]["sbom"]["outputs"]["packages"], 1);
    let _ = small_image(&registry, "apps/fine", "v1", "the registry is as it was");
}
