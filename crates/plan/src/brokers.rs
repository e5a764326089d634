//! What brokers are called.
//!
//! A queue has a majority of the brokers that it was declared with, and the claim
//! templates of a StatefulSet are fixed. So brokers of another number, or on
//! volumes of another size, are other ones: they have a StatefulSet of their own,
//! which starts beside the one that is there, and the Service names who serves.

use std::collections::BTreeMap;

use holdfast_crd::{ManagedQueue, QueueType, StorageClusterSpec};
use serde_json::json;

use crate::names::{self, Component};
use crate::object::config_hash;
use crate::quantity;

/// The label, of pods and in the Service's selector, with the name of the
/// StatefulSet.
pub const LABEL: &str = "holdfast.dev/brokers";
/// How much of a hash tells one shape of brokers from another.
pub(crate) const SHAPE_CHARACTERS: usize = 5;

/// The queue that the operator runs, where it runs one.
pub fn managed(spec: &StorageClusterSpec) -> Option<ManagedQueue> {
    let queue = &spec.queue;
    (queue.kind == QueueType::Managed).then(|| queue.managed.clone().unwrap_or_default())
}

/// The StatefulSet of brokers: `demo-rabbitmq` as they are by default,
/// `demo-rabbitmq-` and five letters of a hash in any other shape.
pub fn set(cluster: &str, queue: &ManagedQueue) -> String {
    let plain = names::workload(cluster, Component::Rabbitmq);
    let shape = |queue: &ManagedQueue| (queue.replicas, quantity::bytes(&queue.storage));
    let own = shape(queue);
    if own == shape(&ManagedQueue::default()) {
        return plain;
    }
    let hash = config_hash(&json!(own));
    let letters: String = hash.chars().take(SHAPE_CHARACTERS).collect();
    format!("{plain}-{letters}")
}

/// A broker's pod.
pub fn pod(set: &str, ordinal: u32) -> String {
    format!("{set}-{ordinal}")
}

/// Whether a volume claim of this name is of a broker of this StatefulSet.
pub fn is_claim_of(set: &str, claim: &str) -> bool {
    let pod = claim.strip_prefix(&format!("{}-{set}-", names::RABBITMQ_CLAIM));
    pod.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
}

/// The labels by which the pods of one StatefulSet are selected.
pub fn selector(cluster: &str, set: &str) -> BTreeMap<String, String> {
    let mut selector = names::selector(cluster, Component::Rabbitmq);
    selector.insert(LABEL.into(), set.to_owned());
    selector
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::validate::MAX_NAME_CHARACTERS;

    fn of(replicas: u32, storage: &str) -> String {
        let queue = ManagedQueue {
            replicas,
            storage: Quantity(storage.into()),
            image: None,
        };
        set("demo", &queue)
    }

    #[test]
    fn brokers_of_another_shape_have_another_name() {
        assert_eq!(of(1, "1Gi"), "demo-rabbitmq");
        assert_eq!(of(1, "1024Mi"), "demo-rabbitmq");
        let others = [of(3, "1Gi"), of(1, "2Gi"), of(3, "2Gi")];
        for (at, other) in others.iter().enumerate() {
            assert_eq!(other.len(), "demo-rabbitmq-".len() + SHAPE_CHARACTERS);
            assert!(others.iter().skip(at + 1).all(|next| next != other));
        }
        assert_eq!(of(3, "2Gi"), of(3, "2048Mi"));
    }

    #[test]
    fn their_revision_fits_a_label() {
        let cluster = "n".repeat(MAX_NAME_CHARACTERS);
        let set = format!("{cluster}{}", &of(3, "2Gi")["demo".len()..]);
        assert_eq!(format!("{set}-0123456789").len(), 63);
    }

    #[test]
    fn claims_are_told_by_their_set() {
        assert!(is_claim_of("demo-rabbitmq", "data-demo-rabbitmq-0"));
        assert!(is_claim_of(
            "demo-rabbitmq-3f2a1",
            "data-demo-rabbitmq-3f2a1-2"
        ));
        for other in ["data-demo-rabbitmq-3f2a1-0", "data-demo-rabbitmq-node-0"] {
            assert!(!is_claim_of("demo-rabbitmq", other));
        }
    }
}
