//! Which of several replicas works: the one that holds a Lease.
//!
//! The Lease only saves work. A replica that was asleep may go on believing that
//! it holds it for as long as a step takes; what keeps data safe then is the
//! cluster's maintenance permit and the preconditions of deletions.
//!
//! The protocol is that of client-go's leader election: a holder renews the time
//! in the Lease; who sees it unchanged for the lease's duration, by its own
//! monotonic clock, takes it. Writes carry the resource version that was read.

use std::sync::Arc;
use std::time::Duration;

use holdfast_runtime::Shutdown;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::is_missing;
use crate::health::Health;

/// The Lease's name.
const LEASE: &str = "holdfast-operator";
/// A holder that has not renewed for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// A holder stops working when it could not renew for so long: before others start.
const GIVE_UP: Duration = Duration::from_secs(10);
/// An API server that does not answer for so long counts as one that cannot be
/// reached: its client would wait for minutes.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// How often it is renewed, and looked at.
const RENEW: Duration = Duration::from_secs(2);

/// A candidate for the Lease.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    leads: watch::Sender<bool>,
    health: Arc<Health>,
    /// The last record that was seen to change, and when.
    seen: Option<(String, Instant)>,
    renewed: Instant,
}

impl Election {
    /// A candidate that does not lead yet, and where it is said whether it does.
    pub fn new(
        client: Client,
        namespace: &str,
        name: String,
        health: Arc<Health>,
    ) -> (Self, watch::Receiver<bool>) {
        let (leads, said) = watch::channel(false);
        let election = Self {
            leases: Api::namespaced(client, namespace),
            name,
            leads,
            health,
            seen: None,
            renewed: Instant::now(),
        };
        (election, said)
    }

    /// Takes part until the shutdown, and then gives the Lease back.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            let turn = tokio::time::timeout(ANSWER_LIMIT, self.turn()).await;
            let turn = turn.unwrap_or_else(|_| Err(no_answer()));
            self.health
                .note_turn(std::time::Instant::now(), turn.is_ok());
            match turn {
                Ok(leads) => {
                    if leads {
                        self.renewed = Instant::now();
                    }
                    self.say(leads);
                }
                Err(error) => {
                    tracing::warn!(%error, "the Lease could not be read or written");
                    if self.renewed.elapsed() > GIVE_UP {
                        self.say(false);
                    }
                }
            }
            tokio::select! {
                () = shutdown.begun() => break,
                () = tokio::time::sleep(RENEW) => {}
            }
        }
        self.give_back().await;
    }

    fn say(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|said| {
            let changed = *said != leads;
            *said = leads;
            changed
        });
        if changed {
            tracing::info!(leads, "this replica leads, or no longer");
            metrics::gauge!("holdfast_operator_leader").set(f64::from(u8::from(leads)));
        }
    }

    /// Renews, takes or watches the Lease. Says whether it is ours now.
    async fn turn(&mut self) -> Result<bool, kube::Error> {
        let lease = match self.leases.get(LEASE).await {
            Ok(lease) => lease,
            Err(error) if is_missing(&error) => {
                let lease = self.ours(Lease::default(), true);
                return taken(self.leases.create(&PostParams::default(), &lease).await);
            }
            Err(error) => return Err(error),
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let own = holder == self.name;
        if !own && !holder.is_empty() && !self.has_run_out(&lease) {
            return Ok(false);
        }
        let lease = self.ours(lease, !own);
        taken(
            self.leases
                .replace(LEASE, &PostParams::default(), &lease)
                .await,
        )
    }

    /// Whether nobody has renewed it for its duration, by our own clock.
    fn has_run_out(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() > DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn ours(&self, mut lease: Lease, taken: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = lease.spec.take().unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or_default();
        lease.metadata = ObjectMeta {
            name: Some(LEASE.into()),
            ..lease.metadata
        };
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: if taken {
                Some(now.clone())
            } else {
                old.acquire_time
            },
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(taken)),
            ..LeaseSpec::default()
        });
        lease
    }

    /// Lets another replica begin at once.
    async fn give_back(&self) {
        if !*self.leads.borrow() {
            return;
        }
        self.say(false);
        let Ok(mut lease) = self.leases.get(LEASE).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.name) {
            return;
        }
        spec.holder_identity = None;
        let given = self
            .leases
            .replace(LEASE, &PostParams::default(), &lease)
            .await;
        if let Err(error) = given {
            tracing::debug!(%error, "the Lease was not given back: it runs out");
        }
    }
}

fn no_answer() -> kube::Error {
    kube::Error::Service("the API server does not answer".into())
}

/// Whether a write of the Lease went through; one that came second did not.
fn taken(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(error) if crate::error::is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
