//! Promotion on real registries: everything that hangs at an image comes along, version tags stay
//! where they are, channels move by compare-and-swap, and all of it may be done twice.

use fairlead_tests::{Fairlead, Finished, Registry};
use serde_json::{Value, json};

use crate::registry_view::{ONE_OF_EACH, crane, exists, manifest, signatures, tags};
use crate::registry_write::{put_manifest, small_image};
use crate::release::plain_key;

struct Pier {
    fairlead: Fairlead,
    from: Registry,
}

impl Pier {
    fn new() -> Self {
        let fairlead = Fairlead::new();
        let keys = fairlead.home().join("keys");
        plain_key(&keys);
        let key = std::fs::read_to_string(keys.join("cosign")).unwrap();
        Self { fairlead: fairlead.env("COSIGN_PRIVATE_KEY", &key), from: Registry::start() }
    }

    /// An index of two platforms, each and the whole of them signed.
    fn signed_index(&self) -> (String, [String; 2]) {
        let children = ["amd64", "arm64"].map(|architecture| {
            (architecture, small_image(&self.from, "apps/shop", architecture, architecture))
        });
        let entries: Vec<Value> = children
            .iter()
            .map(|(architecture, image)| {
                let size = crane(&["manifest", image]).len();
                json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": image.split_once('@').unwrap().1,
                    "size": size,
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        });
        let digest = put_manifest(&self.from, "apps/shop", "v1.0.0", &index);
        let image = format!("{}/apps/shop@{digest}", self.from.host());
        let children = children.map(|(_, image)| image);
        for image in [&image, &children[0]] {
            let with = format!("image={image}");
            let sign = ["steps", "run", "sign", "--with", &with, "--with"];
            let _ = self.fairlead.run([&sign[..], &["key={{ secrets.cosign }}"]].concat()).code(0);
        }
        (image, children)
    }

    fn promote(&self, image: &str, to: &str, more: &[(&str, &str)]) -> Finished {
        let mut args = vec!["steps".to_owned(), "run".into(), "promote".into(), "--json".into()];
        for (name, value) in [&[("image", image), ("to", to)], more].concat() {
            args.push(format!("--with={name}={value}"));
        }
        self.fairlead.run(args)
    }
}

fn outputs(done: Finished) -> Value {
    let run: Value = serde_json::from_str(&done.code(0).stdout).unwrap();
    run["steps"]["promote"]["outputs"].clone()
}

/// Why a promotion failed.
fn refusal(done: Finished) -> String {
    let run: Value = serde_json::from_str(&done.code(1).stdout).unwrap();
    run["steps"]["promote"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn an_index_comes_with_its_platforms_and_signatures_within_and_across_registries() {
    let pier = Pier::new();
    let (image, children) = pier.signed_index();
    let elsewhere = Registry::start();
    let mut closures = Vec::new();
    for registry in [&pier.from, &elsewhere] {
        let to = format!("{}/prod/shop", registry.host());
        let more = [("tags", r#"["v1.0.0"]"#), ("channels", r#"["stable"]"#)];
        let first = outputs(pier.promote(&image, &to, &more));
        let there = |image: &str| format!("{to}@{}", image.split_once('@').unwrap().1);
        assert_eq!(first["image"], there(&image).as_str());
        for image in [&image, &children[0], &children[1]] {
            assert_eq!(crane(&["manifest", &there(image)]), crane(&["manifest", image]));
        }
        for image in [&image, &children[0]] {
            assert_eq!(signatures(&there(image)), ONE_OF_EACH);
        }
        let child = manifest(&there(&children[1]));
        let layer = child["layers"][0]["digest"].as_str().unwrap();
        assert!(
            crane(&["blob", &format!("{to}@{layer}")]).contains("arm64"),
            "its bytes are there"
        );
        assert_eq!(tags(&to), ["stable", "v1.0.0"]);

        // Once more: nothing to do, and the same answer.
        let again = outputs(pier.promote(&image, &to, &more));
        assert_eq!(again["closure_digest"], first["closure_digest"]);
        assert_eq!(signatures(&there(&image)), ONE_OF_EACH);
        closures.push(first["closure_digest"].clone());

        // What was lost at the destination is put back: the digest alone is not the whole of it.
        let signature = format!("{}.sig", there(&image).replace("@sha256:", ":sha256-"));
        let digest = crane(&["digest", &signature]);
        crane(&["delete", &format!("{to}@{digest}")]);
        assert!(!exists(&signature));
        let _ = outputs(pier.promote(&image, &to, &more));
        assert_eq!(signatures(&there(&image)), ONE_OF_EACH);
    }
    assert_eq!(closures[0], closures[1], "the same closure everywhere");
}

#[test]
fn a_version_never_moves_and_a_channel_moves_from_where_it_is_expected() {
    let pier = Pier::new();
    let one = small_image(&pier.from, "apps/shop", "one", "one");
    let two = small_image(&pier.from, "apps/shop", "two", "two");
    let to = format!("{}/prod/shop", pier.from.host());
    let digest = |image: &str| image.split_once('@').unwrap().1.to_owned();
    let at = |tag: &str| crane(&["digest", &format!("{to}:{tag}")]);

    let more = [("tags", r#"["v1.0.0"]"#), ("channels", r#"["stable"]"#)];
    let _ = outputs(pier.promote(&one, &to, &more));
    let refused = refusal(pier.promote(&two, &to, &more));
    assert!(refused.contains("v1.0.0"), "{refused}");
    assert_eq!((at("v1.0.0"), at("stable")), (digest(&one), digest(&one)), "nothing has moved");
    assert!(!exists(&format!("{to}@{}", digest(&two))), "nothing was copied");

    // Somebody else has moved the channel meanwhile.
    let expect = json!({"stable": digest(&two)}).to_string();
    let more = [("tags", r#"["v2.0.0"]"#), ("channels", r#"["stable"]"#), ("expect", &expect)];
    let refused = refusal(pier.promote(&two, &to, &more));
    assert!(refused.contains("stable"), "{refused}");
    assert_eq!(at("stable"), digest(&one));

    let expect = json!({"stable": digest(&one)}).to_string();
    let more = [("tags", r#"["v2.0.0"]"#), ("channels", r#"["stable"]"#), ("expect", &expect)];
    let moved = outputs(pier.promote(&two, &to, &more));
    assert_eq!((at("v2.0.0"), at("stable")), (digest(&two), digest(&two)));
    assert!(moved["channels"].to_string().contains(&digest(&one)), "{moved}");
    // The same again finds its own work, although the channel is not where it was expected.
    let _ = outputs(pier.promote(&two, &to, &more));
    assert_eq!(tags(&to), ["stable", "v1.0.0", "v2.0.0"]);
}
