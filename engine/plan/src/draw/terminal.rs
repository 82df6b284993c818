//! The plan for a terminal: one step a line, its lanes to the left, readable without color.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Statuses, condition, title};
use crate::{Approval, Gate, Need, Phase, Plan, PlanStep, WaitFor};

/// The widest the lanes may grow before needs are told in words alone.
const MAX_LANES: usize = 12;

/// Draws `plan` in lanes, as version control draws its history: a step is a sign on a line of its
/// own, and the steps that need it hang below it.
#[must_use]
pub fn terminal(plan: &Plan, statuses: &Statuses) -> String {
    let mut out = String::new();
    let steps = plan.steps();
    let last_use: BTreeMap<&str, usize> = (steps.iter().enumerate())
        .flat_map(|(at, step)| step.needs.iter().map(move |need| (need.step.as_str(), at)))
        .collect();
    // Each lane holds the step that comes down it until the last step that needs it.
    let mut lanes: Vec<Option<&str>> = Vec::new();
    let mut phase = Phase::Main;
    for (at, step) in steps.iter().enumerate() {
        if step.phase != phase {
            phase = step.phase;
            lanes.clear();
            let _ = writeln!(out, "── {}", phase.key());
        }
        let needed: Vec<usize> = (0..lanes.len())
            .filter(|lane| {
                lanes[*lane].is_some_and(|id| step.needs.iter().any(|n| n.step.as_str() == id))
            })
            .collect();
        let ends = |lane: usize| {
            lanes[lane].is_some_and(|id| last_use.get(id).is_none_or(|last| *last <= at))
        };
        // The step takes the first lane that ends in it; else a free one; else a new one.
        let own = needed
            .iter()
            .copied()
            .find(|lane| ends(*lane))
            .or_else(|| lanes.iter().position(Option::is_none))
            .unwrap_or(lanes.len());
        let ending: Vec<bool> = (0..lanes.len()).map(ends).collect();
        if own == lanes.len() {
            lanes.push(None);
        }
        let sign = statuses.get(&step.id).map_or('●', |status| status.sign());
        if lanes.len() <= MAX_LANES {
            out.push_str(&line(&lanes, &ending, &needed, own, sign));
        } else {
            let _ = write!(out, "{sign} ");
        }
        for lane in needed.iter().copied().filter(|lane| ending[*lane]) {
            lanes[lane] = None;
        }
        lanes[own] = last_use.contains_key(step.id.as_str()).then_some(step.id.as_str());
        while lanes.last() == Some(&None) {
            lanes.pop();
        }
        let _ = writeln!(out, " {}", words(step, statuses));
    }
    out
}

/// One row: lanes that pass, the sign of the step, and the lanes that lead into it.
fn line(
    lanes: &[Option<&str>],
    ending: &[bool],
    needed: &[usize],
    own: usize,
    sign: char,
) -> String {
    let first = needed.iter().copied().chain([own]).min().unwrap_or(own);
    let last = needed.iter().copied().chain([own]).max().unwrap_or(own);
    let mut row = String::new();
    for (lane, holds) in lanes.iter().enumerate() {
        let leads = needed.contains(&lane) && lane != own;
        let over = lane > first && lane < last;
        let ends = ending.get(lane).copied().unwrap_or(false);
        row.push(match (lane == own, leads, holds.is_some(), over) {
            (true, ..) => sign,
            (false, true, ..) => match (lane == first, lane == last, ends) {
                (true, _, true) => '╰',
                (true, _, false) => '├',
                (false, true, true) => '╯',
                (false, true, false) => '┤',
                (false, false, true) => '┴',
                (false, false, false) => '┼',
            },
            (false, false, true, true) => '┼',
            (false, false, true, false) => '│',
            (false, false, false, true) => '─',
            (false, false, false, false) => ' ',
        });
        row.push(if lane >= first && lane < last { '─' } else { ' ' });
    }
    row.trim_end().to_owned()
}

fn words(step: &PlanStep, statuses: &Statuses) -> String {
    let mut text = title(step);
    if let Some(status) = statuses.get(&step.id) {
        let _ = write!(text, "  {status}");
    }
    let needs: Vec<String> = step.needs.iter().map(need).collect();
    if !needs.is_empty() {
        let _ = write!(text, "  ← {}", needs.join(", "));
    }
    let more = besides(step);
    if !more.is_empty() {
        let _ = write!(text, "  {}", more.join(", "));
    }
    if let Some(when) = step.when() {
        let _ = write!(text, "  when {when}");
    }
    if step.on.len() < crate::RunOutcome::ALL.len() {
        let on: Vec<&str> = step.on.iter().map(|outcome| outcome.name()).collect();
        let _ = write!(text, "  on {}", on.join(", "));
    }
    text
}

/// What a step is besides one attempt of its kind.
fn besides(step: &PlanStep) -> Vec<String> {
    let mut said = Vec::new();
    match &step.gate {
        None => {}
        Some(Gate::Approval(Approval { from, min, ordered, expires, .. })) => {
            let expires = expires.map(|time| format!(" within {time}")).unwrap_or_default();
            said.push(if *ordered {
                format!("asks {} in turn{expires}", from.join(", "))
            } else {
                format!("asks {min} of {}{expires}", from.join(", "))
            });
        }
        Some(Gate::Wait(WaitFor::Duration(pause))) => said.push(format!("for {pause}")),
        Some(Gate::Wait(WaitFor::Until(moment))) => {
            let moment: Vec<&str> = moment.split_whitespace().collect();
            said.push(format!("until {}", moment.join(" ")));
        }
    }
    if let Some(wait) = &step.wait {
        said.push(format!("asks for {}", wait.deadline));
    }
    if step.cache.is_some() {
        said.push("is cached".to_owned());
    }
    if let Some(undo) = &step.undo {
        said.push(format!("taken back by {}", undo.kind));
    }
    said
}

fn need(need: &Need) -> String {
    match condition(need) {
        Some(condition) => format!("{} [{condition}]", need.step),
        None => need.step.to_string(),
    }
}
