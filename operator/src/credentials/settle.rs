//! Reads the slots, asks those who take and show what is in them, has the next
//! step decided, and takes it.

use std::collections::BTreeMap;

use holdfast_crd::{CacheType, QueueType, RotationStatus, StorageClusterSpec};
use holdfast_plan::names::{self, Component};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::broker::{Broker, BrokerError};
use super::{Login, Slots, Verdict, Which, Write, after, cache, decide};
use crate::apply::{brokers, by_us};
use crate::certificates::settle::{ask, trusting};
use crate::certificates::stored::BEGUN_FOR;
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::loaded::Reports;
use crate::observe::Observed;
use crate::secrets::random;

/// Letters of a user's name that tell it from those before it.
const USER_LETTERS: usize = 8;

/// The keys of one slot.
#[derive(Clone, Copy)]
struct Keys {
    user: Option<&'static str>,
    password: &'static str,
}

impl Which {
    /// The keys of the slots: current, previous, next. Nobody mounts the last.
    fn keys(self) -> [Keys; 3] {
        let alone = |password| Keys {
            user: None,
            password,
        };
        let named = |user, password| Keys {
            user: Some(user),
            password,
        };
        match self {
            Self::Cluster => [
                alone(names::CLUSTER_SECRET_KEY),
                alone(names::CLUSTER_SECRET_PREVIOUS_KEY),
                alone("cluster-secret-next"),
            ],
            Self::Queue => [
                named(names::RABBITMQ_USER_KEY, names::RABBITMQ_PASSWORD_KEY),
                named("rabbitmq-user-previous", "rabbitmq-password-previous"),
                named("rabbitmq-user-next", "rabbitmq-password-next"),
            ],
            Self::Cache => [
                alone(names::REDIS_PASSWORD_KEY),
                alone(names::REDIS_PASSWORD_PREVIOUS_KEY),
                alone("redis-password-next"),
            ],
        }
    }

    /// The annotation with the wish that its exchange was begun for.
    fn begun_for(self) -> &'static str {
        match self {
            Self::Cluster => BEGUN_FOR,
            Self::Queue => "holdfast.dev/rotated-queue",
            Self::Cache => "holdfast.dev/rotated-cache",
        }
    }

    /// Whether it is the operator's: others' queues and caches have logins of
    /// their own.
    fn is_ours(self, spec: &StorageClusterSpec) -> bool {
        match self {
            Self::Cluster => true,
            Self::Queue => spec.queue.kind == QueueType::Managed,
            Self::Cache => spec.cache.kind == CacheType::Managed,
        }
    }

    /// A new one.
    fn make(self) -> Login {
        let mut login = Login::of(random());
        if self == Self::Queue {
            let letters: String = random().chars().take(USER_LETTERS).collect();
            login.user = format!("{}-{letters}", names::RABBITMQ_USER);
        }
        login
    }
}

/// Takes the next step of every exchange, where there is one to take: they have
/// nothing to do with each other, and most of their time is the kubelet's.
/// `reports` are what pods have said in this round, if they were asked already.
/// Gives the exchange that is under way, and whether there is nothing left to do.
///
/// # Errors
/// When the API server refuses.
pub async fn settle(
    context: &Context,
    observed: &Observed,
    wish: Option<&String>,
    mut reports: Option<Reports>,
) -> Result<(Option<RotationStatus>, bool), OperatorError> {
    let Some(secret) = &observed.credentials else {
        return Ok((None, true));
    };
    let (mut under_way, mut done) = (None, true);
    let mut change = Change::default();
    let ours = |which: &Which| which.is_ours(&observed.resource.spec);
    for which in Which::ALL.into_iter().filter(ours) {
        let slots = read(secret, which);
        let mut verdict = decide(which, &slots, wish, None);
        if verdict.ask {
            if reports.is_none() {
                reports = Some(ask(observed, &observed.certificates.authorities()).await);
            }
            let reports = reports.get_or_insert_default();
            ask_servers(observed, which, &slots, reports).await;
            verdict = decide(which, &slots, wish, Some(reports));
        }
        if let Some(write) = may_write(observed, which, &slots, &verdict).await {
            change.add(which, &after(&slots, write, wish, which.make()));
        }
        done &= verdict.is_done();
        under_way = under_way.or(verdict.rotation);
    }
    if !change.data.is_empty() {
        keep(context, observed, secret, &change).await?;
    }
    Ok((under_way, done))
}

/// What may be written now: a login is forgotten when the broker has.
async fn may_write(
    observed: &Observed,
    which: Which,
    slots: &Slots,
    verdict: &Verdict,
) -> Option<Write> {
    if let (Which::Queue, Some(Write::Drop), Some(old)) = (which, verdict.write, &slots.previous)
        && let Err(error) = dismiss(observed, &slots.current, old).await
    {
        tracing::info!(%error, "the broker does not take the old user away");
        return None;
    }
    verdict.write
}

async fn dismiss(observed: &Observed, by: &Login, old: &Login) -> Result<(), BrokerError> {
    Broker::of(observed)?.dismiss(by, &old.user).await
}

