//! What a run tells of itself to the steps that attest: the journal's own words.

use fairlead_run::Vote;
use fairlead_step::{Digest, Image, Verdict};
use serde_json::json;

use crate::world::{World, after, approval, id, plan, step, voter};

#[test]
fn the_history_has_attempts_approvers_digests_and_the_head_of_the_journal() {
    let mut world = World::new(plan(
        vec![
            step("build"),
            approval("gate", json!({ "from": ["ada"], "min": 1 })),
            after("last", &["build"]),
        ],
        None,
    ));
    world.settle();
    let image = format!("localhost/shop@{}", Digest::sha256(b"image"));
    let document = json!({ "name": "a.json", "media_type": "application/json",
        "digest": Digest::sha256(b"document"), "size": 8 });
    let outputs = json!({ "image": image, "deep": [{ "document": document }], "note": "x@y" });
    let result = fairlead_run::StepResult::Verdict(Verdict::passed(outputs));
    world.finish("build", result);
    world.vote("gate", &voter("ada", &[]), Vote::Approve).unwrap();
    world.settle();
    let history = world.run.history();
    assert_eq!(history.pipeline_digest, Digest::sha256(b"test"));
    assert_eq!(history.journal.records, world.run.seq().0);
    assert_eq!(history.journal.digest.hex(), world.run.head().to_string());
    let told = |name: &str| history.steps.iter().find(|step| step.id == id(name)).unwrap();
    let build = told("build");
    assert_eq!((build.status.as_str(), build.attempts.len()), ("passed", 1));
    assert!(build.attempts[0].ended_at.is_some() && build.input.is_some());
    assert_eq!(build.images, [image.parse::<Image>().unwrap()]);
    assert_eq!(build.documents[0].digest, Digest::sha256(b"document"));
    assert_eq!(told("gate").approvers, ["ada"]);
    // What still runs has made nothing yet.
    let last = told("last");
    assert!(last.status != "passed" && last.images.is_empty());
    // The same journal tells the same.
    assert_eq!(world.taken_up().run.history(), history);
}
