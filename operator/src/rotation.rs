//! What of a cluster's secrets is exchanged, in which order, and for which wish:
//! first its authority, then the credential of its parts and their logins to
//! RabbitMQ and Redis, which have nothing to do with each other.

use holdfast_crd::{RotationStatus, StorageCluster};
use holdfast_plan::names;
use kube::ResourceExt;

use crate::certificates::settle::settle;
use crate::context::Context;
use crate::credentials;
use crate::error::OperatorError;
use crate::observe::Observed;

/// The most characters of a wish, as the status takes them.
const MAX_WISH_CHARACTERS: usize = 63;

/// How far certificates and credentials are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrecy {
    /// What is under way.
    pub rotation: Option<RotationStatus>,
    /// The wish for which everything has been exchanged.
    pub rotated: Option<String>,
    /// Why there are no certificates yet: a reason and a sentence.
    pub missing: Option<(&'static str, String)>,
}

/// What a person wishes to be exchanged, unless it has been.
pub fn wish(resource: &StorageCluster) -> Option<String> {
    let wish = resource.annotations().get(names::ROTATE)?;
    let wish: String = wish.trim().chars().take(MAX_WISH_CHARACTERS).collect();
    let status = resource.status.as_ref();
    let done = status.and_then(|status| status.rotated.as_ref());
    (!wish.is_empty() && done != Some(&wish)).then_some(wish)
}

/// Brings certificates, and then credentials, a step further.
///
/// # Errors
/// When the API server refuses.
pub async fn advance(
    context: &Context,
    observed: &Observed,
    now: i64,
) -> Result<Secrecy, OperatorError> {
    let resource = &observed.resource;
    let wish = wish(resource);
    let settled = settle(context, observed, wish.clone(), now).await?;
    let mut secrecy = Secrecy {
        rotation: settled.verdict.rotation,
        missing: settled.verdict.missing,
        rotated: None,
    };
    if settled.verdict.done {
        let reports = settled.reports;
        let (rotation, done) =
            credentials::settle::settle(context, observed, wish.as_ref(), reports).await?;
        secrecy.rotation = rotation;
        if done {
            secrecy.rotated = wish;
        }
    }
    if let Some(sentence) = secrecy.rotation.as_ref().map(told) {
        context
            .say(resource, "rotation", false, "Rotating", sentence)
            .await;
    }
    if let Some((reason, sentence)) = &secrecy.missing {
        context
            .say(resource, "certificates", true, reason, sentence.clone())
            .await;
    }
    Ok(secrecy)
}

/// An exchange as a sentence.
pub fn told(rotation: &RotationStatus) -> String {
    let waiting = match rotation.waiting_for.is_empty() {
        true => String::new(),
        false => format!(
            "; waiting until {} have loaded it",
            rotation.waiting_for.join(", ")
        ),
    };
    let (credential, step) = (&rotation.credential, &rotation.step);
    format!("{credential} is exchanged: {step}{waiting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(annotation: &str, rotated: Option<&str>) -> StorageCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "StorageCluster",
            "metadata": {"name": "demo", "annotations": {"holdfast.dev/rotate": annotation}},
            "spec": {"nodes": {"storage": {"size": "100Gi"}}},
            "status": {"nodes": {"replicas": 3, "ready": 3}, "rotated": rotated},
        }))
        .unwrap()
    }

    #[test]
    fn a_wish_is_granted_once() {
        assert_eq!(wish(&resource("7", None)).as_deref(), Some("7"));
        assert_eq!(wish(&resource("7", Some("6"))).as_deref(), Some("7"));
        assert_eq!(wish(&resource("7", Some("7"))), None);
        assert_eq!(wish(&resource(" ", None)), None);
        // As much of it as the status can hold, which must be found again there.
        let long = "x".repeat(100);
        let kept = wish(&resource(&long, None)).unwrap();
        assert_eq!(wish(&resource(&long, Some(&kept))), None);
    }

    #[test]
    fn who_is_waited_for_is_told() {
        let rotation = RotationStatus {
            credential: "Authority".into(),
            step: "Adding".into(),
            waiting_for: vec!["demo-node-1".into()],
        };
        assert!(told(&rotation).contains("until demo-node-1 have loaded it"));
    }
}
