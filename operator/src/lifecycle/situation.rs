//! What decisions are made of: plain values, so that a test can make them.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_crd::StorageCluster;
use holdfast_model::{LayoutNode, NodeId, NodeState, Supported};
use holdfast_plan::names;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::nodes::Sight;
use crate::observe::{Machine, Observed, is_smaller};
use crate::workloads::common_tag;

/// A storage node's pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodSight {
    /// The revision of the StatefulSet that it was made of.
    pub revision: String,
    /// Whether it is ready.
    pub ready: bool,
    /// For how many seconds it has not been.
    pub not_ready_seconds: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The machine that it runs on.
    pub machine: Option<String>,
    /// What its process said when it last ended by itself, while it is not ready.
    pub failure: Option<String>,
    /// Why no machine takes it.
    pub unschedulable: Option<String>,
}

/// A storage node's volume claim.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClaimSight {
    /// Its identity.
    pub uid: String,
    /// Whether it asks for less than is wanted.
    pub smaller: bool,
    /// Whether it has all the room that it asks for.
    pub grown: bool,
    /// The node that was removed from it.
    pub removed: Option<NodeId>,
}

/// What is there.
pub struct Situation<'a> {
    /// The time, in seconds since 1970.
    pub now_seconds: i64,
    /// The resource.
    pub resource: &'a StorageCluster,
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The StatefulSet.
    pub set: Option<&'a StatefulSet>,
    /// Pods, by ordinal.
    pub pods: BTreeMap<u32, PodSight>,
    /// Claims, by ordinal.
    pub claims: BTreeMap<u32, ClaimSight>,
    /// Whether claims can grow; `None` where none is too small.
    pub can_grow: Option<bool>,
    /// Machines, by name.
    pub machines: &'a BTreeMap<String, Machine>,
    /// What the nodes say.
    pub sight: &'a Sight,
    /// For how long they have not had a leader for every group, as far as this
    /// operator has looked.
    pub leaderless: Duration,
    /// What this operator can speak.
    pub own: Supported,
    /// The tag that all parts run with, gateways and workers rolled out.
    pub common_tag: Option<String>,
}

impl<'a> Situation<'a> {
    /// What was observed, at a time in seconds since 1970, of a cluster that has
    /// its leaders.
    pub fn of(observed: &'a Observed, now_seconds: i64) -> Self {
        let pods = observed
            .pods
            .iter()
            .filter_map(|pod| {
                let ordinal = names::node_ordinal(&observed.name, &pod.name_any())?;
                Some((ordinal, pod_sight(pod, now_seconds)))
            })
            .collect();
        let wanted = &observed.resource.spec.nodes.storage.size;
        let claims = observed
            .claims
            .iter()
            .map(|(ordinal, claim)| {
                let capacity = claim
                    .status
                    .as_ref()
                    .and_then(|status| status.capacity.as_ref()?.get("storage").cloned());
                let bytes = holdfast_plan::quantity::bytes;
                let sight = ClaimSight {
                    uid: claim.uid().unwrap_or_default(),
                    smaller: is_smaller(claim, wanted),
                    grown: capacity.as_ref().and_then(bytes) >= bytes(wanted),
                    removed: removed_from(claim),
                };
                (*ordinal, sight)
            })
            .collect();
        Self {
            now_seconds,
            resource: &observed.resource,
            name: &observed.name,
            namespace: &observed.namespace,
            set: observed.set.as_ref(),
            pods,
            claims,
            can_grow: observed.can_grow,
            machines: &observed.machines,
            sight: &observed.sight,
            leaderless: Duration::ZERO,
            own: observed.own,
            common_tag: common_tag(&observed.children, &observed.name),
        }
    }

    /// How many storage nodes are asked for.
    pub fn wanted(&self) -> u32 {
        self.resource.spec.nodes.replicas
    }

    /// How many there are to be while nothing is decided: those of the
    /// StatefulSet, or of volumes that were kept, or those asked for.
    pub fn replicas_now(&self) -> u32 {
        let spec = self.set.and_then(|set| set.spec.as_ref());
        let replicas = spec.and_then(|spec| spec.replicas);
        match replicas.and_then(|count| u32::try_from(count).ok()) {
            // A cluster that wakes up has none, and as many volumes as nodes.
            Some(count) if count > 0 => count,
            _ => {
                let kept = self.claims.keys().filter(|at| !self.is_retired(**at));
                let kept = kept.max().map_or(0, |last| last + 1);
                kept.max(self.wanted())
            }
        }
    }