/// Adds what those say that have no page of their own for it.
async fn ask_servers(observed: &Observed, which: Which, slots: &Slots, reports: &mut Reports) {
    match which {
        Which::Cluster => {}
        Which::Queue => ask_broker(observed, slots, reports).await,
        Which::Cache => {
            let wanted = slots.next.as_ref().unwrap_or(&slots.current);
            let known = observed.certificates.authorities();
            let trust = observed.encrypts().then(|| trusting(&known));
            for (pod, takes) in cache::those_that_take(observed, trust, wanted).await {
                let (_, loaded) = reports.entry(pod).or_insert((Component::Redis, None));
                let digest = takes.then(|| wanted.digest());
                loaded.get_or_insert_default().takes = digest.into_iter().collect();
            }
        }
    }
}

/// Whether two users are known to the brokers, or shall be.
pub fn login_is_exchanged(observed: &Observed) -> bool {
    let secret = observed.credentials.as_ref();
    let slots = secret.map(|secret| read(secret, Which::Queue));
    slots.is_some_and(|slots| slots.next.is_some() || slots.previous.is_some())
}

async fn ask_broker(observed: &Observed, slots: &Slots, reports: &mut Reports) {
    // Those that have just started know the current login alone: it stays so until
    // they have taken over.
    if brokers::are_changing(&observed.children) {
        return;
    }
    let wanted = slots.next.as_ref().unwrap_or(&slots.current);
    let (mut takes, mut connected) = (Vec::new(), None);
    match Broker::of(observed) {
        Ok(broker) if *wanted != slots.current => {
            match broker.admit(&slots.current, wanted).await {
                Ok(()) if broker.takes(wanted).await => takes.push(wanted.digest()),
                Ok(()) => {}
                Err(error) => tracing::info!(%error, "the broker does not take a new user"),
            }
        }
        Ok(broker) => {
            if let Some(old) = &slots.previous {
                connected = broker.connected(&slots.current, &old.user).await;
            }
        }
        Err(error) => tracing::info!(%error, "the broker cannot be asked"),
    }
    let brokers = reports
        .values_mut()
        .filter(|(part, _)| *part == Component::Rabbitmq);
    for (_, loaded) in brokers {
        let loaded = loaded.get_or_insert_default();
        loaded.takes.clone_from(&takes);
        loaded.connected = connected;
    }
}

fn read(secret: &Secret, which: Which) -> Slots {
    // An empty slot is none.
    let text = |key: &str| Observed::text(Some(secret), key).filter(|text| !text.trim().is_empty());
    let slot = |keys: Keys| {
        Some(Login {
            password: text(keys.password)?,
            user: match keys.user {
                // Before it was ever exchanged nothing names it.
                Some(key) => text(key).unwrap_or_else(|| names::RABBITMQ_USER.into()),
                None => String::new(),
            },
        })
    };
    let [current, previous, next] = which.keys();
    let annotations = secret.annotations();
    Slots {
        current: slot(current).unwrap_or_default(),
        previous: slot(previous),
        next: slot(next),
        begun_for: annotations.get(which.begun_for()).cloned(),
    }
}

/// What is written, as one change.
#[derive(Default)]
struct Change {
    /// By key; `None` is no such key.
    data: BTreeMap<&'static str, Option<ByteString>>,
    annotations: BTreeMap<&'static str, Option<String>>,
}

impl Change {
    fn add(&mut self, which: Which, slots: &Slots) {
        let logins = [
            Some(&slots.current),
            slots.previous.as_ref(),
            slots.next.as_ref(),
        ];
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        for (keys, login) in which.keys().into_iter().zip(logins) {
            let password = login.map(|login| bytes(&login.password));
            self.data.insert(keys.password, password);
            if let Some(key) = keys.user {
                self.data.insert(key, login.map(|login| bytes(&login.user)));
            }
        }
        let begun_for = slots.begun_for.clone();
        self.annotations.insert(which.begun_for(), begun_for);
    }
}

/// Of the version that was read: nothing is lost to a late write.
async fn keep(
    context: &Context,
    observed: &Observed,
    secret: &Secret,
    change: &Change,
) -> Result<(), OperatorError> {
    let name = names::credentials_secret(&observed.name);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let patch = Patch::Merge(json!({
        "metadata": {
            "resourceVersion": secret.resource_version(),
            "annotations": change.annotations,
        },
        "data": change.data,
    }));
    api.patch(&name, &by_us(), &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("changing Secret {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(change: Change) -> Secret {
        let data = change.data.into_iter();
        let data = data.filter_map(|(key, bytes)| Some((key.to_owned(), bytes?)));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_of_another() {
        let all = Which::ALL.map(|which| {
            let slots = Slots {
                current: which.make(),
                previous: Some(which.make()),
                next: (which != Which::Cache).then(|| which.make()),
                begun_for: None,
            };
            (which, slots)
        });
        let mut change = Change::default();
        all.iter()
            .for_each(|(which, slots)| change.add(*which, slots));
        let secret = secret(change);
        for (which, slots) in all {
            assert_ne!(slots.current, which.make());
            assert_eq!(read(&secret, which), slots);
        }
    }

    #[test]
    fn the_first_user_of_the_broker_is_named_nowhere() {
        let first = ByteString(b"first".into());
        let change = Change {
            data: [(names::RABBITMQ_PASSWORD_KEY, Some(first))].into(),
            ..Change::default()
        };
        let slots = read(&secret(change), Which::Queue);
        assert_eq!(slots.current.user, "holdfast");
        assert_eq!(slots.current.password, "first");
    }
}
