//! Makes a case that fails smaller, until nothing more can be left out.

use crate::case::{Case, Trouble, What};
use crate::simulation::{End, live};
use crate::store::Plant;

/// The smallest case found that fails as well, and how it ends.
pub(crate) fn smaller(mut case: Case, plant: Option<Plant>) -> (Case, End) {
    let mut end = live(&case, plant);
    'again: loop {
        for candidate in candidates(&case).into_iter().filter(Case::compiles) {
            let tried = live(&candidate, plant);
            if tried.problem().is_err() {
                (case, end) = (candidate, tried);
                continue 'again;
            }
        }
        return (case, end);
    }
}

fn candidates(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut candidate = case.clone();
        change(&mut candidate);
        found.push(candidate);
    };
    for n in 0..case.runs.len() {
        if case.runs.len() > 1 {
            with(&|case| {
                case.runs.remove(n);
            });
        }
        if case.runs[n].retried {
            with(&|case| case.runs[n].retried = false);
        }
    }
    let flags: [fn(&mut Trouble) -> &mut bool; 9] = [
        |t| &mut t.crashes,
        |t| &mut t.appends,
        |t| &mut t.steals,
        |t| &mut t.outages,
        |t| &mut t.hangs,
        |t| &mut t.deaf,
        |t| &mut t.clocks,
        |t| &mut t.cancels,
        |t| &mut t.bad_votes,
    ];
    for flag in flags {
        if *flag(&mut case.trouble.clone()) {
            with(&|case| *flag(&mut case.trouble) = false);
        }
    }
    if case.servers > 1 {
        with(&|case| case.servers -= 1);
    }
    if case.max_runs.is_some() {
        with(&|case| case.max_runs = None);
    }
    for (p, pipeline) in case.pipelines.iter().enumerate() {
        if pipeline.group.is_some() {
            with(&|case| case.pipelines[p].group = None);
        }
        if pipeline.timeout {
            with(&|case| case.pipelines[p].timeout = false);
        }
        for (s, step) in pipeline.steps.iter().enumerate() {
            if pipeline.steps.len() > 1 {
                with(&|case| drop(case.pipelines[p].steps.remove(s)));
            }
            for n in 0..step.needs.len() {
                with(&|case| drop(case.pipelines[p].steps[s].needs.remove(n)));
            }
            if step.when.is_some() {
                with(&|case| case.pipelines[p].steps[s].when = None);
            }
            let What::Kind(kind) = &step.what else { continue };
            let mut of_kind = |change: &dyn Fn(&mut crate::case::Kind)| {
                with(&|case| {
                    if let What::Kind(kind) = &mut case.pipelines[p].steps[s].what {
                        change(kind);
                    }
                });
            };
            if kind.retry.is_some() {
                of_kind(&|kind| kind.retry = None);
            }
            if kind.each.is_some() {
                of_kind(&|kind| kind.each = None);
            }
            if kind.asks {
                of_kind(&|kind| kind.asks = false);
            }
            if kind.cache {
                of_kind(&|kind| kind.cache = false);
            }
            if kind.script != "p" && !kind.timeout {
                of_kind(&|kind| kind.script = "p".to_owned());
            }
        }
    }
    found
}