    /// Whether a volume is kept of a node that was found empty and removed: it
    /// asks for no node.
    fn is_retired(&self, ordinal: u32) -> bool {
        let claim = self.claims.get(&ordinal);
        let removed = claim.and_then(|claim| claim.removed);
        // Where the cluster is heard, it has the last word.
        let empty = |id| {
            let node = self.sight.node(id);
            node.is_none_or(|node| matches!(node.state, NodeState::Drained | NodeState::Lost))
        };
        ordinal >= self.wanted() && removed.is_some_and(empty)
    }

    /// How many storage nodes others may take away: one while every object has
    /// all its copies and nobody works on a node. Where there is no redundancy
    /// waiting would change nothing.
    pub fn disruptions(&self) -> u32 {
        u32::from(self.keeps_all_nodes().is_none())
    }

    /// Why others may take no storage node away; `None` where they may.
    pub fn keeps_all_nodes(&self) -> Option<String> {
        if self.resource.spec.redundancy.copies < 2 {
            return None;
        }
        if let Some(permit) = self.sight.permit() {
            return Some(format!("the maintenance permit is held: {}", permit.reason));
        }
        if !self.sight.all_led() {
            return Some("a metadata group has no leader".into());
        }
        match self.sight.counts() {
            None => Some("the objects are being counted".into()),
            Some(counts) if counts.clean() => None,
            Some(counts) if counts.silent_disks > 0 => {
                Some(format!("{} disks do not answer", counts.silent_disks))
            }
            Some(counts) => Some(format!("{} objects lack a copy", counts.lacking())),
        }
    }

    /// Where a node is called.
    pub fn address(&self, ordinal: u32) -> String {
        names::node_address(self.name, self.namespace, ordinal)
    }

    /// The layout's node with this ordinal.
    pub fn node(&self, ordinal: u32) -> Option<&'a LayoutNode> {
        let found = match self.sight.nodes.get(&ordinal) {
            // What answers there is the one, whatever was there before.
            Some(status) => self.sight.node(status.node),
            None => self.sight.node_at(&self.address(ordinal)),
        };
        found.filter(|node| node.state != NodeState::Lost)
    }

    /// The ordinal of a node of the layout.
    pub fn ordinal_of(&self, node: &LayoutNode) -> Option<u32> {
        let host = node.address.split('.').next()?;
        names::node_ordinal(self.name, host)
    }

    /// Whether a pod was made of an older revision, as far as the StatefulSet's
    /// controller has looked at its newest generation.
    pub fn is_outdated(&self, pod: &PodSight) -> bool {
        self.newest_revision()
            .is_some_and(|revision| pod.revision != revision)
    }

    /// Pods of an older revision, by ordinal.
    pub fn outdated(&self) -> impl DoubleEndedIterator<Item = (u32, &PodSight)> {
        let all = self.pods.iter();
        let pods = all.filter(move |(_, pod)| self.is_outdated(pod));
        pods.map(|(ordinal, pod)| (*ordinal, pod))
    }

    /// Whether the controller of StatefulSets has seen the newest one.
    pub fn newest_revision(&self) -> Option<&'a str> {
        let set = self.set?;
        let status = set.status.as_ref()?;
        if status.observed_generation != set.metadata.generation {
            return None;
        }
        status.update_revision.as_deref()
    }

    /// The node that is drained to be removed.
    pub fn marked(&self) -> Option<NodeId> {
        let set = self.set?;
        set.annotations().get(super::scale::MARK)?.parse().ok()
    }
}

fn removed_from(claim: &PersistentVolumeClaim) -> Option<NodeId> {
    claim.annotations().get(names::REMOVED_NODE)?.parse().ok()
}

/// What is to be seen of a pod, of any part, at a time in seconds since 1970.
pub fn pod_sight(pod: &k8s_openapi::api::core::v1::Pod, now_seconds: i64) -> PodSight {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|one| one.type_ == "Ready"));
    let is_ready = ready.is_some_and(|one| one.status == "True");
    let since = ready
        .and_then(|one| one.last_transition_time.as_ref())
        .or(pod.metadata.creation_timestamp.as_ref())
        .map_or(now_seconds, |time| time.0.as_second());
    let mut placing = conditions.into_iter().flatten();
    let refused = placing.find(|one| {
        one.type_ == "PodScheduled"
            && one.status == "False"
            && one.reason.as_deref() == Some("Unschedulable")
    });
    let revision = pod.labels().get("controller-revision-hash");
    PodSight {
        revision: revision.cloned().unwrap_or_default(),
        ready: is_ready,
        not_ready_seconds: if is_ready { 0 } else { now_seconds - since },
        deleting: pod.metadata.deletion_timestamp.is_some(),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        unschedulable: refused.map(|one| one.message.clone().unwrap_or_default()),
        failure: (!is_ready).then(|| failure_of(pod)).flatten(),
    }
}

