//! A release of a small image, as several tests run it: built, described, scanned, signed, promoted
//! and committed, on a real engine, a real registry and a real git remote.

use std::path::Path;
use std::process::Command;

use fairlead_tests::{BareRepository, Fairlead, Registry, stdout_of};
use serde_json::{Value, json};

use crate::registry_view::{ONE_OF_EACH, Signatures, crane, signatures, tags};

/// The pipeline: the main job, with nothing left out and little in it.
pub(crate) const PIPELINE: &str = r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: release
params:
  registry: {type: string}
  app: {type: string}
  gitops: {type: string}
  version: {type: string, pattern: '^v\d+\.\d+\.\d+$'}
steps:
  build:
    uses: build
    with:
      image: "{{ params.registry }}/apps/{{ params.app }}"
      network: none
  sbom:
    uses: sbom
    with: {image: "{{ steps.build.image }}", attach: referrer}
  scan:
    uses: scan
    with:
      sbom: "{{ steps.sbom.document }}"
      fail_on: {severity: critical, fixable: true}
  sign:
    uses: sign
    needs: [scan]
    with: {image: "{{ steps.build.image }}", key: "{{ secrets.cosign }}"}
  promote:
    uses: promote
    needs: [sign]
    with:
      image: "{{ steps.sign.image }}"
      to: "{{ params.registry }}/prod/{{ params.app }}"
      tags: ["{{ params.version }}"]
      channels: [stable]
  deploy:
    uses: gitops
    with:
      repository: "{{ params.gitops }}"
      edits:
        - file: environments/prod/values.yaml
          path: image
          image: "{{ steps.promote.image }}"
          tag: "{{ params.version }}"
      message: "Promote {{ params.app }} to prod: {{ params.version }}"
"#;

/// A values file as Helm charts have it, with what an editor of YAML loses easily.
pub(crate) const VALUES: &str = "\
# What runs in production.
replicas: 3

image:
  repository: \"registry.example.com/prod/tiny\"
  tag: v0.0.0   # set by promotion

  # The digest is what runs.
  digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'
  pullPolicy:   IfNotPresent
";

/// Advisories about packages of the image, in the layout of the OSV dumps: ecosystem and record.
/// They are made up. Each of the image's ecosystems has one, since a gate does not pass what no
/// advisory can be about. Only the Python package is affected in the version that is installed.
fn advisories() -> [(&'static str, Value); 3] {
    let record = |id: &str, ecosystem: &str, name: &str, fixed: &str| {
        json!({
            "schema_version": "1.6.0",
            "id": id,
            "modified": "2026-11-01T00:00:00Z",
            "published": "2026-11-01T00:00:00Z",
            "summary": "A package that listens too well",
            "details": "It does.",
            "severity": [
                {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"},
            ],
            "affected": [{
                "package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{
                    "type": "ECOSYSTEM",
                    "events": [{"introduced": "0"}, {"fixed": fixed}],
                }],
            }],
        })
    };
    [
        ("PyPI", record("PYSEC-2026-9001", "PyPI", "eager-listener", "1.3.0")),
        ("Debian", record("DEBIAN-CVE-2026-9002", "Debian:12", "zlib", "1:1.2.13.dfsg-1")),
        ("npm", record("GHSA-2026-9003", "npm", "left-lean", "1.3.0")),
    ]
}

/// Makes a signing key in `folder`: `cosign` (PKCS#8, not encrypted) and `cosign.pub`.
pub(crate) fn plain_key(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let private = folder.join("cosign");
    stdout_of(
        Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&private),
    );
    stdout_of(
        Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(folder.join("cosign.pub")),
    );
}

/// Writes the sources of an image with a Debian, a Python and a Node package, and no program.
pub(crate) fn write_sources(fairlead: &Fairlead) {
    fairlead.write("Dockerfile", "FROM scratch\nCOPY rootfs /\n");
    fairlead.write(".dockerignore", "*\n!rootfs\n");
    fairlead.write(
        "rootfs/etc/os-release",
        "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n",
    );
    fairlead.write(
        "rootfs/var/lib/dpkg/status",
        "Package: zlib1g\nStatus: install ok installed\nPriority: required\nSection: libs\n\
         Maintainer: Nobody <nobody@example.com>\nArchitecture: amd64\nSource: zlib\n\
         Version: 1:1.2.13.dfsg-1\nDescription: compression library\n\n",
    );
    fairlead.write(
        "rootfs/usr/lib/python3/dist-packages/eager_listener-1.2.0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: eager-listener\nVersion: 1.2.0\nLicense: MIT\n\n",
    );
    fairlead.write(
        "rootfs/app/node_modules/left-lean/package.json",
        "{\"name\": \"left-lean\", \"version\": \"1.3.0\", \"license\": \"MIT\"}\n",
    );
}

