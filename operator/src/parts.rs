//! The parts beside the storage nodes: whether what was asked for last runs, and
//! what is away. Judged by the objects as they are after this round's writes.
//!
//! A round that is not at its end takes Ready away; a pod that is away does not,
//! and is told by Degraded.

use holdfast_crd::{CacheType, StorageClusterSpec};
use holdfast_plan::names::{self, Component};
use holdfast_plan::{ChildKind, brokers};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::apply::brokers::serving;
use crate::lifecycle::pod_sight;
use crate::memory::Memory;
use crate::observe::Observed;
use crate::workloads::{self, Round};

/// A pod that has not been ready for less than this is on its way: a process that
/// starts may end once because what it needs starts as well.
const SURE_AFTER_SECONDS: i64 = 10;

/// A part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its workload's name.
    pub workload: String,
    /// How many pods were asked for; the least of what an autoscaler may choose.
    pub least: i64,
    /// How many are available.
    pub available: i64,
    /// Whether the newest template goes round.
    pub rolling: bool,
    /// What a pod that does not start says, or why there is none.
    pub failure: Option<String>,
}

/// What is to be known of all parts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// Gateways, workers, and what the operator runs of brokers and caches.
    pub all: Vec<Part>,
    /// Workloads that are to change when others have: in an order, or when what
    /// they change over to is ready.
    pub held: Vec<String>,
    /// Whether the storage nodes' controller has not looked at what was written.
    pub nodes_unseen: bool,
}

impl Parts {
    /// Why what was asked for does not run everywhere yet; `None` where it does.
    pub fn rolling(&self) -> Option<String> {
        let mut all = self.all.iter();
        if let Some(part) = all.find(|part| part.rolling) {
            let Part {
                workload,
                least,
                available,
                ..
            } = part;
            return Some(format!(
                "{workload} goes to its newest revision: {available} of {least} pods are available"
            ));
        }
        if self.nodes_unseen {
            return Some("the storage nodes' StatefulSet was changed".into());
        }
        let held = self.held.first()?;
        Some(format!(
            "{held} is changed when what comes before it is done"
        ))
    }

    /// What holds up a round until a person does something.
    pub fn stopped(&self) -> Option<String> {
        let mut rolling = self.all.iter().filter(|part| part.rolling);
        let (part, why) = rolling.find_map(|part| Some((part, part.failure.as_ref()?)))?;
        Some(format!(
            "{} does not come up with what was asked for: {why}",
            part.workload
        ))
    }

