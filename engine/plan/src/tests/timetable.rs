//! The times of schedules: over changes of clocks, over restarts, by several servers, as they are missed.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_event::{Missed, Schedule};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::Timetable;

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule { cron: cron.into(), timezone: Some(zone.into()), ..Schedule::default() }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The times from `from` on, in their own zone, each with its offset.
fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let table = Timetable::of("p", &schedule(cron, zone)).unwrap();
    let zone = crate::timetable::zone_of(zone).unwrap();
    let mut at = time(from);
    let mut found = Vec::new();
    for _ in 0..count {
        let due = table.next(at).unwrap();
        assert!(due.at > at);
        at = due.at;
        found.push(at.to_zoned_datetime(zone.clone()).strftime("%m-%d %H:%M%:z").to_string());
    }
    found
}

#[test]
fn a_fixed_time_that_does_not_exist_comes_when_clocks_are_put_forward() {
    // In Berlin 02:00 to 03:00 of 2026-03-29 do not exist.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
        ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"]
    );
    // In New York it is 2026-03-08.
    assert_eq!(
        times("15 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
        ["03-08 03:00-04:00", "03-09 02:15-04:00"]
    );
    // What comes every so often is left away with the hour.
    assert_eq!(
        times("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:20:00Z", 3),
        ["03-29 01:30+01:00", "03-29 03:00+02:00", "03-29 03:30+02:00"]
    );
}

#[test]
fn a_fixed_time_that_comes_twice_counts_once() {
    // In Berlin 02:00 to 03:00 of 2026-10-25 come twice.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["10-25 02:30+02:00", "10-26 02:30+01:00"]
    );
    // What comes every so often comes in both hours.
    assert_eq!(
        times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:40:00Z", 6),
        [
            "10-25 02:00+02:00",
            "10-25 02:30+02:00",
            "10-25 02:00+01:00",
            "10-25 02:30+01:00",
            "10-25 03:00+01:00",
            "10-25 03:30+01:00",
        ]
    );
    // Half an hour, at Lord Howe Island.
    assert_eq!(
        times("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00:00Z", 2),
        ["04-05 01:45+11:00", "04-06 01:45+10:30"]
    );
}

#[test]
fn days_and_words_are_as_cron_has_them() {
    let utc = |cron: &str, count| times(cron, "UTC", "2026-02-27T12:00:00Z", count);
    assert_eq!(utc("0 0 29 2 *", 1), ["02-29 00:00+00:00"]);
    // A day of the month or a day of the week.
    assert_eq!(utc("0 0 1 * MON", 2), ["03-01 00:00+00:00", "03-02 00:00+00:00"]);
    assert_eq!(utc("@daily", 1), ["02-28 00:00+00:00"]);
    assert_eq!(utc("0 12 * * 7", 1), ["03-01 12:00+00:00"]);
}

#[test]
fn what_was_missed_is_made_up_for_as_the_schedule_says() {
    let table =
        |missed| Timetable::of("p", &Schedule { missed, ..schedule("0 * * * *", "UTC") }).unwrap();
    let (since, now) = (time("2026-01-01T00:30:00Z"), time("2026-01-01T05:10:00Z"));
    let begun = |missed, now| {
        let begun = table(missed).due(since, now);
        let hours: Vec<(String, bool)> = begun
            .events
            .iter()
            .map(|due| (due.due.strftime("%H:%M").to_string(), due.missed))
            .collect();
        (hours, begun.until.map(|until| until.strftime("%H:%M").to_string()))
    };
    let of = |hours: &[(&str, bool)]| -> Vec<(String, bool)> {
        hours.iter().map(|(hour, missed)| ((*hour).to_owned(), *missed)).collect()
    };
    let until = Some("05:00".to_owned());
    assert_eq!(begun(Missed::Skip, now), (of(&[]), until.clone()));
    assert_eq!(begun(Missed::Once, now), (of(&[("05:00", true)]), until.clone()));
    let all = ["01:00", "02:00", "03:00", "04:00", "05:00"].map(|hour| (hour, true));
    assert_eq!(begun(Missed::All, now), (of(&all), until.clone()));
    // Who comes a little late has missed nothing.
    let soon = time("2026-01-01T05:00:50Z");
    assert_eq!(begun(Missed::Skip, soon), (of(&[("05:00", false)]), until.clone()));
    assert_eq!(begun(Missed::Once, soon), (of(&[("05:00", false)]), until));
    assert_eq!(begun(Missed::All, time("2026-01-01T00:59:59Z")), (of(&[]), None));
}

