//! Gates: who may vote, and what votes and times make of them.

use fairlead_plan::{Approval, Excluded, Gate, Outcome};
use fairlead_step::{HumanDuration, StepId};
use jiff::Timestamp;
use serde_json::json;

use crate::run::{State, Why};
use crate::{ApplyError, Run, Vote, Voter};

/// An approval that was given and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// Who.
    pub by: Voter,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Option<String>,
}

/// How a gate ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GateEnd {
    /// These approved.
    Approved(Vec<String>),
    /// One was against it.
    Rejected { by: String, reason: Option<String> },
    /// Too few approved in time.
    Expired { after: Option<HumanDuration> },
    /// What was waited for came.
    TimeCame,
}

impl Run {
    /// Takes in that gate `i` is reached.
    pub(crate) fn gate_opened(
        &mut self,
        i: usize,
        due: Option<Timestamp>,
    ) -> Result<(), ApplyError> {
        self.may_begin(i)?;
        if self.planned(i).gate.is_none() {
            return Err(ApplyError::NoGate { step: self.name(i) });
        }
        self.set(i, State::Open { due, ballots: Vec::new() });
        Ok(())
    }

    /// The gate `i`, which must be an approval, and open.
    fn open_approval(&self, i: usize) -> Result<(&Approval, &[Ballot]), ApplyError> {
        let Some(Gate::Approval(approval)) = &self.planned(i).gate else {
            return Err(ApplyError::NoGate { step: self.name(i) });
        };
        match &self.nodes[i].state {
            State::Open { ballots, .. } => Ok((approval, ballots)),
            State::Waiting => Err(ApplyError::GateNotOpen { step: self.name(i) }),
            State::Items { .. }
            | State::Running { .. }
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. }
            | State::Asking { .. }
            | State::Attention { .. }
            | State::Ended { .. } => Err(ApplyError::StepEnded { step: self.name(i) }),
        }
    }

    /// Whether this vote would count now.
    ///
    /// # Errors
    /// When `step` is no approval or not open, or the voter has no say there.
    pub fn check_vote(&self, step: &StepId, by: &Voter, vote: Vote) -> Result<(), ApplyError> {
        self.may_vote(self.find(step)?, by, vote)
    }

    /// Whether this vote, which was posted at `posted`, would count now: one that came after the gate
    /// had expired does not, although nobody has written the end of the gate down yet.
    ///
    /// # Errors
    /// As [`Run::check_vote`], and when it came too late.
    pub fn check_vote_at(
        &self,
        step: &StepId,
        by: &Voter,
        vote: Vote,
        posted: Timestamp,
    ) -> Result<(), ApplyError> {
        let i = self.find(step)?;
        self.may_vote(i, by, vote)?;
        // It is an open gate, for the vote would count.
        match self.nodes[i].state.due().filter(|due| *due <= posted) {
            Some(due) => Err(ApplyError::MayNotVote {
                step: step.clone(),
                by: by.name.clone(),
                why: format!("it expired at {due}"),
            }),
            None => Ok(()),
        }
    }

    fn may_vote(&self, i: usize, by: &Voter, vote: Vote) -> Result<(), ApplyError> {
        let (approval, ballots) = self.open_approval(i)?;
        let no = |why: String| {
            Err(ApplyError::MayNotVote { step: self.name(i), by: by.name.clone(), why })
        };
        if !approval.from.iter().any(|word| by.is(word)) {
            return no(format!("it asks for {}", approval.from.join(", ")));
        }
        if let Some(why) = self.excludes(i, approval, by) {
            return no(format!("it excludes {why}"));
        }
        // Whoever approved may still reject, but not count twice.
        if vote == Vote::Approve {
            if ballots.iter().any(|ballot| ballot.by.name == by.name) {
                return no("their approval is counted already".to_owned());
            }
            if approval.ordered
                && let Some(next) = approval.from.get(ballots.len())
                && !by.is(next)
            {
                return no(format!("{next} votes next"));
            }
        }
        Ok(())
    }

    /// Why gate `i` excludes `by`, where it does.
    pub(crate) fn excludes<'a>(
        &self,
        i: usize,
        approval: &'a Approval,
        by: &Voter,
    ) -> Option<&'a str> {
        approval.not.iter().find_map(|excluded| match excluded {
            Excluded::Requester if by.name == self.request.by => Some("who asked for the run"),
            Excluded::Builder if Some(by.name.as_str()) == self.builder() => Some("who built it"),
            Excluded::Approvers if self.approved_elsewhere(i, &by.name) => {
                Some("who approved at another gate")
            }
            Excluded::Named(word) if by.is(word) => Some(word.as_str()),
            Excluded::Requester | Excluded::Builder | Excluded::Approvers | Excluded::Named(_) => {
                None
            }
        })
    }

    /// Who made what is released, as the event that started the run says.
    fn builder(&self) -> Option<&str> {
        self.scope.event.get("actor")?.as_str()
    }

    fn approved_elsewhere(&self, i: usize, name: &str) -> bool {
        let kept = |n: usize| {
            let names =
                self.outputs_of(n).and_then(|outputs| outputs.get("approved_by")?.as_array());
            names.is_some_and(|names| names.iter().any(|by| by.as_str() == Some(name)))
        };
        let approved = |n: usize, state: &State| match state.why() {
            Some(Why::Gate(GateEnd::Approved(by))) => by.iter().any(|by| by == name),
            Some(Why::Kept(_)) => self.planned(n).gate.is_some() && kept(n),
            Some(_) | None => state.ballots().iter().any(|ballot| ballot.by.name == name),
        };
        self.nodes.iter().enumerate().any(|(n, node)| n != i && approved(n, &node.state))
    }

    /// Takes in a vote at gate `i`.
    pub(crate) fn voted(
        &mut self,
        i: usize,
        by: &Voter,
        vote: Vote,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        self.may_vote(i, by, vote)?;
        let reason = reason.map(str::to_owned);
        if vote == Vote::Reject {
            let end = GateEnd::Rejected { by: by.name.clone(), reason };
            self.end(i, Outcome::Rejected, at, Some(Why::Gate(end)));
            return Ok(());
        }
        let enough = match &self.planned(i).gate {
            Some(Gate::Approval(approval)) => approval.min as usize,
            Some(Gate::Wait(_)) | None => 0,
        };
        let State::Open { ballots, .. } = &mut self.nodes[i].state else { return Ok(()) };
        ballots.push(Ballot { by: by.clone(), at, reason });
        if ballots.len() >= enough {
            let names: Vec<String> = ballots.iter().map(|ballot| ballot.by.name.clone()).collect();
            self.keep_outputs(i, json!({ "approved_by": names }));
            self.end(i, Outcome::Passed, at, Some(Why::Gate(GateEnd::Approved(names))));
        }
        Ok(())
    }

    /// Takes in that the time of gate `i` came.
    pub(crate) fn gate_due(&mut self, i: usize, at: Timestamp) -> Result<(), ApplyError> {
        let State::Open { due: Some(_), .. } = self.nodes[i].state else {
            return Err(ApplyError::GateNotOpen { step: self.name(i) });
        };
        match &self.planned(i).gate {
            Some(Gate::Approval(approval)) => {
                let end = GateEnd::Expired { after: approval.expires };
                self.end(i, Outcome::Rejected, at, Some(Why::Gate(end)));
            }
            Some(Gate::Wait(_)) => {
                self.keep_outputs(i, json!({}));
                self.end(i, Outcome::Passed, at, Some(Why::Gate(GateEnd::TimeCame)));
            }
            None => return Err(ApplyError::NoGate { step: self.name(i) }),
        }
        Ok(())
    }

    /// Takes in a notification for step `i`, which asks again.
    pub(crate) fn woken(&mut self, i: usize, at: Timestamp) -> Result<(), ApplyError> {
        let State::Asking { attempt, due } = self.nodes[i].state else {
            return Err(ApplyError::NotAsking { step: self.name(i) });
        };
        self.set(i, State::Asking { attempt, due: due.min(at) });
        Ok(())
    }
}
