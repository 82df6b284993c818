//! The build step on a real engine, pushing to a real registry, read back by other tools.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{
    BoxFuture, Egress, ErrorClass, Outputs, Registries, RegistryAccess, RegistryAuth, Secret, Step,
    StepError, Verdict, erase,
};
use fairlead_step_build::Build;
use fairlead_tests::{
    BASE_IMAGE, Oracle, Registry, RegistryLogin, docker_host, eventually, oracle, repository_root,
};
use serde_json::{Value, json};

/// One login, or none, for every registry.
pub(crate) struct Logins(Option<RegistryLogin>);

impl Logins {
    pub(crate) fn none() -> Arc<dyn Registries> {
        Arc::new(Self(None))
    }

    pub(crate) fn of(login: RegistryLogin) -> Arc<dyn Registries> {
        Arc::new(Self(Some(login)))
    }
}

impl Registries for Logins {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        let auth = match self.0 {
            None => RegistryAuth::Anonymous,
            Some(login) => RegistryAuth::Basic {
                user: login.user.to_owned(),
                password: Secret::new(login.password.to_owned()),
            },
        };
        let access =
            RegistryAccess { auth, plain_http: true, extra_ca: Vec::new(), egress: Egress::open() };
        Box::pin(std::future::ready(Ok(access)))
    }
}

fn step() -> Arc<dyn Step> {
    erase(Build::new(docker_host().parse().unwrap()))
}

fn host_with(dockerfile: &str) -> TestHost {
    let host = TestHost::new();
    std::fs::write(host.workspace().join("Dockerfile"), dockerfile).unwrap();
    host
}

fn outputs(verdict: Verdict<Outputs>) -> Outputs {
    match verdict {
        Verdict::Passed { outputs } => outputs,
        Verdict::Rejected { reason, .. } | Verdict::Skipped { reason } => panic!("{reason}"),
    }
}

async fn fails(host: &TestHost, with: Value) -> StepError {
    host.run(&*step(), with).await.expect_err("a failing build")
}

fn crane(args: &[&str]) -> String {
    let output = Command::new(oracle(Oracle::Crane)).arg("--insecure").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_shop_is_built_pushed_and_found_again_by_a_second_attempt() {
    let shop = repository_root().join("examples/shop");
    assert!(Command::new(shop.join("fetch.sh")).status().unwrap().success());
    let host = TestHost::new();
    let copied = Command::new("cp").arg("-a").arg(shop.join(".")).arg(host.workspace()).status();
    assert!(copied.unwrap().success());
    let registry = Registry::start();
    let repository = format!("{}/apps/shop", registry.host());
    let with = json!({
        "image": repository,
        "args": {"VERSION": "v1.0.0"},
        "labels": {"org.opencontainers.image.title": "shop"},
        "tags": ["main"],
        "network": "none",
    });
    let outputs = outputs(conformance(&host, &*step(), with).await.unwrap());
    let image = outputs["image"].as_str().unwrap();
    assert_eq!(
        format!("{repository}@{}", crane(&["digest", &format!("{repository}:main")])),
        image
    );
    assert_eq!(outputs["platforms"][0]["digest"].as_str(), image.split('@').nth(1));
    let config: Value = serde_json::from_str(&crane(&["config", image])).unwrap();
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "shop");
    let env = config["config"]["Env"].as_array().unwrap();
    assert!(env.contains(&json!("SHOP_VERSION=v1.0.0")), "{env:?}");
    assert!(host.log_text().contains("already has this image"), "{}", host.log_text());
}

#[tokio::test]
async fn the_engine_sees_what_the_rules_leave_with_modes_and_links() {
    let host = host_with(&format!(
        "FROM {BASE_IMAGE}\nCOPY . /sent\nWORKDIR /sent\n\
         RUN [ \"$(ls -A | tr '\\n' ' ')\" = '.dockerignore Dockerfile kept link run.sh ' ] \
         && [ \"$(readlink link)\" = kept/file ] && [ \"$(stat -c %a run.sh)\" = 755 ] \
         && [ \"$(stat -c %a kept/file)\" = 600 ] && [ \"$(ls kept)\" = file ]\n\
         RUN [ \"$(ls /sys/class/net)\" = lo ]\n"
    ));
    let root = host.workspace();
    for path in ["kept/file", "kept/file.log", "dropped/file", "run.sh"] {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), path).unwrap();
    }
    std::fs::write(root.join(".dockerignore"), "dropped\n**/*.log\n.scratch*\n").unwrap();
    for (path, mode) in [("run.sh", 0o755), ("kept/file", 0o600)] {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("kept/file", root.join("link")).unwrap();
    let with = json!({"image": "127.0.0.1:9/never/pushed", "push": false, "network": "none"});
    let outputs = outputs(host.run(&*step(), with).await.unwrap());
    assert_eq!(outputs, json!({"platforms": []}));
}

