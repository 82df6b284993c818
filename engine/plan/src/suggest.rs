//! Did you mean: the nearest name to one that is not known.

use std::cell::Cell;

/// How many more slips are looked up among names of which there may be many thousands: each costs a
/// walk along all of them, and no file has more findings told than this.
pub(crate) struct Slips(Cell<u32>);

impl Default for Slips {
    fn default() -> Self {
        Self(Cell::new(400))
    }
}

impl Slips {
    /// Whether one more is looked up.
    pub(crate) fn take(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

/// The candidate that `name` is most likely a slip of, if one is near enough.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Distances over long texts are quadratic, and a long text is no slip of a short name.
    if name.len() > 128 {
        return None;
    }
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let likeness = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
            let edits = strsim::osa_distance(&lower, candidate);
            let near = edits <= 1 + candidate.chars().count() / 5 || likeness > 0.87;
            near.then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The names in backticks with commas, at most a dozen.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let mut text =
        names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_noise_finds_none() {
        let kinds = ["build", "scan", "sbom", "sign", "promote"];
        for (slip, want) in [
            ("scna", Some("scan")),
            ("Build", Some("build")),
            ("promot", Some("promote")),
            ("deploy", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip, kinds), want, "{slip}");
        }
    }
}
