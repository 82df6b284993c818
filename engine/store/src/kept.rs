//! Records of other runs that a run refers to: they are loaded with it, and stay as long as it does.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_run::{Record, Request, RunEvent, Seq};
use fairlead_step::RunId;

/// What a first record refers to: the runs, and their records.
pub(crate) fn referred(first: Option<&Record>) -> BTreeMap<RunId, Vec<Seq>> {
    let mut found: BTreeMap<RunId, Vec<Seq>> = BTreeMap::new();
    if let Some(RunEvent::Requested(request)) = first.map(Record::event) {
        for result in request.kept_results() {
            found.entry(result.run.clone()).or_default().push(result.record);
        }
    }
    found
}

/// The runs that must be there when a run is created: the one that it begins from, and those whose
/// results stand for it.
pub(crate) fn needed(request: &Request) -> BTreeSet<&RunId> {
    let origin = request.origin.iter().map(|origin| &origin.run);
    origin.chain(request.kept_results().into_iter().map(|result| &result.run)).collect()
}
