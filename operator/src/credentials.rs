//! The exchange of the credential by which the parts of a cluster know each
//! other, while all of them run.
//!
//! It lies in three slots of one Secret, each change of which is one write:
//!
//! | step | current, which is shown | previous, which is taken too | next |
//! | --- | --- | --- | --- |
//! | at rest | old | | |
//! | Adding | old | new | new |
//! | Switching | new | old | new |
//! | at rest | new | | |
//!
//! From one step to the next it goes when every pod says that it has loaded what
//! the step before wrote. Pods mount the first two slots.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_crd::RotationStatus;
use holdfast_plan::names::{self, Component};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::certificates::decide::{ADDING, REMOVING, SWITCHING, rotation};
use crate::certificates::settle::{BEGUN_FOR, ask, authorities};
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::loaded::{Reports, those_not};
use crate::observe::Observed;
use crate::secrets::random;

/// As the status calls it.
const CLUSTER: &str = "ClusterCredential";
/// The slot of the one that is to be, which no pod mounts.
const NEXT_KEY: &str = "cluster-secret-next";
/// Digits of a digest, as pods report it.
const DIGITS: usize = 16;

/// The slots, as the Secret has them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Slots {
    /// What is shown.
    pub current: String,
    /// What is taken beside it.
    pub previous: Option<String>,
    /// What is to be current.
    pub next: Option<String>,
    /// The wish for which the last exchange was begun.
    pub begun_for: Option<String>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slots(..)")
    }
}

/// Something to be written, as one change of the Secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// A new one is taken everywhere.
    Offer,
    /// The new one is shown, and the old one still taken.
    Switch,
    /// The old one is taken no more.
    Drop,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// What to write.
    pub write: Option<Write>,
    /// Whether pods must be asked before more can be decided.
    pub ask: bool,
    /// What is under way.
    pub rotation: Option<RotationStatus>,
}

