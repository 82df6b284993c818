//! The text of statements about retention, where the databases have the same. Both know parameters as
//! `$1`; how a list of runs is one parameter differs, so where there is one the text is a macro.

use fairlead_step::RunId;
use jiff::Timestamp;

use crate::values::{micros, stored};

/// Texts that are shown at once: a page that fits in memory many times over.
pub(crate) const TEXTS_AT_ONCE: i64 = 256;
/// Rows of the smaller tables that are removed in one transaction.
pub(crate) const ROWS_AT_ONCE: i64 = 512;
/// What is done while texts are shown.
pub(crate) const SHOWING: &str = "look for what names artifacts";

/// What keeps a finished run from going: an unfinished one that begins from it, and an event that
/// is still to be handled, which would start it again.
macro_rules! not_needed {
    ($run:literal) => {
        concat!(
            " NOT EXISTS (SELECT 1 FROM run AS later WHERE later.origin = ",
            $run,
            ".id AND later.ended_at IS NULL) AND NOT EXISTS (SELECT 1 FROM event_run \
             JOIN event ON event.key = event_run.key WHERE event_run.run = ",
            $run,
            ".id AND event.handled_at IS NULL AND event.dead_at IS NULL)"
        )
    };
}

/// The finished runs that may go: those that ended before `$1` and are not among the last `$2` of
/// their pipeline.
pub(crate) const CHOOSE: &str = concat!(
    "SELECT id FROM (SELECT id, ended_at, row_number() OVER \
     (PARTITION BY pipeline ORDER BY ended_at DESC, id DESC) AS place \
     FROM run WHERE ended_at IS NOT NULL) AS ended \
     WHERE (CAST($1 AS bigint) IS NULL OR ended_at < $1) AND place > $2 AND",
    not_needed!("ended"),
    " ORDER BY id",
);

/// How many rows there are, and the bytes of a column in them.
macro_rules! amount {
    ($column:literal) => {
        concat!("SELECT count(*), CAST(coalesce(sum(octet_length(", $column, ")), 0) AS bigint)")
    };
}

/// Plans that no run has but those of a list.
macro_rules! unnamed_plans {
    ($not_in:literal) => {
        concat!(
            " FROM plan WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.plan = plan.digest \
             AND run.id",
            $not_in,
            ")"
        )
    };
}

/// Events that are over since before `$2`, and that no run is linked to but those of a list.
macro_rules! old_events {
    ($not_in:literal) => {
        concat!(
            " FROM event WHERE NOT EXISTS (SELECT 1 FROM event_run \
             WHERE event_run.key = event.key AND event_run.run",
            $not_in,
            ") AND coalesce(handled_at, dead_at) < $2"
        )
    };
}

/// A table whose rows go by their age (before `$1`), and when there are more than `$2` of them.
macro_rules! forgotten {
    ($table:literal, $and:literal) => {
        concat!(
            " FROM ",
            $table,
            " WHERE (received_at < $1 OR received_at <= (SELECT received_at FROM ",
            $table,
            " ORDER BY received_at DESC LIMIT 1 OFFSET $2))",
            $and
        )
    };
}

/// What a tag was set to stays as long as the event is there, which would otherwise come again.
macro_rules! forgotten_pushes {
    () => {
        forgotten!(
            "tag_push",
            " AND NOT EXISTS (SELECT 1 FROM event WHERE event.key = tag_push.key)"
        )
    };
}

/// Rows of one table that go.
pub(crate) struct Sweep {
    pub(crate) doing: &'static str,
    /// Answers how many there are, and their bytes.
    pub(crate) count: &'static str,
    /// Removes some: how many at most is the parameter behind the others.
    pub(crate) remove: &'static str,
    pub(crate) arguments: Vec<Argument>,
}

/// A parameter of both texts of a [`Sweep`].
pub(crate) enum Argument {
    /// The runs that count as gone. They are gone indeed when rows are removed.
    Gone(Vec<RunId>),
    Number(i64),
}

/// The rows that go by their age alone, in their order.
pub(crate) fn keys(cutoff: Timestamp, most: u64) -> [Sweep; 2] {
    let arguments = || vec![Argument::Number(micros(cutoff)), Argument::Number(stored(most))];
    [
        Sweep {
            doing: "forget the keys of events",
            count: concat!(amount!("key"), forgotten!("event_key", "")),
            remove: concat!(
                "DELETE FROM event_key WHERE key IN (SELECT key",
                forgotten!("event_key", ""),
                " ORDER BY received_at LIMIT $3)"
            ),
            arguments: arguments(),
        },
        Sweep {
            doing: "forget the history of tags",
            count: concat!(amount!("tag"), forgotten_pushes!()),
            remove: concat!(
                "DELETE FROM tag_push WHERE (tag, number) IN (SELECT tag, number",
                forgotten_pushes!(),
                " ORDER BY received_at LIMIT $3)"
            ),
            arguments: arguments(),
        },
    ]
}

/// The results that were cached before a time.
pub(crate) fn cached_results(cutoff: Timestamp) -> Sweep {
    Sweep {
        doing: "remove cached results",
        count: concat!(amount!("outputs"), " FROM remembered WHERE at < $1"),
        remove: "DELETE FROM remembered WHERE key IN \
                 (SELECT key FROM remembered WHERE at < $1 LIMIT $2)",
        arguments: vec![Argument::Number(micros(cutoff))],
    }
}

pub(crate) use {amount, not_needed, old_events, unnamed_plans};