/// Makes the advisory database of `fairlead` from a dump of each ecosystem.
pub(crate) fn load_advisories(fairlead: &Fairlead) {
    for (ecosystem, record) in advisories() {
        let id = record["id"].as_str().unwrap();
        let file = fairlead.write(&format!("dumps/{ecosystem}/{id}.json"), &record.to_string());
        let archive = file.with_file_name("all.zip");
        let mut zip = Command::new("python3");
        stdout_of(zip.args(["-m", "zipfile", "-c"]).arg(&archive).arg(&file));
        std::fs::remove_file(file).unwrap();
    }
    let _ = fairlead.run(["db", "update", "--from", "dumps"]).code(0);
}

/// Everything that releases share: a project, a registry, a key, advisories.
pub(crate) struct Yard {
    pub(crate) fairlead: Fairlead,
    pub(crate) registry: Registry,
}

/// One release: where it goes.
pub(crate) struct Release {
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) remote: BareRepository,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let fairlead = Fairlead::new().with_engine();
        let secrets = fairlead.home().join("secrets");
        plain_key(&secrets);
        let fairlead = fairlead.env("FAIRLEAD_SECRETS_DIR", secrets.to_str().unwrap());
        fairlead.write("release.yaml", PIPELINE);
        write_sources(&fairlead);
        load_advisories(&fairlead);
        Self { fairlead, registry: Registry::start() }
    }

    /// The file with the public key.
    pub(crate) fn public_key(&self) -> std::path::PathBuf {
        self.fairlead.home().join("secrets/cosign.pub")
    }

    /// The arguments that run the pipeline for `release`.
    pub(crate) fn args(&self, release: &Release) -> Vec<String> {
        let mut args = vec!["run".to_owned(), "release.yaml".to_owned(), "--json".to_owned()];
        let set = [
            ("registry", self.registry.host()),
            ("app", release.app.clone()),
            ("gitops", release.remote.file_url()),
            ("version", release.version.clone()),
        ];
        for (name, value) in set {
            args.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        args
    }

    /// The repository that `release` is promoted to.
    pub(crate) fn production(&self, release: &Release) -> String {
        format!("{}/prod/{}", self.registry.host(), release.app)
    }

    /// Checks that `release` is done, wholly and once: one signature of each format where it was
    /// built and where it was promoted to, its tags, one commit. Answers the image in production.
    pub(crate) fn assert_done_once(&self, release: &Release) -> String {
        let production = self.production(release);
        assert_eq!(tags(&production), ["stable", &release.version], "{production}");
        let digest = crane(&["digest", &format!("{production}:{}", release.version)]);
        assert_eq!(crane(&["digest", &format!("{production}:stable")]), digest);
        let built = format!("{}/apps/{}@{digest}", self.registry.host(), release.app);
        let promoted = format!("{production}@{digest}");
        let both: Vec<Signatures> = [&built, &promoted].map(|image| signatures(image)).into();
        assert_eq!(both, [ONE_OF_EACH, ONE_OF_EACH], "signatures of {built} and {promoted}");

        let messages = release.remote.messages("main");
        assert_eq!(messages.len(), 2, "{messages:#?}");
        let message = &messages[0];
        let trailers = [format!("Image-Digest: {digest}"), "Fairlead-Run: ".to_owned()];
        assert!(trailers.iter().all(|trailer| message.contains(trailer)), "{message}");
        let values = release.remote.file("main", "environments/prod/values.yaml");
        let wanted = VALUES
            .replace("registry.example.com/prod/tiny", &production)
            .replace("v0.0.0", &release.version)
            .replace(&format!("sha256:{}", "0".repeat(64)), &digest);
        assert_eq!(values, wanted);
        promoted
    }
}

impl Release {
    pub(crate) fn new(app: &str, version: &str) -> Self {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("environments/prod");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("values.yaml"), VALUES).unwrap();
        let remote = BareRepository::of(tree.path());
        Self { app: app.to_owned(), version: version.to_owned(), remote }
    }
}