#[test]
fn a_clock_that_is_ahead_by_years_begins_no_more_than_a_month() {
    let every = Schedule { missed: Missed::All, ..schedule("* * * * *", "UTC") };
    let table = Timetable::of("p", &every).unwrap();
    let now = time("2031-01-01T00:00:00Z");
    let begun = table.due(time("2026-01-01T00:00:00Z"), now);
    assert_eq!(begun.events.len(), 100);
    assert!(begun.events[0].due > now - SignedDuration::from_hours(30 * 24));
}

#[test]
fn how_late_runs_are_is_the_same_each_time_and_differs_among_schedules() {
    let jitter = Some("1h".parse().unwrap());
    let late = |pipeline: &str| {
        let one = Schedule { jitter, ..schedule("0 3 * * *", "UTC") };
        let due = Timetable::of(pipeline, &one).unwrap().next(time("2026-01-01T00:00:00Z"));
        let due = due.unwrap();
        assert_eq!(due.at, time("2026-01-01T03:00:00Z"));
        due.begins.duration_since(due.at)
    };
    let all: BTreeSet<SignedDuration> = (0..50).map(|n| late(&format!("p{n}"))).collect();
    assert!(all.len() > 45, "{all:?}");
    assert!(all.iter().all(|late| *late <= SignedDuration::from_hours(1) && !late.is_negative()));
    assert_eq!(late("p1"), late("p1"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several servers look at the schedule at any time, stop, come back, and have their clocks set;
    /// what the store knows of one time is taken once. Every time has one event where all are made up
    /// for, and nothing that is no time of the schedule has any.
    #[test]
    fn each_time_is_told_once_whoever_looks_and_whenever(
        cron in prop::sample::select(vec!["*/20 * * * *", "30 2 * * *", "0 */3 * * *", "15,45 1-3 * * *", "5 0 * * SUN"]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
        begin in prop::sample::select(vec!["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-03-07T12:00:00Z", "2026-04-04T00:00:00Z"]),
        // Which server, how much later, by how many seconds its clock is wrong, whether it begins anew.
        looks in prop::collection::vec((0_usize..3, 1_i64..20_000, -90_i64..90, prop::bool::weighted(0.1)), 1..60),
        jitter in prop::option::of(1_u64..1_800),
    ) {
        let jitter = jitter.map(|seconds| fairlead_step::HumanDuration(std::time::Duration::from_secs(seconds)));
        let one = Schedule { missed: Missed::All, jitter, ..schedule(cron, zone) };
        let table = Timetable::of("p", &one).unwrap();
        let begin = time(begin);
        let mut watermark = begin;
        let mut servers = [None; 3];
        let mut told: BTreeMap<Timestamp, usize> = BTreeMap::new();
        let mut now = begin;
        let mut latest = begin;
        for (server, later, wrong, anew) in looks {
            now += SignedDuration::from_secs(later);
            let seen = now + SignedDuration::from_secs(wrong);
            latest = latest.max(seen);
            if anew {
                servers[server] = None;
            }
            loop {
                let since = servers[server].unwrap_or(watermark).min(seen);
                let begun = table.due(since, seen);
                for due in &begun.events {
                    *told.entry(due.due).or_default() += 1;
                }
                let until = begun.until.unwrap_or(since);
                watermark = watermark.max(until);
                servers[server] = Some(until);
                if begun.until.is_none() {
                    break;
                }
            }
        }
        // What the clocks of all have passed; a wrong clock may be ahead of what another one shows.
        let mut wanted = BTreeSet::new();
        let mut at = begin;
        while let Some(due) = table.next(at) {
            if due.begins > latest {
                break;
            }
            wanted.insert(due.at);
            at = due.at;
        }
        let told: BTreeSet<Timestamp> = told.into_keys().collect();
        let behind: Vec<_> = wanted.difference(&told).collect();
        prop_assert!(told.is_subset(&wanted), "{told:?} {wanted:?}");
        prop_assert!(behind.is_empty(), "{behind:?}");
    }
}
