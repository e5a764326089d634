//! Asking the nodes what they have counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_runtime::clock::within;

use super::Cluster;
use crate::census::{GroupCensuses, take_report};
use crate::manager::Health;
use crate::node::STATUS_DEADLINE;

/// For how long the nodes' answers are told again: as old as a view's statuses
/// may be. Groups are counted once a minute, unless something has happened.
pub const CENSUS_LIFE: Duration = Duration::from_secs(1);

/// What the nodes last counted, as they said it.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// The newest count of each group, of whatever layout it was:
    /// [`sum_up`](crate::census::sum_up) takes what is of the present one.
    pub groups: Arc<GroupCensuses>,
    /// Chunks that repair and drain have still to copy.
    pub chunks_to_copy: u64,
    /// When the last answer had come, by the monotonic clock.
    at: Duration,
}

impl Cluster {
    /// What the nodes that answer last counted of the groups they lead, at most
    /// [`CENSUS_LIFE`] old. They are asked once, however many want to know; one
    /// that is silent costs a second. A node that does not answer leaves its
    /// groups out.
    pub async fn counted(&self) -> Counted {
        let mut known = self.shared.counted.lock().await;
        if let Some(counted) = &*known
            && self.now().saturating_sub(counted.at) < CENSUS_LIFE
        {
            return counted.clone();
        }
        let counted = self.ask_for_counts().await;
        *known = Some(counted.clone());
        counted
    }

    async fn ask_for_counts(&self) -> Counted {
        let nodes = self.nodes().into_iter();
        // Who has been silent for long leads nothing.
        let answering = nodes.filter(|view| view.health != Health::Unreachable);
        let clients = answering.filter_map(|view| self.manager().get_node(view.node.id));
        let reports = join_all(clients.map(|node| async move {
            match within(&*self.env().clock, STATUS_DEADLINE, node.census()).await {
                Some(Ok(report)) => Some(report),
                Some(Err(error)) => {
                    tracing::debug!(address = %node.address(), %error, "no census");
                    None
                }
                None => {
                    tracing::debug!(address = %node.address(), "no census in time");
                    None
                }
            }
        }))
        .await;
        let mut groups = GroupCensuses::new();
        let mut chunks_to_copy = 0;
        for report in reports.into_iter().flatten() {
            take_report(&mut groups, &report);
            chunks_to_copy += report.chunks_to_copy;
        }
        Counted {
            groups: Arc::new(groups),
            chunks_to_copy,
            at: self.now(),
        }
    }
}