/// The longest that is told of what a process said, in characters.
const MAX_FAILURE_CHARACTERS: usize = 400;

/// Why a container is not even started, where the kubelet has given up for a
/// while or cannot begin.
const NOT_STARTED: [&str; 4] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// What a pod's process said last before it ended with an error, or why it was
/// never started.
fn failure_of(pod: &k8s_openapi::api::core::v1::Pod) -> Option<String> {
    let containers = || {
        pod.status
            .iter()
            .flat_map(|s| s.container_statuses.iter().flatten())
    };
    let mut waiting = containers().filter_map(|one| one.state.as_ref()?.waiting.as_ref());
    let not_started = waiting.find_map(|waiting| {
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.as_deref().unwrap_or_default();
        NOT_STARTED.contains(&reason).then(|| {
            let told = format!("{reason}: {message}");
            told.chars().take(MAX_FAILURE_CHARACTERS).collect()
        })
    });
    if not_started.is_some() {
        return not_started;
    }
    let ends = containers().flat_map(|container| [&container.state, &container.last_state]);
    let mut ends = ends.filter_map(|state| state.as_ref()?.terminated.as_ref());
    let end = ends.find(|end| end.exit_code != 0)?;
    let said = end.message.as_deref().and_then(said_last);
    // Images of others leave no words.
    Some(said.unwrap_or_else(|| format!("its process ends with code {}", end.exit_code)))
}

/// The sentence of the last line of a log: what ended the process.
fn said_last(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| !line.trim().is_empty())?;
    let logged: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let sentence = logged.as_ref().and_then(|line| {
        let fields = ["/fields/fatal", "/fields/error", "/fields/message"];
        let mut found = fields.iter().filter_map(|field| line.pointer(field));
        found.next()?.as_str()
    });
    let plain = line.trim().trim_start_matches("Error: ");
    let told = sentence.unwrap_or(plain).chars();
    Some(told.take(MAX_FAILURE_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_said_last_is_found_in_its_log() {
        let said = |log: &str| said_last(log).unwrap();
        assert_eq!(said("starting\nError: no data\n\n"), "no data");
        let line = r#"{"level":"ERROR","fields":{"message":"it ends","fatal":"refused"}}"#;
        assert_eq!(said(&format!("Error: before\n{line}\n")), "refused");
        assert_eq!(said_last("\n \n"), None);
    }

    #[test]
    fn a_pod_that_ended_with_an_error_tells_why_until_it_is_ready() {
        let pod = |ready: &str| {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "demo-node-2"},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "containerStatuses": [{
                        "name": "node", "image": "i", "imageID": "i", "ready": false,
                        "restartCount": 2,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 1, "message": "Error: too old"}},
                    }],
                },
            }))
            .unwrap()
        };
        assert_eq!(
            pod_sight(&pod("False"), 0).failure.as_deref(),
            Some("too old")
        );
        assert_eq!(pod_sight(&pod("True"), 0).failure, None);
    }

    #[test]
    fn a_pod_that_is_not_even_started_tells_why() {
        let pod = |state: serde_json::Value, last: serde_json::Value| {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "demo-gateway-x"},
                "status": {"containerStatuses": [{
                    "name": "gateway", "image": "i", "imageID": "i", "ready": false,
                    "restartCount": 0, "state": state, "lastState": last,
                }]},
            }))
            .unwrap()
        };
        let json = |text: &str| serde_json::from_str(text).unwrap();
        let failure = |state: &str, last: &str| pod_sight(&pod(json(state), json(last)), 0).failure;
        let image = r#"{"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}"#;
        assert_eq!(
            failure(image, "{}").as_deref(),
            Some("ImagePullBackOff: no such tag")
        );
        let pulling = r#"{"waiting": {"reason": "ErrImagePull", "message": "later"}}"#;
        assert_eq!(failure(pulling, "{}"), None);
        // Without a word, the code.
        let ended = r#"{"terminated": {"exitCode": 137}}"#;
        assert!(failure(pulling, ended).unwrap().contains("137"));
    }
}