    /// Which pods are away; `None` where none is.
    pub fn away(&self) -> Option<String> {
        let away = self.all.iter().filter(|part| part.available < part.least);
        let told: Vec<String> = away
            .map(|part| {
                let Part {
                    workload,
                    least,
                    available,
                    failure,
                    ..
                } = part;
                let why = failure.as_ref().map(|why| format!(": {why}"));
                format!(
                    "{available} of {least} pods of {workload} are available{}",
                    why.unwrap_or_default()
                )
            })
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// What a pod says that does not start.
    pub fn failing(&self) -> Option<String> {
        let mut all = self.all.iter();
        all.find_map(|part| Some(format!("{}: {}", part.workload, part.failure.as_ref()?)))
    }
}

/// Looks at all parts, and keeps in mind which templates have gone round.
pub fn look(observed: &Observed, held: Vec<String>, memory: &Memory, now_seconds: i64) -> Parts {
    let (spec, name) = (&observed.resource.spec, &observed.name);
    let parts = asked(spec).into_iter().map(|(component, kind, least)| {
        let workload = workload(spec, name, component);
        let live = observed.children.get(&(kind, workload.clone()));
        let live = live.map(whole);
        let known = live.as_ref().map(|live| {
            let digest = workloads::template_digest(live);
            (
                digest,
                memory.has_rolled(&observed.resource, &workload, digest),
            )
        });
        let pods = observed.pods.iter().filter(|pod| {
            pod.labels().get(names::COMPONENT_LABEL).map(String::as_str) == Some(component.as_str())
        });
        let failure = failure(pods, now_seconds);
        let rolled = known.is_some_and(|(_, rolled)| rolled);
        let mut part = judge(kind, workload, live.as_ref(), least, rolled, failure);
        if component == Component::Rabbitmq {
            look_at_others(observed, &mut part);
        }
        if let (false, Some((digest, _))) = (part.rolling, known) {
            memory.note_rolled(&observed.resource, &part.workload, digest);
        }
        part
    });
    let all = if spec.hibernate {
        Vec::new()
    } else {
        parts.collect()
    };
    Parts {
        all,
        held,
        nodes_unseen: nodes_unseen(observed, memory),
    }
}

/// What the pods of a part are made by.
fn workload(spec: &StorageClusterSpec, name: &str, component: Component) -> String {
    match brokers::managed(spec) {
        Some(queue) if component == Component::Rabbitmq => brokers::set(name, &queue),
        _ => names::workload(name, component),
    }
}

/// While brokers of another shape serve, these are on their way, and nothing is
/// missing that the others do not lack.
fn look_at_others(observed: &Observed, part: &mut Part) {
    let children = &observed.children;
    let serving = serving(&observed.name, children).filter(|set| *set != part.workload);
    let serving = serving.and_then(|set| children.get(&(ChildKind::StatefulSet, set)));
    if let Some(serving) = serving.map(whole) {
        part.rolling = true;
        if workloads::available(&serving) >= workloads::wanted(&serving) {
            part.available = part.available.max(part.least);
        }
    }
}

fn whole(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// The parts that a spec asks for, with their kinds and the least number of pods.
fn asked(spec: &StorageClusterSpec) -> Vec<(Component, ChildKind, i64)> {
    let gateways = spec
        .gateway
        .autoscale
        .map_or(spec.gateway.replicas, |scale| scale.min);
    let workers = spec
        .worker
        .autoscale
        .map_or(spec.worker.replicas, |scale| scale.min);
    let queue = brokers::managed(spec).map(|queue| queue.replicas);
    let cache = (spec.cache.kind == CacheType::Managed).then_some(1);
    let deployment = ChildKind::Deployment;
    [
        (Component::Gateway, deployment, Some(gateways)),
        (Component::Worker, deployment, Some(workers)),
        (Component::Rabbitmq, ChildKind::StatefulSet, queue),
        (Component::Redis, deployment, cache),
    ]
    .into_iter()
    .filter_map(|(part, kind, least)| Some((part, kind, i64::from(least?))))
    .collect()
}

/// Judges one part; `rolled` is whether this very template has gone round before:
/// a controller that has not looked again has then only another number to see.
fn judge(
    kind: ChildKind,
    workload: String,
    live: Option<&Value>,
    least: i64,
    rolled: bool,
    failure: Option<String>,
) -> Part {
    let available = live.map_or(0, workloads::available);
    let going = |live: &Value| live.pointer("/metadata/deletionTimestamp").is_some();
    let rolling = live.is_none_or(|live| {
        going(live)
            || match workloads::round(kind, live) {
                Round::Done => false,
                Round::NotSeen => !rolled,
                Round::UnderWay => true,
            }
    });
    let lacks = rolling || available < least;
    let refused = live.filter(|_| lacks).and_then(workloads::refused_pods);
    Part {
        workload,
        least,
        available,
        rolling,
        failure: failure.or(refused),
    }
}

/// What the first pod says that is not about to be ready.
fn failure<'p>(pods: impl Iterator<Item = &'p Pod>, now_seconds: i64) -> Option<String> {
    let mut told = pods.filter_map(|pod| {
        let sight = pod_sight(pod, now_seconds);
        let late = !sight.deleting && sight.not_ready_seconds >= SURE_AFTER_SECONDS;
        let why = match (sight.failure, sight.unschedulable) {
            (Some(said), _) => said,
            (None, Some(why)) => format!("no machine takes it: {why}"),
            (None, None) => return None,
        };
        late.then(|| format!("{}: {why}", pod.name_any()))
    });
    told.next()
}

/// Whether the controller of the storage nodes' StatefulSet has still to look at
/// a template that has not gone round.
fn nodes_unseen(observed: &Observed, memory: &Memory) -> bool {
    let name = names::node_set(&observed.name);
    let Some(live) = observed
        .children
        .get(&(ChildKind::StatefulSet, name.clone()))
    else {
        return true;
    };
    let live = whole(live);
    let digest = workloads::template_digest(&live);
    let number = |path: &str| live.pointer(path).and_then(Value::as_i64);
    let seen = number("/status/observedGeneration") == number("/metadata/generation");
    if seen {
        memory.note_rolled(&observed.resource, &name, digest);
    }
    !seen && !memory.has_rolled(&observed.resource, &name, digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: i64, updated: i64, available: i64, reason: &str) -> Value {
        json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": 2, "template": {"spec": {}}},
            "status": {
                "observedGeneration": 3, "replicas": 2, "updatedReplicas": updated,
                "availableReplicas": available,
                "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
            },
        })
    }

    fn part(live: Option<&Value>, rolled: bool, failure: Option<&str>) -> Parts {
        let failure = failure.map(str::to_owned);
        let kind = ChildKind::Deployment;
        let one = judge(kind, "demo-worker".into(), live, 2, rolled, failure);
        Parts {
            all: vec![one],
            ..Parts::default()
        }
    }

    const GONE_ROUND: &str = "NewReplicaSetAvailable";
    const GOES: &str = "ReplicaSetUpdated";

    #[test]
    fn what_was_just_written_goes_round_unless_only_the_number_is_another() {
        let whole = deployment(3, 2, 2, GONE_ROUND);
        assert_eq!(part(Some(&whole), false, None).rolling(), None);
        assert_eq!(part(Some(&whole), false, None).away(), None);
        let written = deployment(4, 2, 2, GONE_ROUND);
        assert!(part(Some(&written), false, None).rolling().is_some());
        assert_eq!(part(Some(&written), true, None).rolling(), None);
        assert!(part(None, false, None).rolling().is_some(), "not made yet");
    }

    #[test]
    fn a_lost_pod_degrades_and_holds_up_nothing() {
        let lost = part(
            Some(&deployment(3, 2, 1, GONE_ROUND)),
            true,
            Some("demo-worker-x: gone"),
        );
        assert_eq!((lost.rolling(), lost.stopped()), (None, None));
        let told = lost.away().unwrap();
        assert!(
            told.contains("1 of 2") && told.ends_with("demo-worker-x: gone"),
            "{told}"
        );
    }

    #[test]
    fn a_pod_that_does_not_start_stops_the_round_with_what_it_says() {
        let round = part(
            Some(&deployment(3, 1, 2, GOES)),
            false,
            Some("demo-worker-x: no such setting"),
        );
        assert!(round.rolling().unwrap().contains("demo-worker"));
        assert!(round.stopped().unwrap().ends_with("no such setting"));
        // The old ones serve on.
        assert_eq!(round.away(), None);
        assert!(round.failing().unwrap().contains("no such setting"));
    }

    #[test]
    fn what_waits_for_its_turn_is_not_in_place() {
        let mut parts = part(Some(&deployment(3, 2, 2, GONE_ROUND)), false, None);
        parts.held.push("demo-worker".into());
        assert!(parts.rolling().unwrap().contains("demo-worker"));
        let unseen = Parts {
            nodes_unseen: true,
            ..Parts::default()
        };
        assert!(unseen.rolling().is_some());
    }

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_last_words_of_any_part_are_told_when_it_is_late() {
        let crashing = pod(json!({
            "metadata": {"name": "demo-worker-x", "labels": {}},
            "status": {
                "conditions": [{"type": "Ready", "status": "False",
                    "lastTransitionTime": "1970-01-01T00:01:40Z"}],
                "containerStatuses": [{
                    "name": "worker", "image": "i", "imageID": "i", "ready": false,
                    "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "Error: no queue"}},
                }],
            },
        }));
        let at = |seconds: i64| failure([&crashing].into_iter(), seconds);
        assert_eq!(at(105), None);
        assert_eq!(at(115).as_deref(), Some("demo-worker-x: no queue"));
    }

    #[test]
    fn an_autoscaler_may_choose_more_and_others_queues_are_no_parts() {
        let spec = |value: Value| serde_json::from_value(value).unwrap();
        let storage = json!({"storage": {"size": "100Gi"}});
        let least = |spec: &StorageClusterSpec| -> Vec<_> {
            asked(spec)
                .into_iter()
                .map(|(part, _, least)| (part, least))
                .collect()
        };
        let ours = least(&spec(json!({"nodes": storage})));
        assert_eq!(ours.len(), 4);
        let others = least(&spec(json!({
            "nodes": storage,
            "gateway": {"replicas": 5, "autoscale": {"min": 2, "max": 9, "targetCpuPercent": 60}},
            "worker": {"replicas": 0},
            "queue": {"type": "External", "external": {"secretName": "mq"}},
            "cache": {"type": "External", "external": {"secretName": "redis"}},
        })));
        assert_eq!(others, [(Component::Gateway, 2), (Component::Worker, 0)]);
    }
}
