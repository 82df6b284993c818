//! The codes of findings: stable, documented, one list.

use std::fmt;

use serde::{Serialize, Serializer};

/// The stable code of a kind of finding, such as `FL0301`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

impl Code {
    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl Code {
    /// Of what a server's configuration refuses, which [`crate::compile`] knows nothing of.
    pub const REFUSED: Self = REFUSED_BY_POLICY;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// A code and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// What it stands for, a few words.
    pub title: &'static str,
    /// What to do about it, a sentence or two.
    pub explanation: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal: $title:literal, $explanation:literal;)*) => {
        $(#[doc = $title] pub(crate) const $name: Code = Code($code);)*

        /// Every code, in order.
        pub const CODES: &[CodeInfo] = &[$(
            CodeInfo { code: $name, title: $title, explanation: $explanation },
        )*];
    };
}

codes! {
    MALFORMED_YAML = "FL0001": "the file is not YAML",
        "The reader stopped at the place shown. Look for indentation, an open quote or bracket, or a tab.";
    DUPLICATE_KEY = "FL0002": "a key stands twice",
        "A mapping has each key once. Remove one of the two, or rename it.";
    TOO_LARGE = "FL0003": "the file is beyond a limit",
        "A pipeline file has at most 1 MiB, 24 levels, and as many steps as the message says.";
    UNKNOWN_KEY = "FL0101": "an unknown key",
        "Nothing reads this key. The message names the nearest one that is known.";
    MISSING_KEY = "FL0102": "a key is missing",
        "The mapping shown cannot do without it.";
    WRONG_SHAPE = "FL0103": "another type is wanted",
        "The message says what stands there and what is wanted: a text, a number, a list, a mapping.";
    BAD_VALUE = "FL0104": "a value that is not allowed here",
        "The message lists what may stand there.";
    NOT_SUPPORTED = "FL0105": "known, but not supported by this version",
        "The language has this key, but this build cannot act on it yet, and refuses rather than ignores it.";
    BAD_NAME = "FL0106": "a malformed name",
        "Names are lower-case letters, digits, `_` and `-`, beginning with a letter, at most 63 characters.";
    BAD_DURATION = "FL0107": "a malformed duration",
        "Write whole numbers with units, largest first: `30s`, `5m`, `1h30m`.";
    BAD_PATTERN = "FL0108": "a malformed regular expression",
        "The syntax is that of the `regex` crate: no look-around and no back-references.";
    BAD_TRIGGER = "FL0109": "a malformed trigger",
        "The message says what the filter under `on` accepts at that place.";
    BAD_DEFAULT = "FL0110": "a default that its own parameter refuses",
        "The default must have the type of the parameter, match its pattern, and be one of its choices.";
    UNBOUND_PARAM = "FL0111": "a trigger cannot give this parameter a value",
        "An event starts a run without asking anybody, so every parameter needs a default.";
    CONFLICT = "FL0112": "keys that do not go together",
        "Each is known, but not beside the other, or not at this place. The message names what to do instead.";
    BAD_ITEMS = "FL0113": "a list that cannot be made item by item",
        "A list of `for_each` has at most 1,000 items, each with a key of its own: 1 to 63 letters, digits, `.`, `_` and `-`.";
    BAD_FILL = "FL0114": "a trigger gives a parameter what it does not take",
        "What stands under `params` of a trigger, or under `inputs` of `manual`, must be a parameter of the pipeline, of its type, and fit its pattern and choices.";
    BAD_SCHEDULE = "FL0115": "a malformed schedule",
        "`cron` has five fields (minute, hour, day of the month, month, day of the week) or is a word such as `@daily`; `timezone` is a name of the IANA database.";
    UNKNOWN_KIND = "FL0201": "an unknown step kind",
        "`fairlead steps list` names the kinds of this build.";
    UNKNOWN_INPUT = "FL0202": "an unknown input",
        "`fairlead steps reference KIND` lists the inputs of a kind.";
    MISSING_INPUT = "FL0203": "a required input is missing",
        "Give it under `with`, as a value or as an expression.";
    WRONG_INPUT = "FL0204": "an input of the wrong type",
        "The message says what stands there and what the step kind wants.";
    REFUSED_INPUT = "FL0205": "an input that the step kind refuses",
        "The type fits, but the kind itself checks more: the message is its own.";
    NOT_PURE = "FL0206": "a result that cannot be cached",
        "`cache` is for kinds that change nothing outside; `fairlead steps list` says which effect a kind has.";
    BAD_EXPRESSION = "FL0301": "a malformed expression",
        "Between `{{` and `}}` stands one expression: a path, a comparison, a filter. There are no statements.";
    UNKNOWN_ROOT = "FL0302": "an unknown name in an expression",
        "Expressions see `params`, `event`, `vars`, `steps`, `run` and `secrets`, those of a step with `for_each` also `item` and `item_key`.";
    UNKNOWN_STEP = "FL0303": "a reference to a step that is not there",
        "The name must be a step of this file.";
    UNKNOWN_OUTPUT = "FL0304": "a reference to an output that is not there",
        "`fairlead steps reference KIND` lists the outputs of a kind. An unknown output is never an empty text.";
    UNKNOWN_VALUE = "FL0305": "a reference to nothing",
        "The parameter, event key, named value, run key or part of an item does not exist, or not in every event that starts this pipeline.";
    WRONG_REFERENCE = "FL0306": "a reference of the wrong type",
        "What the expression gives can never be what the input asks for.";
    SECRET_MISUSE = "FL0307": "a secret where none may stand",
        "A secret stands alone, as `{{ secrets.NAME }}`, at an input made for secrets; and such an input takes nothing else.";
    UNKNOWN_FUNCTION = "FL0308": "an unknown filter, test or function",
        "The message names the nearest one that is known.";
    CYCLE = "FL0401": "steps that wait for each other",
        "The message shows the circle as a path. Remove one of its edges.";
    WRONG_PHASE = "FL0402": "an edge between phases",
        "Steps under `on_failure` run after every main step by themselves, those under `finally` after both; none can wait for a later one.";
    UNREACHABLE = "FL0403": "a step that can never run",
        "What it needs can never end that way, or its condition is always false.";
    MAY_BE_ABSENT = "FL0404": "an output that may be absent",
        "The step may start although the other one has no outputs. Write `| default(…)`, or narrow `needs`.";
    MAY_BE_NULL = "FL0405": "a value of the event that may be null",
        "Not every event that starts the pipeline has it. Write `| default(…)`, let only events in that have it, or ask for it in a `when`.";
    VAR_CYCLE = "FL0406": "named values that need each other",
        "The message shows the circle of `vars` as a path. Write one of them without the others.";
    OWN_RUNS = "FL0407": "a pipeline that waits for its own runs",
        "The end of a run starts no run of the same pipeline: that would never end. Name other pipelines under `run.finished`.";
    REFUSED_BY_POLICY = "FL0501": "a step that the server does not let run",
        "`fairlead lint --config` holds the file against the `projects` of a server's configuration. Change the step, or let whoever keeps the server allow what the message names.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_no_code_is_used_twice() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
