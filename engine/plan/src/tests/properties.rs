//! What holds for every text and for every graph.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{fakes, pipeline};
use crate::{Phase, Plan, Source, compile};

/// Pieces of pipelines, thrown together: more of them come close to a plan than of any text.
fn almost_a_pipeline() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "apiVersion: fairlead.dev/v1\n",
        "kind: Pipeline\n",
        "name: a\n",
        "steps:\n",
        "finally:\n",
        "on:\n",
        "  git.push: ",
        "  registry.push: {when: event.x}\n",
        "params:\n",
        "  a: ",
        "  b: ",
        "    uses: ",
        "note\n",
        "scan\n",
        "    with: ",
        "{text: ",
        "}",
        "[",
        "]",
        "{{ ",
        " }}",
        "steps.a.x",
        "secrets.b",
        "params.c",
        "run.id",
        " | ",
        "'",
        "\"",
        "\n",
        "    needs: ",
        "[a, b]\n",
        "    when: ",
        "1 > 2",
        "- ",
        "&x ",
        "*x",
        "!!int ",
        "|\n",
        "%",
        "ä",
        "\t",
        "\u{0}",
        "null",
        "1e999",
        "~",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_compile_panic(text in any::<String>()) {
        let _ = compile(&Source::new("p", text), &fakes::catalog());
    }

    #[test]
    fn nothing_that_is_almost_a_pipeline_makes_compile_panic(text in almost_a_pipeline()) {
        let source = Source::new("p", text.as_str());
        let findings = match compile(&source, &fakes::catalog()) {
            Ok(compiled) => compiled.warnings,
            Err(findings) => findings,
        };
        for found in findings.list() {
            prop_assert!(text.get(found.span.start..found.span.end).is_some(), "{found:?}");
        }
    }

    #[test]
    fn no_leaf_makes_rendering_panic(leaf in "[a-z{}'\"|.()\\[\\]0-9 ~+*-]{0,60}") {
        let with = serde_json::json!({ "x": leaf });
        let _ = crate::template::render("with", &with, (&crate::Scope::default()).into());
    }

    #[test]
    fn every_step_stands_behind_what_it_needs(
        edges in prop::collection::vec((0_usize..30, 0_usize..30), 0..80),
        finally in prop::collection::btree_set(0_usize..30, 0..5),
    ) {
        let needs = |step: usize| -> String {
            let list: BTreeSet<usize> = edges
                .iter()
                .filter(|(from, to)| *from == step && finally.contains(from) == finally.contains(to))
                .map(|(_, to)| *to)
                .collect();
            list.iter().map(|to| format!("s{to}")).collect::<Vec<_>>().join(", ")
        };
        let lines = |keep: bool| -> String {
            (0..30)
                .filter(|step| finally.contains(step) == keep)
                .map(|step| format!("s{step}: {{uses: note, needs: [{}]}}", needs(step)))
                .collect::<Vec<_>>()
                .join(",\n")
        };
        let yaml = pipeline(&format!("{}\n---\n{}", lines(false), lines(true)));
        match compile(&Source::new("p", yaml), &fakes::catalog()) {
            Ok(compiled) => {
                let plan = compiled.plan;
                prop_assert_eq!(plan.steps().len(), 30);
                let mut before = BTreeSet::new();
                let mut phase = Phase::Main;
                for step in plan.steps() {
                    prop_assert!(step.phase >= phase);
                    phase = step.phase;
                    prop_assert!(step.needs.iter().all(|need| before.contains(&need.step)));
                    before.insert(step.id.clone());
                }
                let json = serde_json::to_string(&plan).unwrap();
                prop_assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
            }
            // A graph that is refused has a circle.
            Err(findings) => {
                prop_assert!(findings.list().iter().any(|found| found.code.as_str() == "FL0401"));
            }
        }
    }
}
