//! What is remembered of clusters from one round to the next. None of it is
//! truth: it saves work, and keeps from saying things twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_crd::StorageCluster;
use holdfast_runtime::Env;
use kube::ResourceExt;

/// What is known of a cluster that nobody has looked at for so long is dropped:
/// it is gone. Those that are there are looked at each minute.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Claims of others that are remembered: more than a cluster has objects. Beyond
/// that they are taken back again.
const MAX_CLAIMS: usize = 64;
/// A claim that comes back sooner is left: its owner would claim it without end.
const TAKE_BACK_AGAIN: Duration = Duration::from_secs(600);

/// What is known of one cluster beside what is in the API server.
struct Remembered {
    /// When it was last looked at.
    looked: Instant,
    /// The world in which its nodes are called, and the hash of its credential
    /// and of the authorities that are trusted.
    env: Option<([u8; 32], Env)>,
    /// What was last said about what, so that it is said once.
    said: BTreeMap<&'static str, BTreeSet<String>>,
    /// The template of each workload that has gone round last.
    rolled: BTreeMap<String, [u8; 32]>,
    /// What others have claimed of ours, and when it was taken back.
    claims: BTreeMap<String, Instant>,
    /// The generation for which an object was written and read back.
    proved: Option<i64>,
    /// Since when a metadata group has had no leader.
    leaderless: Option<Instant>,
    /// Reconciles that have failed one after the other.
    failures: u32,
}

/// What is remembered, by the resource's identity: one that is made again under
/// the same name has proved nothing yet.
#[derive(Default)]
pub struct Memory {
    /// Held for single look-ups.
    clusters: Mutex<BTreeMap<String, Remembered>>,
}

impl Memory {
    fn with<T>(&self, resource: &StorageCluster, work: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut all = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let uid = resource.uid().unwrap_or_default();
        if !all.contains_key(&uid) {
            all.retain(|_, cluster| now.duration_since(cluster.looked) < FORGET_AFTER);
        }
        let cluster = all.entry(uid).or_insert_with(|| Remembered {
            looked: now,
            env: None,
            said: BTreeMap::new(),
            rolled: BTreeMap::new(),
            claims: BTreeMap::new(),
            proved: None,
            leaderless: None,
            failures: 0,
        });
        cluster.looked = now;
        work(cluster)
    }

    /// The world in which the cluster's nodes are called, if it was made for
    /// this credential.
    pub fn env(&self, resource: &StorageCluster, credential: [u8; 32]) -> Option<Env> {
        self.with(resource, |cluster| {
            let (made_for, env) = cluster.env.as_ref()?;
            (*made_for == credential).then(|| env.clone())
        })
    }

    /// Keeps that world.
    pub fn keep_env(&self, resource: &StorageCluster, credential: [u8; 32], env: Env) {
        self.with(resource, |cluster| cluster.env = Some((credential, env)));
    }

    /// Which of these lines were not said the last time that something was said
    /// about this. All that is to be said now is given at once: two things that
    /// stay would else take turns.
    pub fn news(
        &self,
        resource: &StorageCluster,
        about: &'static str,
        lines: BTreeSet<String>,
    ) -> BTreeSet<String> {
        self.with(resource, |cluster| {
            let before = cluster.said.insert(about, lines.clone());
            let before = before.unwrap_or_default();
            lines.difference(&before).cloned().collect()
        })
    }

    /// Whether a claim to what is ours was taken back a short while ago.
    pub fn was_taken_back(&self, resource: &StorageCluster, claim: &str) -> bool {
        self.with(resource, |cluster| {
            let last = cluster.claims.get(claim);
            last.is_some_and(|at| at.elapsed() < TAKE_BACK_AGAIN)
        })
    }

    /// A claim to what is ours was taken back.
    pub fn note_taken_back(&self, resource: &StorageCluster, claim: String) {
        self.with(resource, |cluster| {
            if cluster.claims.len() >= MAX_CLAIMS {
                cluster.claims.clear();
            }
            cluster.claims.insert(claim, Instant::now());
        });
    }

    /// Notes that a workload's template has gone round.
    pub fn note_rolled(&self, resource: &StorageCluster, workload: &str, template: [u8; 32]) {
        self.with(resource, |cluster| {
            cluster.rolled.insert(workload.to_owned(), template);
        });
    }

