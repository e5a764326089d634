//! What groups are told of the cluster's state, where group 0 is led.
//!
//! Each group goes by what stands in its own log. Who begins to lead group 0
//! tells every group everything once; after that, each hears of what changes.
//! An order carries the revision that it was read from, and a group that knows
//! of a later one keeps that.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use holdfast_metadata::command::{ClusterFacts, Command};
use holdfast_model::{ClusterState, GroupId, ObjectTimes};

use crate::error::WorkError;
use crate::shared::Shared;
use crate::worker::{Round, Worker};

/// How often it is looked whether a group is to be told something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a group has been told.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Told {
    times: ObjectTimes,
}

impl Told {
    fn of(state: &ClusterState) -> Self {
        Self { times: state.times }
    }
}

/// What to tell a group that has been told `told`; `None` when nothing.
fn plan_facts(told: Option<&Told>, state: &ClusterState) -> Option<ClusterFacts> {
    let now = Told::of(state);
    (told != Some(&now)).then_some(ClusterFacts {
        revision: state.revision,
        times: Some(now.times),
    })
}

/// Tells the groups.
pub(crate) struct FactsWork {
    shared: Shared,
    told: BTreeMap<GroupId, Told>,
}

impl FactsWork {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            told: BTreeMap::new(),
        }
    }

    async fn step(&mut self) -> Result<Round, WorkError> {
        if !(self.shared.leads)(GroupId::CLUSTER) {
            self.told.clear();
            return Ok(Round::Idle("group 0 is led elsewhere".into()));
        }
        let state = self.shared.state()?;
        let orders = state.layout.data_groups().into_iter().filter_map(|group| {
            let facts = plan_facts(self.told.get(&group), &state)?;
            Some((group, facts))
        });
        let shared = &self.shared;
        let telling = orders.map(|(group, facts)| async move {
            let command = Command::Learn(Box::new(facts));
            (
                group,
                shared.propose(group, "what it is to know", command).await,
            )
        });
        let mut failed = None;
        let mut count = 0;
        for (group, result) in join_all(telling).await {
            match result {
                Ok(_) => {
                    count += 1;
                    self.told.insert(group, Told::of(&state));
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Round::Idle(format!(
                "told {count} groups as of revision {}",
                state.revision
            ))),
        }
    }
}

impl Worker for FactsWork {
    fn name(&self) -> &'static str {
        "facts"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.step())
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{ClusterId, Epoch};

    use super::*;
    use crate::scenario::Scenario;

    fn state() -> ClusterState {
        ClusterState {
            cluster: ClusterId::from_bytes([1; 16]),
            revision: Epoch(7),
            layout: Scenario::read("1 a active\ngroup 1: 1*").layout,
            buckets: Vec::new(),
            access_keys: Vec::new(),
            permit: None,
            next_permit: Epoch(1),
            times: ObjectTimes::default(),
        }
    }

    #[test]
    fn is_a_group_told_once_and_again_when_something_has_changed() {
        let mut state = state();
        let facts = plan_facts(None, &state).unwrap();
        assert_eq!((facts.revision, facts.times), (Epoch(7), Some(state.times)));
        let told = Told::of(&state);
        state.revision = Epoch(8);
        assert_eq!(plan_facts(Some(&told), &state), None);
        state.times.expiry_grace = 5_000;
        let facts = plan_facts(Some(&told), &state).unwrap();
        assert_eq!((facts.revision, facts.times), (Epoch(8), Some(state.times)));
    }
}
