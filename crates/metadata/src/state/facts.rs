//! What a group knows of the cluster's state: the times that its objects live by.
//!
//! Group 0 decides them, and each group hears of them in a command of its own
//! log, so that all its replicas go by the same at each index. Each is told
//! with the revision that it is of; of two the later one stays, in whatever
//! order they come.

use holdfast_model::ClusterState;

use super::rows::{self, KnownRow};
use super::{Applied, Machine, invalid, keys};
use crate::command::{ClusterFacts, Outcome};
use crate::store::{Row, Rows, StoreError};

/// What a group knows from its birth.
pub(super) fn first_rows(state: &ClusterState) -> Vec<Row> {
    let known = KnownRow {
        times_revision: state.revision,
        times: state.times,
    };
    vec![(keys::known(), rows::encode(&known))]
}

/// What a group knows.
pub(super) fn read(view: &impl Rows) -> Result<KnownRow, StoreError> {
    Ok(rows::read(view, &keys::known())?.unwrap_or_default())
}

impl Machine<'_, '_> {
    pub(super) fn learn(&mut self, facts: &ClusterFacts) -> Applied {
        let Some(times) = facts.times else {
            return Ok(Outcome::Done);
        };
        times.check().map_err(invalid)?;
        if facts.revision >= self.known.times_revision {
            self.known.times_revision = facts.revision;
            self.known.times = times;
            let known = self.known.clone();
            self.put(&keys::known(), &known)?;
        }
        Ok(Outcome::Done)
    }
}
