//! What groups are told of the cluster's state, where group 0 is led.
//!
//! Each group goes by what stands in its own log. Who begins to lead group 0
//! tells every group everything once; after that, each hears of what changes.
//! An order carries the revision that it was read from, and a group that knows
//! of a later one keeps that.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use holdfast_metadata::command::{ClusterFacts, Command, MAX_BUCKETS_TOLD};
use holdfast_model::{BucketFacts, BucketId, ClusterState, Epoch, GroupId, ObjectTimes};

use crate::error::WorkError;
use crate::shared::Shared;
use crate::worker::{Round, Worker};

/// How often it is looked whether a group is to be told something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a group has been told.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    times: ObjectTimes,
    /// With the last attempt at deleting each that failed: after it the groups
    /// are told again, since whoever sealed the bucket there may have died.
    buckets: BTreeMap<BucketId, (BucketFacts, Option<Epoch>)>,
}

impl Told {
    fn of(state: &ClusterState) -> Self {
        let facts = state.buckets.iter();
        let facts = facts.filter_map(|bucket| Some((bucket.facts()?, bucket.refused)));
        Self {
            times: state.times,
            buckets: facts.map(|facts| (facts.0.id, facts)).collect(),
        }
    }
}

/// What to tell a group that has been told `told`: the times with the last of
/// the buckets. Buckets to forget are told when they are settled.
fn plan_facts(told: Option<&Told>, state: &ClusterState) -> Vec<ClusterFacts> {
    let now = Told::of(state);
    let known = |id: &BucketId| told.and_then(|told| told.buckets.get(id));
    let new: Vec<BucketFacts> = now
        .buckets
        .iter()
        .filter(|(id, facts)| known(id) != Some(facts))
        .map(|(_, (facts, _))| *facts)
        .collect();
    let facts = |buckets: &[BucketFacts]| ClusterFacts {
        revision: state.revision,
        times: None,
        buckets: buckets.to_vec(),
        removed: Vec::new(),
    };
    let mut orders: Vec<ClusterFacts> = new.chunks(MAX_BUCKETS_TOLD).map(facts).collect();
    if told.is_none_or(|told| told.times != now.times) {
        if orders.is_empty() {
            orders.push(facts(&[]));
        }
        if let Some(last) = orders.last_mut() {
            last.times = Some(now.times);
        }
    }
    orders
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
            let orders = plan_facts(self.told.get(&group), &state);
            (!orders.is_empty()).then_some((group, orders))
        });
        let shared = &self.shared;
        let telling =
            orders.map(|(group, orders)| async move { (group, tell(shared, group, orders).await) });
        let mut failed = None;
        let mut count = 0;
        for (group, result) in join_all(telling).await {
            match result {
                Ok(()) => {
                    count += 1;
                    self.told.insert(group, Told::of(&state));
                }
                Err(error) => failed = Some(error),
            }
        }
        // One that a crash has left half deleted, or that a gateway is at.
        for bucket in state.buckets.iter().filter(|b| b.deletion.is_some()) {
            if let Err(error) = self.shared.settle_bucket(bucket.id).await {
                failed = Some(error);
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

async fn tell(shared: &Shared, group: GroupId, orders: Vec<ClusterFacts>) -> Result<(), WorkError> {
    for facts in orders {
        let command = Command::Learn(Box::new(facts));
        shared.propose(group, "what it is to know", command).await?;
    }
    Ok(())
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
    use holdfast_model::{Bucket, BucketName, ClusterId, Timestamp, Versioning};

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
            active: Default::default(),
        }
    }

    fn bucket(number: u16) -> Bucket {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let name = BucketName::new(format!("bucket-{number}")).unwrap();
        Bucket::new(BucketId::from_bytes(id), name, Timestamp(0))
    }

    #[test]
    fn is_a_group_told_once_and_again_of_what_has_changed() {
        let mut state = state();
        state.buckets = vec![bucket(1), bucket(2)];
        let orders = plan_facts(None, &state);
        assert_eq!(orders.len(), 1);
        assert_eq!(orders[0].times, Some(state.times));
        assert_eq!(orders[0].buckets.len(), 2);
        let told = Told::of(&state);
        state.revision = Epoch(8);
        assert_eq!(plan_facts(Some(&told), &state), []);
        state.times.expiry_grace = 5_000;
        state.buckets[1].versioning = Versioning::Enabled;
        let orders = plan_facts(Some(&told), &state);
        assert_eq!(orders.len(), 1);
        assert_eq!(orders[0].revision, Epoch(8));
        assert_eq!(orders[0].times, Some(state.times));
        assert_eq!(orders[0].buckets, [state.buckets[1].facts().unwrap()]);
    }

    #[test]
    fn are_groups_told_again_after_a_deletion_that_this_controller_never_saw() {
        let mut state = state();
        state.buckets = vec![bucket(1)];
        let told = Told::of(&state);
        state.buckets[0].refused = Some(Epoch(9));
        let orders = plan_facts(Some(&told), &state);
        assert_eq!(orders[0].buckets, [state.buckets[0].facts().unwrap()]);
    }

    #[test]
    fn do_the_times_come_with_the_last_of_many_buckets() {
        let mut state = state();
        state.buckets = (0..2_500).map(bucket).collect();
        let orders = plan_facts(None, &state);
        let counts: Vec<usize> = orders.iter().map(|o| o.buckets.len()).collect();
        assert_eq!(counts, [1_000, 1_000, 500]);
        let times: Vec<bool> = orders.iter().map(|o| o.times.is_some()).collect();
        assert_eq!(times, [false, false, true]);
    }
}