    /// Whether this template of a workload was the last to go round.
    pub fn has_rolled(
        &self,
        resource: &StorageCluster,
        workload: &str,
        template: [u8; 32],
    ) -> bool {
        self.with(resource, |cluster| {
            cluster.rolled.get(workload) == Some(&template)
        })
    }

    /// Notes whether every metadata group has a leader, and says for how long
    /// one has had none.
    pub fn leaderless_for(&self, resource: &StorageCluster, led: bool) -> Duration {
        self.with(resource, |cluster| {
            if led {
                cluster.leaderless = None;
                return Duration::ZERO;
            }
            cluster
                .leaderless
                .get_or_insert_with(Instant::now)
                .elapsed()
        })
    }

    /// Notes that a reconcile has failed, and says how many have before it.
    pub fn failed(&self, resource: &StorageCluster) -> u32 {
        self.with(resource, |cluster| {
            let before = cluster.failures;
            cluster.failures = before.saturating_add(1);
            before
        })
    }

    /// Notes that a reconcile has succeeded.
    pub fn succeeded(&self, resource: &StorageCluster) {
        self.with(resource, |cluster| cluster.failures = 0);
    }

    /// Whether an object was written and read back for this generation.
    pub fn is_proved(&self, resource: &StorageCluster) -> bool {
        let generation = resource.metadata.generation;
        self.with(resource, |cluster| {
            cluster.proved.is_some() && cluster.proved == generation
        })
    }

    /// An object was.
    pub fn note_proved(&self, resource: &StorageCluster) {
        let generation = resource.metadata.generation;
        self.with(resource, |cluster| cluster.proved = generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(uid: &str, generation: i64) -> StorageCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "StorageCluster",
            "metadata": {"name": "demo", "uid": uid, "generation": generation},
            "spec": {"nodes": {"storage": {"size": "100Gi"}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_resource_that_is_made_again_under_its_name_has_proved_nothing() {
        let memory = Memory::default();
        memory.note_proved(&resource("first", 1));
        assert!(memory.is_proved(&resource("first", 1)));
        assert!(!memory.is_proved(&resource("first", 2)));
        assert!(!memory.is_proved(&resource("second", 1)));
    }

    #[test]
    fn the_same_is_said_once() {
        let memory = Memory::default();
        let demo = resource("first", 1);
        let is_new =
            |about, line: &str| !memory.news(&demo, about, [line.into()].into()).is_empty();
        assert!(is_new("scale", "draining"));
        assert!(!is_new("scale", "draining"));
        assert!(is_new("drift", "draining"));
        assert!(is_new("scale", "removing"));
        assert!(is_new("scale", "draining"));
    }

    #[test]
    fn two_things_about_one_matter_do_not_take_turns() {
        let memory = Memory::default();
        let demo = resource("first", 1);
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect();
        let first = memory.news(&demo, "lost", lines(&["a answers", "b is unknown"]));
        assert_eq!(first.len(), 2);
        let again = memory.news(&demo, "lost", lines(&["a answers", "b is unknown"]));
        assert_eq!(again.len(), 0);
        let third = memory.news(&demo, "lost", lines(&["a answers", "c is unknown"]));
        assert_eq!(third, lines(&["c is unknown"]));
    }

    #[test]
    fn the_template_that_went_round_is_remembered_and_no_earlier_one() {
        let memory = Memory::default();
        let demo = resource("first", 1);
        memory.note_rolled(&demo, "demo-worker", [1; 32]);
        assert!(memory.has_rolled(&demo, "demo-worker", [1; 32]));
        assert!(!memory.has_rolled(&demo, "demo-gateway", [1; 32]));
        memory.note_rolled(&demo, "demo-worker", [2; 32]);
        assert!(!memory.has_rolled(&demo, "demo-worker", [1; 32]));
    }

    #[test]
    fn failures_count_until_one_succeeds() {
        let memory = Memory::default();
        let demo = resource("first", 1);
        assert_eq!([memory.failed(&demo), memory.failed(&demo)], [0, 1]);
        memory.succeeded(&demo);
        assert_eq!(memory.failed(&demo), 0);
    }
}
