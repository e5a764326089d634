//! The third step, pure: what to do next with the storage nodes, one thing at a
//! time.
//!
//! Everything is decided of what is there. The maintenance permit is the thread
//! through it: who finds it held for one of the reasons of ours knows what
//! was being done, and goes on with it or ends it. While it is held nothing
//! else begins.

mod birth;
mod lost;
mod places;
pub mod release;
mod rollout;
mod scale;
mod situation;
mod sleep;
mod spare;
mod volumes;

use holdfast_model::{Epoch, NodeId, NodeState, Release};

pub use scale::MARK;
pub use situation::{ClaimSight, PodSight, Situation, pod_sight};

/// Why the permit is taken to restart a node.
pub const RESTART: &str = "the operator restarts it";
/// Why the permit is taken to remove a node for good.
pub const REMOVE: &str = "the operator removes it";

/// Something to be done now.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Found the cluster of the nodes with these ordinals.
    Found {
        /// The first members.
        ordinals: Vec<u32>,
    },
    /// Tell the cluster where a node is.
    Place {
        /// The node.
        node: NodeId,
        /// Its zone.
        zone: String,
        /// Its machine.
        machine: String,
    },
    /// Order a node's state.
    SetState {
        /// The node.
        node: NodeId,
        /// The state.
        state: NodeState,
    },
    /// Keep in mind which node is drained to be removed; none again after it.
    Mark {
        /// The node.
        node: Option<NodeId>,
    },
    /// Take the permit for a node, and when it is granted delete its pod.
    Restart {
        /// The node.
        node: NodeId,
        /// Its number.
        ordinal: u32,
        /// Whether it goes on although objects lack copies, or are not counted.
        anyway: bool,
    },
    /// Take the permit to stop all nodes together.
    Sleep {
        /// The node by which it is taken.
        node: NodeId,
    },
    /// Take the permit to remove a node; what follows is decided when it is held.
    PermitRemoval {
        /// The node.
        node: NodeId,
    },
    /// Note on a node's volume claim that the node is removed from it; that it is
    /// there again with none.
    NoteRemoved {
        /// Its number.
        ordinal: u32,
        /// The node.
        node: Option<NodeId>,
    },
    /// Delete a pod that serves nothing.
    DeletePod {
        /// Its number.
        ordinal: u32,
    },
    /// Give the permit back.
    Release {
        /// The node that it was for.
        node: NodeId,
        /// Its number.
        epoch: Epoch,
    },
    /// Delete a volume claim, and the pod that uses it.
    DeleteClaim {
        /// Its number.
        ordinal: u32,
        /// Its identity.
        uid: String,
    },
    /// Ask for more room in these claims.
    Grow {
        /// Their numbers.
        ordinals: Vec<u32>,
    },
    /// Let the cluster write the formats of a release.
    Finalize {
        /// The release.
        to: Release,
    },
    /// Delete the StatefulSet and leave its pods: its claim template is made
    /// with it only.
    RecreateSet,
}

/// Something to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it is about: it is said once until it changes.
    pub about: &'static str,
    /// Whether a person should look.
    pub warning: bool,
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub sentence: String,
}

/// What the cluster is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Busy {
    /// Nothing.
    #[default]
    No,
    /// Being born.
    Birth,
    /// Nodes come or go, or volumes grow.
    Scaling,
    /// A new release or configuration goes round.
    Rolling,
}

/// What was decided.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verdict {
    /// Replicas of the StatefulSet.
    pub storage_replicas: u32,
    /// How many storage nodes others may take away.
    pub storage_disruptions: u32,
    /// Whether no pods are to run.
    pub hibernated: bool,
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// What to say.
    pub notes: Vec<Note>,
    /// What the cluster is busy with.
    pub busy: Busy,
    /// What only a person can change: a reason and a sentence.
    pub stalled: Option<(&'static str, String)>,
}

impl Verdict {
    fn note(&mut self, about: &'static str, reason: &'static str, sentence: String) {
        self.notes.push(Note {
            about,
            warning: false,
            reason,
            sentence,
        });
    }

    fn warn(&mut self, about: &'static str, reason: &'static str, sentence: String) {
        self.notes.push(Note {
            about,
            warning: true,
            reason,
            sentence,
        });
    }
}

/// Decides what to do next.
pub fn decide(case: &Situation<'_>) -> Verdict {
    let mut verdict = Verdict {
        storage_replicas: case.replicas_now(),
        storage_disruptions: case.disruptions(),
        ..Verdict::default()
    };
    if case.resource.spec.suspend {
        return verdict;
    }
    if case.resource.spec.hibernate && sleep::fall_asleep(case, &mut verdict) {
        return verdict;
    }
    volumes::decide(case, &mut verdict);
    places::tell_missing_machines(case, &mut verdict);
    places::tell_waiting_drain(case, &mut verdict);
    if case.sight.cluster().is_none() || case.sight.state.is_none() {
        birth::decide(case, &mut verdict);
        return verdict;
    }
    sleep::wake_up(case, &mut verdict);
    places::decide(case, &mut verdict);
    lost::decide(case, &mut verdict);
    let rolling = rollout::decide(case, &mut verdict);
    if !rolling {
        scale::decide(case, &mut verdict);
    }
    release::decide(case, &mut verdict);
    verdict
}

#[cfg(test)]
pub(crate) mod tests;
