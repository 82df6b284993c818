//! What is looked for in a text: secrets, and how base64 writes them.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use fairlead_step::Secret;

use super::views::View;

/// Shorter pieces of base64 stand in too many texts by chance.
const SHORTEST_BASE64: usize = 6;

/// The widths at which programs break base64: `openssl` and PEM, `base64` and MIME.
const WIDTHS: [usize; 2] = [64, 76];

/// Texts to look for.
#[derive(Default)]
pub(super) struct Needles {
    all: Vec<Secret<Vec<u8>>>,
    /// Tells at once of most texts that nothing is in them. None without needles, and where there
    /// are too many: then each is looked for.
    filter: Option<AhoCorasick>,
    longest: usize,
}

impl Needles {
    pub(super) fn new(mut all: Vec<Secret<Vec<u8>>>) -> Self {
        all.sort_unstable_by(|a, b| a.expose().cmp(b.expose()));
        all.dedup_by(|a, b| a.expose() == b.expose());
        let longest = all.iter().map(|needle| needle.expose().len()).max().unwrap_or(0);
        let filter = if all.is_empty() {
            None
        } else {
            AhoCorasick::new(all.iter().map(|needle| needle.expose())).ok()
        };
        Self { all, filter, longest }
    }

    /// The length in bytes of the longest.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// Whether any is in `text`, in whatever form.
    pub(super) fn are_in(&self, text: &str) -> bool {
        !self.find_in(text).is_empty()
    }

    /// Where they are in `text`, in whatever form: ranges of bytes, in no order, which may overlap.
    pub(super) fn find_in(&self, text: &str) -> Vec<(usize, usize)> {
        let mut hits = Vec::new();
        if self.all.is_empty() {
            return hits;
        }
        self.find(text.as_bytes(), |start, end| hits.push((start, end)));
        for view in View::all_of(text) {
            self.find(view.bytes(), |start, end| hits.push(view.origin(start, end)));
        }
        hits
    }

    fn find(&self, text: &[u8], mut hit: impl FnMut(usize, usize)) {
        if self.filter.as_ref().is_some_and(|filter| !filter.is_match(text)) {
            return;
        }
        for needle in &self.all {
            let finder = memchr::memmem::Finder::new(needle.expose());
            let mut from = 0;
            // Each next search begins one byte further, so that a secret which overlaps itself leaves
            // no end behind.
            while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
                hit(from + at, from + at + needle.expose().len());
                from += at + 1;
            }
        }
    }
}

/// How base64 writes `bytes`, whatever is encoded before and behind them: at each of the three places
/// that they can have in a group, the characters that depend on them alone, and those up to an end.
pub(super) fn base64(bytes: &[u8]) -> Vec<Secret<Vec<u8>>> {
    let mut forms = Vec::new();
    for shift in 0..3_usize {
        let shifted = Secret::new([&[0; 2][..shift], bytes].concat());
        // Six bits a character: the first one whole, and the last one whole.
        let from = (shift * 8).div_ceil(6);
        let whole = shifted.expose().len() * 8 / 6;
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let text = Secret::new(engine.encode(shifted.expose()).into_bytes());
            for to in [whole, text.expose().len()] {
                if let Some(form) = text.expose().get(from..to)
                    && form.len() >= SHORTEST_BASE64
                {
                    forms.push(Secret::new(form.to_vec()));
                }
            }
        }
    }
    forms
}

/// The lines into which programs break the base64 of `bytes`.
pub(super) fn wrapped_base64(bytes: &[u8]) -> Vec<Secret<Vec<u8>>> {
    let text = Secret::new(STANDARD.encode(bytes).into_bytes());
    let wrapped = WIDTHS.iter().filter(|width| text.expose().len() > **width);
    let lines = wrapped.flat_map(|width| text.expose().chunks(*width));
    lines
        .filter(|line| line.len() >= SHORTEST_BASE64)
        .map(|line| Secret::new(line.to_vec()))
        .collect()
}
