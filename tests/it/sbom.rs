//! The bill of materials of a real image: every package that syft finds, documents that the makers'
//! validators accept, and the same bytes each time.

use std::collections::BTreeSet;
use std::process::Command;

use fairlead_tests::{Fairlead, Registry, repository_root, stdout_of, syft};
use serde_json::Value;

use crate::main_job::assert_valid;

/// Builds and pushes the shop: Debian, with Python and Node.js and packages of both.
fn shop(fairlead: &Fairlead, registry: &Registry) -> String {
    let shop = repository_root().join("examples/shop");
    stdout_of(&mut Command::new(shop.join("fetch.sh")));
    let image = format!("image={}/apps/shop", registry.host());
    let workspace = shop.to_str().unwrap();
    let args = ["steps", "run", "build", "--workspace", workspace, "--with", &image];
    let built = fairlead.run([&args[..], &["--with", "network=none"]].concat()).code(0);
    let outputs: Value = serde_json::from_str(&built.stdout).unwrap();
    outputs["image"].as_str().unwrap().to_owned()
}

/// What makes two package URLs name one package: all but the qualifiers, in which tools differ.
fn package(purl: &str) -> String {
    let name = purl.split(['?', '#']).next().unwrap_or_default();
    name.replace("%2B", "+").replace("%3A", ":").replace("%40", "@").replace("%7E", "~")
}

fn purls_of_spdx(document: &Value) -> BTreeSet<String> {
    let packages = document["packages"].as_array().unwrap().iter();
    let references =
        packages.flat_map(|p| p["externalRefs"].as_array().into_iter().flatten().cloned());
    references
        .filter(|reference| reference["referenceType"] == "purl")
        .map(|reference| package(reference["referenceLocator"].as_str().unwrap()))
        .collect()
}

fn purls_of_cyclonedx(document: &Value) -> BTreeSet<String> {
    let components = document["components"].as_array().unwrap().iter();
    components.filter_map(|c| c["purl"].as_str()).map(package).collect()
}

#[test]
fn it_has_all_that_syft_finds_is_valid_and_the_same_each_time() {
    let registry = Registry::start();
    let fairlead = Fairlead::new().with_engine();
    let image = shop(&fairlead, &registry);
    let describe = || -> Value {
        let with = format!("image={image}");
        let done = fairlead.run(["steps", "run", "sbom", "--json", "--with", &with]).code(0);
        serde_json::from_str(&done.stdout).unwrap()
    };
    let (first, second) = (describe(), describe());
    for name in ["spdx", "cyclonedx"] {
        let digest = |run: &Value| run["steps"]["sbom"]["outputs"][name]["digest"].clone();
        assert_eq!(digest(&first), digest(&second), "{name} is the same each time");
    }
    let id = first["run"].as_str().unwrap();
    let document = |name: &str| {
        fairlead.run(["show", id, "--artifact", &format!("sbom.{name}")]).code(0).stdout
    };
    let (spdx, cyclonedx) = (document("spdx"), document("cyclonedx"));
    let spdx_file = fairlead.write("shop.spdx.json", &spdx);
    assert_valid(&spdx_file, &fairlead.write("shop.cdx.json", &cyclonedx));

    let scanned = stdout_of(
        Command::new(syft())
            .args(["scan", &format!("registry:{image}"), "-o", "syft-json", "-q"])
            .env("SYFT_REGISTRY_INSECURE_USE_HTTP", "true")
            .env("SYFT_CHECK_FOR_APP_UPDATE", "false"),
    );
    let scanned: Value = serde_json::from_str(&scanned).unwrap();
    let theirs: BTreeSet<String> = scanned["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|artifact| artifact["purl"].as_str())
        .filter(|purl| !purl.is_empty())
        .map(package)
        .collect();
    assert!(theirs.len() > 100, "syft finds {}", theirs.len());

    let errors = repository_root().join("tests/data/syft-errors.json");
    let errors: Value = serde_json::from_str(&std::fs::read_to_string(errors).unwrap()).unwrap();
    let errors: Vec<regex::Regex> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            assert!(error["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{error}");
            regex::Regex::new(error["purl_pattern"].as_str().unwrap()).unwrap()
        })
        .collect();
    let sets = [
        ("SPDX", purls_of_spdx(&serde_json::from_str(&spdx).unwrap())),
        ("CycloneDX", purls_of_cyclonedx(&serde_json::from_str(&cyclonedx).unwrap())),
    ];
    for (name, ours) in sets {
        let missing: Vec<&String> = theirs
            .difference(&ours)
            .filter(|purl| !errors.iter().any(|error| error.is_match(purl)))
            .collect();
        assert!(missing.is_empty(), "{name} has {} and lacks {missing:#?}", ours.len());
        for kind in ["pkg:deb/debian/", "pkg:pypi/", "pkg:npm/"] {
            assert!(ours.iter().any(|purl| purl.starts_with(kind)), "{name} has {kind}");
        }
    }
}
