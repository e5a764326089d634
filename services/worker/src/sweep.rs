//! The safety net below the queue: looks every [`SWEEP_INTERVAL`] which groups
//! have tasks that are due.
//!
//! While the queue is away, it asks the groups for them and has them done
//! here. While the queue works, the gateways publish; tasks that stay due for
//! [`PATIENCE`] all the same (no gateway runs) it puts into the queue itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_metadata::command::{Command, Outcome};
use holdfast_model::GroupId;
use holdfast_queue::{Queue, TaskHint};
use holdfast_runtime::Shutdown;
use tokio::sync::mpsc;

/// How often it looks.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long the gateways may take to publish what is due.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tasks asked of a group at once: what is asked for and not done soon waits
/// until it is published again.
const TASKS_AT_ONCE: u32 = 16;
/// How long a group may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct Sweep {
    cluster: Cluster,
    queue: Arc<dyn Queue>,
    /// Has tasks done here; full while all slots are taken.
    direct: mpsc::Sender<TaskHint>,
    /// Since when a group has had tasks due.
    due_since: BTreeMap<GroupId, Duration>,
}

/// What is to be done about a group's tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Nothing is due, or those who publish still have time.
    Wait,
    /// Publish them.
    Publish,
    /// Do them.
    Work,
}

/// Decides, of a group whose tasks have been due for that long.
fn next_step(due_for: Option<Duration>, queue_healthy: bool) -> Step {
    match due_for {
        None => Step::Wait,
        Some(_) if !queue_healthy => Step::Work,
        Some(due_for) if due_for >= PATIENCE => Step::Publish,
        Some(_) => Step::Wait,
    }
}

impl Sweep {
    pub(crate) fn new(
        cluster: Cluster,
        queue: Arc<dyn Queue>,
        direct: mpsc::Sender<TaskHint>,
    ) -> Self {
        Self {
            cluster,
            queue,
            direct,
            due_since: BTreeMap::new(),
        }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let sweeping = async {
            loop {
                self.cluster.env().clock.sleep(SWEEP_INTERVAL).await;
                self.sweep().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.begun() => {}
            () = sweeping => {}
        }
    }

    async fn sweep(&mut self) {
        let now = self.cluster.env().clock.monotonic();
        let leaders = self.cluster.leaders();
        let due = leaders
            .iter()
            .filter(|(_, view)| view.leader.is_some() && view.tasks_due > 0);
        let since = std::mem::take(&mut self.due_since);
        self.due_since = due
            .map(|(group, _)| (*group, since.get(group).copied().unwrap_or(now)))
            .collect();
        for (group, since) in self.due_since.clone() {
            let due_for = Some(now.saturating_sub(since));
            let step = next_step(due_for, self.queue.healthy());
            if step == Step::Wait {
                continue;
            }
            match self.take(group).await {
                Ok(hints) => self.pass_on(hints, step).await,
                Err(error) => tracing::debug!(%group, %error, "cannot ask for tasks"),
            }
        }
    }

    async fn take(&self, group: GroupId) -> Result<Vec<TaskHint>, ClusterError> {
        let id = self.cluster.request_id();
        let command = Command::PublishTasks {
            limit: TASKS_AT_ONCE,
        };
        let outcome = self
            .cluster
            .propose(group, id, command, DEADLINE, None)
            .await?;
        let Outcome::Tasks(tasks) = outcome else {
            return Err(ClusterError::Internal("a group answers no tasks".into()));
        };
        let hints = tasks.into_iter().map(|task| TaskHint {
            group,
            task: task.id,
            kind: task.kind,
        });
        Ok(hints.collect())
    }

    async fn pass_on(&self, hints: Vec<TaskHint>, step: Step) {
        for hint in hints {
            if step == Step::Publish && self.queue.publish(hint).await.is_ok() {
                continue;
            }
            metrics::counter!("holdfast_tasks_swept_total").increment(1);
            if self.direct.send(hint).await.is_err() {
                // The worker ends; the task is published again.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_done_here_while_the_queue_is_away() {
        assert_eq!(next_step(Some(Duration::ZERO), false), Step::Work);
        assert_eq!(next_step(None, false), Step::Wait);
    }

    #[test]
    fn while_the_queue_works_others_publish_first() {
        assert_eq!(next_step(Some(Duration::ZERO), true), Step::Wait);
        assert_eq!(next_step(Some(PATIENCE), true), Step::Publish);
        assert_eq!(next_step(None, true), Step::Wait);
    }
}
