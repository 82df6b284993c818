//! Edits: applied from the end to the beginning, never two in one place, and read again.

use crate::dockerfile::read;
use crate::finding::{Edit, Finding};

/// The most rounds: an edit may uncover another, and none may go round in circles.
const ROUNDS: usize = 8;

/// Applies what is certain, until nothing is. `find` tells the findings of a text. What the file could
/// not be read with stays out: a text that was right stays right.
pub(crate) fn mend(text: &str, find: impl Fn(&str) -> Vec<Finding>) -> String {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        let findings = find(&text);
        let Some(mended) = round(&text, &findings) else { break };
        text = mended;
    }
    text
}

/// One round: nothing when no edit is left.
fn round(text: &str, findings: &[Finding]) -> Option<String> {
    let before = read(text).problems.len();
    let mut taken: Vec<&Edit> = Vec::new();
    let fixes = findings.iter().filter_map(|finding| finding.fix.as_ref());
    for fix in fixes.filter(|fix| fix.certain) {
        let apart = fix.edits.iter().all(|edit| {
            text.is_char_boundary(edit.start)
                && text.is_char_boundary(edit.end)
                && taken.iter().all(|other| edit.end < other.start || other.end < edit.start)
        });
        if apart {
            taken.extend(&fix.edits);
        }
    }
    taken.sort_by_key(|edit| std::cmp::Reverse(edit.start));
    let mut mended = text.to_owned();
    for edit in taken {
        mended.replace_range(edit.start..edit.end, &edit.replacement);
    }
    (mended != text && read(&mended).problems.len() <= before).then_some(mended)
}
