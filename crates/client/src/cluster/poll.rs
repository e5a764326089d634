//! The background task: statuses each second, the state's confirmation every
//! few.

use std::time::Duration;

use futures_util::future::{join, join_all};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::GroupId;
use holdfast_runtime::clock::within;
use holdfast_runtime::{Shutdown, TransportError};

use super::Cluster;
use crate::error::{CallError, ClusterError};
use crate::node::{STATUS_DEADLINE, StorageNodeClient};

/// How often group 0's leader is asked to confirm the state: a revoked
/// credential must be refused everywhere within 10 s.
pub const CONFIRM_EVERY: Duration = Duration::from_secs(3);
/// How soon it is asked again when it did not.
const CONFIRM_AGAIN: Duration = Duration::from_secs(1);
/// How long it may take.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(3);
/// A round of polls that ends so long after its deadline was held up here.
const STOOD_STILL: Duration = Duration::from_millis(250);
/// The least time between two polls, however often one is asked for.
const POLL_AT_MOST_EVERY: Duration = Duration::from_millis(100);

impl Cluster {
    pub(super) async fn watch(self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.begun() => {}
            _ = join(self.poll_for_ever(), self.confirm_for_ever()) => {}
        }
    }

    /// Asks for a poll at once: something is not as it was.
    pub fn kick(&self) {
        self.shared.kick.notify_one();
    }

    async fn poll_for_ever(&self) {
        let clock = &self.env().clock;
        loop {
            let started = self.now();
            self.poll_once().await;
            let next = started.saturating_add(self.settings().poll);
            clock
                .sleep(POLL_AT_MOST_EVERY.min(self.settings().poll))
                .await;
            tokio::select! {
                biased;
                () = self.shared.kick.notified() => {}
                () = clock.sleep(next.saturating_sub(self.now())) => {}
            }
        }
    }

    /// Asks everybody at once; each answer counts as soon as it is there.
    async fn poll_once(&self) {
        let started = self.now();
        let addresses = self.manager().addresses(&self.settings().seeds);
        join_all(addresses.into_iter().map(|address| async move {
            let transport = std::sync::Arc::clone(&self.env().transport);
            let node = StorageNodeClient::new(transport, address.clone());
            let limit = STATUS_DEADLINE;
            let answer = within(&*self.env().clock, limit, node.status()).await;
            match answer.unwrap_or(Err(TransportError::Deadline { limit }.into())) {
                Ok(status) => {
                    let took = self.now().saturating_sub(started);
                    self.manager().observe(&address, status, took);
                    self.note_state();
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "no status");
                    match error {
                        CallError::Transport(TransportError::Connect { .. }) => {
                            self.manager().refused(&address);
                        }
                        CallError::Transport(TransportError::Deadline { limit }) => {
                            self.manager().missed(&address, limit);
                        }
                        _ => {}
                    }
                }
            }
        }))
        .await;
        // Where this process itself stood still, answers were there that it
        // did not come to: such a round blames nobody.
        if self.now().saturating_sub(started) <= STATUS_DEADLINE + STOOD_STILL {
            self.view().polled = started;
        }
    }

    fn note_state(&self) {
        if self.state().is_some() {
            let now = self.now();
            self.view().state_since.get_or_insert(now);
        }
    }

    async fn confirm_for_ever(&self) {
        loop {
            let pause = match self.refresh().await {
                Ok(()) => CONFIRM_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "the cluster's state is not confirmed");
                    CONFIRM_AGAIN
                }
            };
            self.env().clock.sleep(pause).await;
        }
    }

    /// Has group 0's leader confirm the state now, as after a change of it.
    ///
    /// # Errors
    /// When it does not answer within [`CONFIRM_DEADLINE`]; the view stays as it was.
    pub async fn refresh(&self) -> Result<(), ClusterError> {
        // Before the answer's age begins.
        let asked = self.now();
        let answer = self
            .query(GroupId::CLUSTER, Query::Cluster, CONFIRM_DEADLINE, None)
            .await?;
        match answer {
            Answer::Cluster(state) => {
                self.manager().adopt(*state);
                self.note_state();
                let confirmed = &mut self.view().confirmed;
                *confirmed = (*confirmed).max(Some(asked));
                Ok(())
            }
            other => Err(super::unexpected(&other)),
        }
    }
}