impl Verdict {
    /// Whether nothing is under way, nor wished for.
    pub fn is_done(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides the next step.
pub fn decide(slots: &Slots, wish: Option<&String>, reports: Option<&Reports>) -> Verdict {
    let step = |write: Option<Write>, step: &str, waiting: Vec<String>| Verdict {
        write,
        ask: false,
        rotation: Some(rotation(CLUSTER, step, waiting)),
    };
    let next = match (&slots.next, &slots.previous) {
        (Some(next), _) => next,
        // Nothing else writes the second slot: what is left there goes.
        (None, Some(_)) => &slots.current,
        (None, None) => {
            let wished = wish.is_some() && wish != slots.begun_for.as_ref();
            return match wished {
                true => step(Some(Write::Offer), ADDING, Vec::new()),
                false => Verdict::default(),
            };
        }
    };
    let Some(reports) = reports else {
        return Verdict {
            ask: true,
            ..Verdict::default()
        };
    };
    let digest = digest(next);
    if *next == slots.current {
        // Until every pod shows it, somebody may still show the old one.
        let waiting = those_without(reports, |known| known.first() == Some(&digest));
        return match waiting.is_empty() {
            true => step(Some(Write::Drop), REMOVING, waiting),
            false => step(None, SWITCHING, waiting),
        };
    }
    if slots.previous.as_ref() != Some(next) {
        return step(Some(Write::Offer), ADDING, Vec::new());
    }
    let waiting = those_without(reports, |known| known.contains(&digest));
    let write = waiting.is_empty().then_some(Write::Switch);
    step(write, ADDING, waiting)
}

fn those_without(reports: &Reports, good: impl Fn(&Vec<String>) -> bool) -> Vec<String> {
    those_not(reports, |part, loaded| match part {
        // They know each other by passwords of their own.
        Component::Rabbitmq | Component::Redis => true,
        _ => loaded.is_some_and(|loaded| loaded.credentials.as_ref().is_some_and(&good)),
    })
}

fn digest(credential: &str) -> String {
    let hex = hex::encode(Sha256::digest(credential.trim().as_bytes()));
    hex.chars().take(DIGITS).collect()
}

/// The slots after a write. `new` is used where one is made.
pub fn after(slots: &Slots, write: Write, wish: Option<&String>, new: String) -> Slots {
    match write {
        Write::Offer => {
            let next = slots.next.clone().unwrap_or(new);
            Slots {
                current: slots.current.clone(),
                previous: Some(next.clone()),
                next: Some(next),
                begun_for: wish.or(slots.begun_for.as_ref()).cloned(),
            }
        }
        Write::Switch => Slots {
            current: slots.next.clone().unwrap_or_else(|| slots.current.clone()),
            previous: Some(slots.current.clone()),
            ..slots.clone()
        },
        Write::Drop => Slots {
            previous: None,
            next: None,
            ..slots.clone()
        },
    }
}

/// Takes the next step, where there is one to take.
///
/// # Errors
/// When the API server refuses.
pub async fn settle(
    context: &Context,
    observed: &Observed,
    wish: Option<&String>,
    reports: Option<Reports>,
) -> Result<Verdict, OperatorError> {
    let Some(secret) = &observed.credentials else {
        return Ok(Verdict::default());
    };
    let slots = slots(secret);
    let mut verdict = decide(&slots, wish, reports.as_ref());
    if verdict.ask {
        let reports = match reports {
            Some(reports) => reports,
            None => ask(observed, &authorities(observed.trusted.as_ref())).await,
        };
        verdict = decide(&slots, wish, Some(&reports));
    }
    if let Some(write) = verdict.write {
        let new = after(&slots, write, wish, random());
        keep(context, observed, secret, &new).await?;
    }
    Ok(verdict)
}

fn slots(secret: &Secret) -> Slots {
    // An empty slot is none.
    let text = |key: &str| Observed::text(Some(secret), key).filter(|text| !text.trim().is_empty());
    Slots {
        current: text(names::CLUSTER_SECRET_KEY).unwrap_or_default(),
        previous: text(names::CLUSTER_SECRET_PREVIOUS_KEY),
        next: text(NEXT_KEY),
        begun_for: secret.annotations().get(BEGUN_FOR).cloned(),
    }
}

/// One change, of the version that was read: nothing is lost to a late write.
async fn keep(
    context: &Context,
    observed: &Observed,
    secret: &Secret,
    slots: &Slots,
) -> Result<(), OperatorError> {
    let bytes = |text: &String| ByteString(text.clone().into_bytes());
    let data: BTreeMap<&str, Option<ByteString>> = [
        (names::CLUSTER_SECRET_KEY, Some(bytes(&slots.current))),
        (
            names::CLUSTER_SECRET_PREVIOUS_KEY,
            slots.previous.as_ref().map(bytes),
        ),
        (NEXT_KEY, slots.next.as_ref().map(bytes)),
    ]
    .into();
    let name = names::credentials_secret(&observed.name);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let patch = Patch::Merge(json!({
        "metadata": {
            "resourceVersion": secret.resource_version(),
            "annotations": {BEGUN_FOR: slots.begun_for},
        },
        "data": data,
    }));
    api.patch(&name, &PatchParams::default(), &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("changing Secret {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loaded::Loaded;

    const OLD: &str = "the old credential";
    const NEW: &str = "the new credential";

    fn at_rest() -> Slots {
        Slots {
            current: OLD.into(),
            ..Slots::default()
        }
    }

    /// Pods that have loaded what the first two slots hold.
    fn pods(all: &[(&str, &Slots)]) -> Reports {
        let report = |slots: &Slots| Loaded {
            credentials: Some(
                std::iter::once(&slots.current)
                    .chain(&slots.previous)
                    .map(|one| digest(one))
                    .collect(),
            ),
            ..Loaded::default()
        };
        all.iter()
            .map(|(pod, slots)| ((*pod).into(), (Component::Node, Some(report(slots)))))
            .collect()
    }

    fn waiting(verdict: &Verdict) -> (&str, Vec<&str>) {
        let rotation = verdict.rotation.as_ref().unwrap();
        let pods = rotation.waiting_for.iter().map(String::as_str);
        (&rotation.step, pods.collect())
    }

    #[test]
    fn each_step_waits_for_every_pod_and_says_for_which() {
        let wish = Some("1".to_owned());
        let wish = wish.as_ref();
        let first = at_rest();
        let begun = decide(&first, wish, None);
        assert_eq!(begun.write, Some(Write::Offer));
        let offered = after(&first, Write::Offer, wish, NEW.into());
        assert!(decide(&offered, wish, None).ask);

        let late = decide(
            &offered,
            wish,
            Some(&pods(&[("a", &offered), ("b", &first)])),
        );
        assert_eq!((late.write, waiting(&late)), (None, ("Adding", vec!["b"])));
        let silent = [("b".to_owned(), (Component::Gateway, None))].into();
        let silent = decide(&offered, wish, Some(&silent));
        assert_eq!(
            (silent.write, waiting(&silent)),
            (None, ("Adding", vec!["b"]))
        );
        let all = decide(&offered, wish, Some(&pods(&[("a", &offered)])));
        assert_eq!(all.write, Some(Write::Switch));

        let switched = after(&offered, Write::Switch, wish, "unused".into());
        assert_eq!(
            (switched.current.as_str(), switched.previous.as_deref()),
            (NEW, Some(OLD))
        );
        // It takes the new one, and shows the old one still.
        let late = decide(
            &switched,
            wish,
            Some(&pods(&[("a", &switched), ("b", &offered)])),
        );
        assert_eq!(
            (late.write, waiting(&late)),
            (None, ("Switching", vec!["b"]))
        );
        let all = decide(&switched, wish, Some(&pods(&[("a", &switched)])));
        assert_eq!(
            (all.write, waiting(&all)),
            (Some(Write::Drop), ("Removing", vec![]))
        );

        let last = after(&switched, Write::Drop, wish, "unused".into());
        assert_eq!(
            (last.current.as_str(), &last.previous, &last.next),
            (NEW, &None, &None)
        );
        assert!(decide(&last, wish, None).is_done(), "once for each wish");
        let again = "2".to_owned();
        assert_eq!(decide(&last, Some(&again), None).write, Some(Write::Offer));
    }

    #[test]
    fn whoever_shows_one_is_known_by_whoever_takes_two_however_late_each_pod_is() {
        let wish = Some("1".to_owned());
        let wish = wish.as_ref();
        // Pods load in every order: bits say which have loaded what is new.
        for orders in 0..64_u32 {
            let mut slots = at_rest();
            let mut loaded = [slots.clone(), slots.clone()];
            for round in 0..12 {
                for (pod, has) in loaded.iter_mut().enumerate() {
                    if round > 8 || orders >> (2 * (round % 3) + pod) & 1 == 1 {
                        *has = slots.clone();
                    }
                    // What each shows, all others take.
                }
                for shows in &loaded {
                    for takes in &loaded {
                        let known = [Some(&takes.current), takes.previous.as_ref()];
                        assert!(known.contains(&Some(&shows.current)), "{orders} {round}");
                    }
                }
                let reports = pods(&[("a", &loaded[0]), ("b", &loaded[1])]);
                // What is decided is made of the slots alone: every round is
                // another operator's.
                let verdict = decide(&slots, wish, Some(&reports));
                if let Some(write) = verdict.write {
                    slots = after(&slots, write, wish, NEW.into());
                }
            }
            assert_eq!(slots.current, NEW);
            assert_eq!(slots.previous, None, "{orders}");
        }
    }

    #[test]
    fn brokers_and_caches_do_not_know_it() {
        let slots = after(&at_rest(), Write::Offer, None, NEW.into());
        let reports = [
            ("mq".to_owned(), (Component::Rabbitmq, None)),
            (
                "node".to_owned(),
                (Component::Node, Some(Loaded::default())),
            ),
        ];
        let verdict = decide(&slots, None, Some(&reports.into()));
        assert_eq!(waiting(&verdict).1, ["node"]);
    }
}