#[tokio::test]
async fn a_dockerfile_that_the_rules_leave_out_is_read_and_is_not_in_the_image() {
    for (name, rules) in
        [("Dockerfile", "df-*\nDockerfile\n.scratch*\n"), ("df-prod", "df-*\n.scratch*\n")]
    {
        let host = TestHost::new();
        let root = host.workspace();
        let dockerfile = format!(
            "FROM {BASE_IMAGE}\nCOPY . /sent\nCOPY kept /copied\n\
             RUN [ \"$(ls -A /sent | tr '\\n' ' ')\" = '.dockerignore kept ' ] && [ -f /copied ]\n"
        );
        std::fs::write(root.join(name), dockerfile).unwrap();
        std::fs::write(root.join("kept"), "kept").unwrap();
        std::fs::write(root.join(".dockerignore"), rules).unwrap();
        let with = json!({"image": "127.0.0.1:9/never/pushed", "dockerfile": name, "push": false});
        outputs(host.run(&*step(), with).await.unwrap());
    }
}

#[tokio::test]
async fn a_push_leaves_no_tag_in_the_engine() {
    let host = host_with("FROM scratch\nCOPY Dockerfile /\n");
    let registry = Registry::start();
    let repository = format!("{}/apps/untagged", registry.host());
    let with = json!({"image": repository, "tags": ["main"]});
    let outputs = outputs(conformance(&host, &*step(), with).await.unwrap());
    let size = outputs["platforms"][0]["size"].as_u64().unwrap();
    assert!(size > 0, "{outputs}");
    assert!(!images_of_the_engine().contains(&repository));

    // Builds of the same content at once are one image in the engine, and none takes it from another.
    let build = |n: u32| {
        let (host, repository) = (&host, &repository);
        let with = json!({"image": format!("{repository}{n}"), "labels": {"builds": "at once"}});
        async move { host.run(&*step(), with).await.unwrap() }
    };
    futures::future::join_all((0..6).map(build)).await;
    assert!(!images_of_the_engine().contains(&repository));
}

fn images_of_the_engine() -> String {
    let listed = Command::new("docker")
        .args(["--host", &docker_host(), "images", "--format", "{{.Repository}}:{{.Tag}}"])
        .output()
        .unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[tokio::test]
async fn several_platforms_are_one_index_and_a_version_stays_where_it_is() {
    let host = host_with("FROM scratch\nARG TARGETARCH\nCOPY hello /hello-$TARGETARCH\n");
    std::fs::write(host.workspace().join("hello"), "hello").unwrap();
    std::fs::write(host.workspace().join(".dockerignore"), ".scratch*\n").unwrap();
    let registry = Registry::start();
    let repository = format!("{}/apps/multi", registry.host());
    let with = json!({
        "image": repository,
        "platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"],
        "tags": ["v1.0.0", "main"],
    });
    let outputs = outputs(conformance(&host, &*step(), with.clone()).await.unwrap());
    let image = outputs["image"].as_str().unwrap();
    let index: Value = serde_json::from_str(&crane(&["manifest", image])).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let listed: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["platform"]["architecture"].clone(), m["digest"].clone()))
        .collect();
    let answered: Vec<_> = outputs["platforms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let name = p["platform"].as_str().unwrap().split('/').nth(1).unwrap();
            (json!(name), p["digest"].clone())
        })
        .collect();
    assert_eq!(listed, answered);
    assert_eq!(listed.len(), 3);

    std::fs::write(host.workspace().join("hello"), "another").unwrap();
    let error = fails(&host, with.clone()).await;
    assert!(error.to_string().contains("v1.0.0"), "{error}");
    let digest = |tag: &str| crane(&["digest", &format!("{repository}:{tag}")]);
    assert_eq!(digest("v1.0.0"), image.split('@').nth(1).unwrap());
    assert_eq!(digest("main"), digest("v1.0.0"));
}

