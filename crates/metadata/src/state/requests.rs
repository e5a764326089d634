//! Remembered outcomes: a command that arrives twice is done once.
//!
//! A request's id begins with its sender's clock. An outcome is remembered
//! until the group's time is [`REMEMBER_OUTCOME_MILLIS`] past that clock, and
//! a request older than that whose outcome is not known is refused as unknown:
//! so no request is ever done twice, however late a copy of it comes.
//!
//! Refusals are remembered as well. Were they not, this could happen: a commit
//! is proposed twice, the first copy is refused and its sender told so, the
//! second succeeds. Two refusals say nothing about the command and are
//! forgotten: that the object is another group's, and that the outcome is
//! unknown. Some commands are the same whether done once or often, and are not
//! remembered at all: [`is_remembered`].

use holdfast_model::{RequestId, Timestamp};

use super::Machine;
use super::keys::{self, Table};
use super::rows;
use crate::command::{ClusterCommand, Command, Outcome, REMEMBER_OUTCOME_MILLIS, Refusal, Request};
use crate::store::{Rows, StoreError};

/// Whether doing the command once more would matter.
fn is_remembered(command: &Command) -> bool {
    match command {
        // A tick does what is due. Publishing again only repeats hints, and its
        // outcome is large. Beginning an upload again renews it, and one that
        // was given up stays so. Generations only grow, and rows of garbage are
        // never numbered twice. Of what is told the later revision stays.
        Command::Tick
        | Command::Learn(_)
        | Command::PublishTasks { .. }
        | Command::BeginUpload { .. }
        | Command::AbortUpload { .. }
        | Command::AdvanceGeneration
        | Command::RaiseFloor { .. }
        | Command::CollectedGarbage { .. } => false,
        // The outcome is the whole state; the incarnation fences older ones.
        Command::Cluster(change) => !matches!(**change, ClusterCommand::Join { .. }),
        _ => true,
    }
}

/// The sender's clock when it made the request.
fn sent(id: RequestId) -> Timestamp {
    let millis = id.as_bytes().iter().take(6);
    Timestamp(millis.fold(0, |time, byte| time << 8 | u64::from(*byte)))
}

/// From when on the outcome of a request made at `sent` is not known.
fn forgotten_at(sent: Timestamp) -> Timestamp {
    sent.plus(REMEMBER_OUTCOME_MILLIS + 1)
}

impl Machine<'_, '_> {
    /// The outcome of a request that came before.
    pub(super) fn remembered(&self, request: &Request) -> Result<Option<Outcome>, StoreError> {
        if !is_remembered(&request.command) {
            return Ok(None);
        }
        if forgotten_at(sent(request.id)) <= self.now() {
            return Ok(Some(Outcome::Refused(Refusal::OutcomeUnknown)));
        }
        rows::read(self.rows, &keys::request(request.id))
    }

    pub(super) fn remember(
        &mut self,
        request: &Request,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        if is_remembered(&request.command) && *outcome != Outcome::Refused(Refusal::WrongGroup) {
            self.put(&keys::request(request.id), outcome)?;
        }
        Ok(())
    }

    /// Forgets up to `limit` outcomes that are old enough; says how many.
    pub(super) fn forget_outcomes(&mut self, limit: usize) -> Result<usize, StoreError> {
        let Some(before) = self.now().0.checked_sub(REMEMBER_OUTCOME_MILLIS) else {
            return Ok(0);
        };
        let from = keys::requests_from(Timestamp(0));
        let to = keys::requests_from(Timestamp(before));
        let old = rows::page(self.rows, &from, &to, limit)?;
        for (key, _) in &old {
            self.rows.delete(key)?;
        }
        Ok(old.len())
    }
}

/// When the oldest remembered outcome is to be forgotten.
pub(super) fn next_forgotten(view: &impl Rows) -> Result<Option<Timestamp>, StoreError> {
    let start = keys::RowKey::new(Table::Requests).done();
    let first = rows::prefixed(view, &start, 1)?.pop();
    let Some((key, _)) = first else {
        return Ok(None);
    };
    let id = RequestId::from_bytes(keys::KeyReader::after_table(&key).take()?);
    Ok(Some(forgotten_at(sent(id))))
}
