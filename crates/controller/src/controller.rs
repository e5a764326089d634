//! The controller of one node: its workers, and what others ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use holdfast_client::Cluster;
use holdfast_metadata::command::{ClusterCommand, Command, Outcome};
use holdfast_model::{DiskId, Epoch, GroupId, HIBERNATE, NodeId, Permit};
use holdfast_runtime::{Env, Shutdown};
use tokio::sync::Notify;

use crate::census::{Census, CensusWorker, Kicks, count_group};
use crate::cluster_work::ClusterWork;
use crate::collector::Collector;
use crate::compaction::{CompactDisk, Compaction, CompactionTotals, TotalsKeeper};
use crate::error::WorkError;
use crate::facts::FactsWork;
use crate::permit::{PermitCase, PermitError, PermitRefusal, may_take_permit};
use crate::progress::Progress;
use crate::repair::RepairWorker;
use crate::scrub::Scrub;
use crate::settings::ControllerSettings;
use crate::shared::Shared;
use crate::worker::{Worker, WorkerView, Workers};

/// What a controller is made of.
pub struct ControllerParts {
    /// The world.
    pub env: Env,
    /// The cluster, as this node's client sees it.
    pub cluster: Cluster,
    /// This node's own disk.
    pub disk: DiskId,
    /// Whether this node leads a group now. A wrong answer wastes work and does
    /// no harm: what is ordered is refused.
    pub leads: Arc<dyn Fn(GroupId) -> bool + Send + Sync>,
    /// What compacts this node's own disk.
    pub compaction: Box<dyn CompactDisk>,
    /// How it works; checked by [`ControllerSettings::check`] before.
    pub settings: ControllerSettings,
    /// Ends it.
    pub shutdown: Shutdown,
}

/// A running controller; clones are the same.
#[derive(Clone)]
pub struct Controller {
    shared: Shared,
    workers: Workers,
    kicks: Arc<Kicks>,
    compaction: TotalsKeeper,
}

impl Controller {
    /// Starts all workers, until the shutdown.
    pub fn start(parts: ControllerParts) -> Self {
        let ControllerParts {
            env,
            cluster,
            disk,
            leads,
            compaction,
            settings,
            shutdown,
        } = parts;
        let shared = Shared::new(env, cluster, disk, leads, settings);
        let controller = Self {
            shared: shared.clone(),
            workers: Workers::default(),
            kicks: Arc::default(),
            compaction: Arc::default(),
        };
        let compaction = Compaction::new(
            compaction,
            Arc::clone(&shared.compaction_throttle),
            Arc::clone(&controller.compaction),
            shared.settings.compaction_pause,
        );
        let none = Arc::<Notify>::default;
        let (census, repair) = (
            Arc::clone(&shared.kick_census),
            Arc::clone(&shared.kick_repair),
        );
        let census_worker = CensusWorker::new(shared.clone(), Arc::clone(&controller.kicks));
        controller.spawn(
            "controller-cluster",
            ClusterWork::new(shared.clone()),
            none(),
            &shutdown,
        );
        controller.spawn(
            "controller-facts",
            FactsWork::new(shared.clone()),
            none(),
            &shutdown,
        );
        controller.spawn(
            "controller-repair",
            RepairWorker::new(shared.clone()),
            repair,
            &shutdown,
        );
        controller.spawn(
            "controller-collector",
            Collector::new(shared.clone()),
            none(),
            &shutdown,
        );
        controller.spawn("controller-census", census_worker, census, &shutdown);
        controller.spawn("controller-compaction", compaction, none(), &shutdown);
        controller.spawn("controller-scrub", Scrub::new(shared), none(), &shutdown);
        controller
    }

    fn spawn(
        &self,
        task: &'static str,
        worker: impl Worker,
        kick: Arc<Notify>,
        shutdown: &Shutdown,
    ) {
        let env = self.shared.env.clone();
        let run = self
            .workers
            .clone()
            .run(env.clone(), worker, kick, shutdown.clone());
        env.tasks.spawn(task, Box::pin(run));
    }