#[tokio::test]
async fn a_secret_reaches_the_instruction_and_nothing_else() {
    const SECRET: &str = "correct-horse-battery-staple";
    let host = host_with(&format!(
        "FROM {BASE_IMAGE} AS made\n\
         RUN --mount=type=secret,id=npm,required sha256sum /run/secrets/npm | cut -c1-64 > /proof\n\
         FROM scratch\nCOPY --from=made /proof /\n"
    ));
    let registry = Registry::start();
    let repository = format!("{}/apps/secret", registry.host());
    let with = json!({"image": repository, "secrets": {"npm": SECRET}, "no_cache": true});
    let outputs = outputs(host.run(&*step(), with).await.unwrap());
    let image = outputs["image"].as_str().unwrap();

    let exported = Command::new(oracle(Oracle::Crane))
        .args(["--insecure", "export", image, "-"])
        .output()
        .unwrap();
    assert!(exported.status.success());
    let holds = |haystack: &[u8], needle: &str| {
        haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    let proof = fairlead_step::Digest::sha256(SECRET.as_bytes());
    assert!(holds(&exported.stdout, proof.hex()), "the instruction did not see the secret");
    assert!(!holds(&exported.stdout, SECRET), "the image has the secret");
    assert!(!crane(&["config", image]).contains(SECRET), "the history has the secret");
    assert!(!host.log_text().contains(SECRET), "the log has the secret");
    let kept = Command::new("grep").args(["-rlF", SECRET]).arg(registry.data()).output().unwrap();
    assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
}

#[tokio::test]
async fn a_failing_build_names_the_instruction_and_the_way_out() {
    let base = format!("FROM {BASE_IMAGE}\n");
    let cases = [
        (
            format!("{base}RUN echo so far; echo so wrong; exit 3\n"),
            json!({}),
            "`[2/2] RUN echo so far; echo so wrong; exit 3`: exit code: 3; its last lines: \
             so far | so wrong",
            "the step's log has all of its output",
        ),
        (
            format!("{base}RUNN true\n"),
            json!({}),
            "line 2: unknown instruction: RUNN",
            "correct the Dockerfile at the line it names",
        ),
        (format!("{base}COPY nothere /\n"), json!({}), "COPY nothere /", "`.dockerignore`"),
        (
            format!("{base}RUN --mount=type=secret,id=npm,required cat /run/secrets/npm\n"),
            json!({}),
            "secret npm",
            "`secrets:`",
        ),
        (base.clone(), json!({"target": "nowhere"}), "nowhere", "`target:`"),
        (base.clone(), json!({"context": "nowhere"}), "there is no folder at", "relative"),
        (base.clone(), json!({"dockerfile": "../Dockerfile"}), "leaves the workspace", "checkout"),
    ];
    for (dockerfile, extra, message, hint) in cases {
        let host = host_with(&dockerfile);
        let mut with = json!({"image": "127.0.0.1:9/never/pushed"});
        for (key, value) in extra.as_object().unwrap() {
            with[key] = value.clone();
        }
        let error = fails(&host, with).await;
        assert_eq!(error.class(), ErrorClass::Terminal, "{error}");
        assert!(error.to_string().contains(message), "{dockerfile}: {error}");
        assert!(error.way_out().unwrap_or_default().contains(hint), "{:?}", error.way_out());
    }
}

#[tokio::test]
async fn a_base_image_behind_a_dead_registry_is_tried_again() {
    let host = host_with("FROM 127.0.0.1:9/base/nothing:1\n");
    let error = fails(&host, json!({"image": "127.0.0.1:9/never/pushed"})).await;
    assert_eq!(error.class(), ErrorClass::Retryable, "{error}");
}

#[tokio::test]
async fn a_refused_login_is_told_and_the_right_one_pushes() {
    let registry = Registry::private(RegistryLogin::CI);
    let with = json!({"image": format!("{}/apps/private", registry.host())});
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    let host = host_with(dockerfile).with_registries(Logins::none());
    let error = fails(&host, with.clone()).await;
    assert_eq!(error.class(), ErrorClass::Terminal, "{error}");
    let hint = format!("docker login {}", registry.host());
    assert!(error.way_out().unwrap().contains(&hint), "{:?}", error.way_out());
    let host = host_with(dockerfile).with_registries(Logins::of(RegistryLogin::CI));
    outputs(host.run(&*step(), with).await.unwrap());
}

#[tokio::test]
async fn builds_at_once_get_each_their_own_context() {
    let build = |n: u32| async move {
        let host = host_with(&format!("FROM {BASE_IMAGE}\nRUN echo this is {n}; exit {n}\n"));
        let with = json!({"image": "127.0.0.1:9/never/pushed"});
        let error = fails(&host, with).await.to_string();
        assert!(error.contains(&format!("exit code: {n}; its last lines: this is {n}")), "{error}");
    };
    futures::future::join_all((1..=6).map(build)).await;
}

#[tokio::test]
async fn cancel_ends_the_build_on_the_engine() {
    // An argument that nothing else on this machine runs with.
    let marker = format!("9876{}", std::process::id());
    let host = host_with(&format!("FROM {BASE_IMAGE}\nRUN echo begun; sleep {marker}\n"));
    let step = step();
    let (context, handle) = host.context(&*step, 1);
    let with = json!({"image": "127.0.0.1:9/never/pushed"});
    let running = step.run(with, &context);
    let stop = async {
        while !host.log_text().contains("begun") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        handle.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = running => ended,
        () = stop => unreachable!("it only stops the other"),
    };
    assert_eq!(ended.unwrap_err().class(), ErrorClass::Cancelled);
    eventually("the engine to end the instruction", Duration::from_secs(20), || !runs(&marker));
}

/// Whether a process `sleep <marker>` runs on this machine.
fn runs(marker: &str) -> bool {
    let wanted = format!("sleep\0{marker}\0").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| {
        let file: &Path = &process.path().join("cmdline");
        std::fs::read(file).is_ok_and(|line| line == wanted)
    })
}
