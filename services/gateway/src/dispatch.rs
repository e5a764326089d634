//! Puts tasks into the queue, as hints for workers.
//!
//! The group decides which tasks are due and marks them as published, so that
//! two gateways do not publish the same one. What fails here is left to the
//! next round: the group hands a task out again when nobody claims it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_metadata::command::{Command, Outcome};
use holdfast_model::GroupId;
use holdfast_queue::{Queue, TaskHint};
use holdfast_runtime::Shutdown;
use tokio::sync::Notify;

/// Tasks taken from a group at a time.
const TASKS_PER_ROUND: u32 = 100;
/// How often the groups' counts are looked at without being kicked.
const LOOK: Duration = Duration::from_secs(1);
/// How long a proposal may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to leave the queue alone after it failed, doubled with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// At most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Puts tasks into the queue.
pub struct Dispatcher {
    cluster: Cluster,
    queue: Arc<dyn Queue>,
    /// Groups in which a task was just made. A lock, held for a move only.
    kicked: Mutex<BTreeSet<GroupId>>,
    bell: Notify,
    standing: Mutex<Standing>,
}

/// What `/debug` shows.
#[derive(Clone, Default, serde::Serialize)]
pub struct Standing {
    /// Hints that the queue has taken.
    pub published: u64,
    /// Rounds that failed.
    pub failed_rounds: u64,
    /// Why the last one did.
    pub last_error: Option<String>,
}

impl Dispatcher {
    /// A dispatcher; [`Dispatcher::run`] does its work.
    pub fn new(cluster: Cluster, queue: Arc<dyn Queue>) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            queue,
            kicked: Mutex::default(),
            bell: Notify::new(),
            standing: Mutex::default(),
        })
    }

    /// Says that a group has a new task.
    pub fn kick(&self, group: GroupId) {
        self.kicked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(group);
        self.bell.notify_one();
    }

    /// Whether the queue answers.
    pub fn queue_healthy(&self) -> bool {
        self.queue.healthy()
    }

    /// What it has done.
    pub fn standing(&self) -> Standing {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Works until the process ends.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let clock = self.cluster.env().clock.clone();
        let mut pause = FIRST_PAUSE;
        while !shutdown.has_begun() {
            let groups = self.due();
            let mut failed = None;
            for group in groups {
                if let Err(error) = self.publish(group).await {
                    failed = Some(error);
                    break;
                }
            }
            let wait = match failed {
                Some(error) => {
                    self.note_failure(error);
                    // All groups share the queue: nothing is gained by hurrying.
                    let wait = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    clock.sleep(wait).await;
                    continue;
                }
                None => LOOK,
            };
            pause = FIRST_PAUSE;
            tokio::select! {
                biased;
                () = shutdown.begun() => {}
                () = self.bell.notified() => {}
                () = clock.sleep(wait) => {}
            }
        }
    }

    /// Groups that were kicked, or say that tasks are due.
    fn due(&self) -> BTreeSet<GroupId> {
        let kicked = &mut *self.kicked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = std::mem::take(kicked);
        let leaders: BTreeMap<_, _> = self.cluster.leaders();
        groups.extend(
            leaders
                .into_iter()
                .filter(|(_, view)| view.leader.is_some() && view.tasks_due > 0)
                .map(|(group, _)| group),
        );
        groups
    }

    async fn publish(&self, group: GroupId) -> Result<(), String> {
        let id = self.cluster.request_id();
        let limit = TASKS_PER_ROUND;
        let outcome = self
            .cluster
            .propose(group, id, Command::PublishTasks { limit }, DEADLINE, None)
            .await
            .map_err(|error| format!("group {group}: {error}"))?;
        let Outcome::Tasks(tasks) = outcome else {
            return Err(format!("group {group} answers something else than tasks"));
        };
        let more = tasks.len() as u64 >= u64::from(limit);
        for task in tasks {
            let hint = TaskHint {
                group,
                task: task.id,
                kind: task.kind,
            };
            self.queue
                .publish(hint)
                .await
                .map_err(|error| error.to_string())?;
            metrics::counter!("holdfast_tasks_published_total").increment(1);
            self.standing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .published += 1;
        }
        if more {
            self.kick(group);
        }
        Ok(())
    }

    fn note_failure(&self, error: String) {
        tracing::warn!(%error, "tasks were not put into the queue; they wait for the next round");
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.failed_rounds += 1;
        standing.last_error = Some(error);
    }
}