    /// Each worker's state and last error, for `/debug`.
    pub fn debug(&self) -> Vec<WorkerView> {
        self.workers.views()
    }

    /// The last census of each group that this node leads.
    pub fn census(&self) -> BTreeMap<GroupId, Census> {
        self.shared.censuses().clone()
    }

    /// Has every led group counted at once; `walk` also where digests agree.
    pub fn kick_census(&self, walk: bool) {
        if walk {
            self.kicks.walk.store(true, Ordering::Relaxed);
        }
        self.kicks.count.store(true, Ordering::Relaxed);
        self.shared.kick_census.notify_one();
    }

    /// How far repair and drain have come in the groups that this node leads.
    pub fn repair_progress(&self) -> Progress {
        self.shared.progress.view()
    }

    /// What compaction of the own disk has done.
    pub fn compaction(&self) -> CompactionTotals {
        *self
            .compaction
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cluster's maintenance permit for a node, if the cluster is
    /// whole; with `degraded` also where only the census stands in the way.
    /// Groups whose last census is not at hand are counted now.
    ///
    /// # Errors
    /// Why it is not granted.
    pub async fn take_permit(
        &self,
        node: NodeId,
        reason: &str,
        degraded: bool,
    ) -> Result<Permit, PermitError> {
        let state = self.shared.state()?;
        let censuses = match degraded || reason == HIBERNATE {
            true => BTreeMap::new(),
            false => self.fresh_censuses(&state.layout).await?,
        };
        // Counting takes a while: judged by what is known after it.
        let state = self.shared.state()?;
        may_take_permit(&PermitCase {
            state: &state,
            node,
            reason,
            degraded,
            answering: &self.shared.answering(),
            groups: &self.shared.cluster.leaders(),
            censuses: &censuses,
            now: self.shared.env.clock.wall(),
            max_age: self.shared.settings.permit_census_age,
        })?;
        let group = GroupId::CLUSTER;
        let change = ClusterCommand::TakePermit {
            node,
            reason: reason.to_owned(),
        };
        let command = Command::Cluster(Box::new(change));
        match self
            .shared
            .propose(group, "the maintenance permit", command)
            .await?
        {
            Outcome::Permit(permit) => Ok(permit),
            _ => Err(WorkError::OtherAnswer {
                group,
                asked: "the maintenance permit",
            }
            .into()),
        }
    }

    /// Gives the permit back.
    ///
    /// # Errors
    /// When it is not that one that is held, or group 0 does not answer.
    pub async fn release_permit(&self, epoch: Epoch) -> Result<(), PermitError> {
        let command = Command::Cluster(Box::new(ClusterCommand::ReleasePermit { epoch }));
        self.shared
            .propose(GroupId::CLUSTER, "the end of the permit", command)
            .await?;
        Ok(())
    }

    /// A census of each group, those that are not fresh counted now. While a
    /// permit is held nothing is counted: the answer does not depend on it.
    async fn fresh_censuses(
        &self,
        layout: &holdfast_model::Layout,
    ) -> Result<BTreeMap<GroupId, Census>, PermitError> {
        let mut censuses = self.census();
        if self.shared.state()?.permit.is_some() {
            return Ok(censuses);
        }
        let max_age = self.shared.settings.permit_census_age.as_millis();
        for group in layout.data_groups() {
            let now = self.shared.env.clock.wall();
            let fresh = censuses.get(&group).is_some_and(|census| {
                census.epoch == layout.epoch
                    && u128::from(now.since(census.began)) * 2 <= max_age
                    && census.clean()
            });
            if !fresh {
                let counted = count_group(&self.shared, group, &BTreeSet::new()).await?;
                let counted = counted.census;
                censuses.insert(group, counted);
                if !counted.clean() {
                    return Err(self.not_clean(group, &counted).into());
                }
            }
        }
        Ok(censuses)
    }

    fn not_clean(&self, group: GroupId, census: &Census) -> PermitRefusal {
        PermitRefusal::NotClean {
            group,
            degraded: census.degraded,
            unavailable: census.unavailable,
            lost: census.lost,
            missing: census.missing,
            silent_disks: census.silent_disks,
        }
    }
}
