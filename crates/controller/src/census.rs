//! The census: each led group's rows compared with what the disks hold.
//!
//! It counts what is there, reports what is not, and cleans up what nobody
//! refers to. An empty queue of repairs proves nothing; this does. What agrees
//! is told by digests ([`digests`]); what does not is listed and compared one
//! by one ([`merge`]).

mod clean_up;
mod count;
mod digests;
mod merge;
mod orphans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_metadata::command::{Command, MissingFragment};
use holdfast_model::fragment::CENSUS_RANGES;
use holdfast_model::{Epoch, GroupId, Timestamp};

pub(crate) use self::clean_up::just_before;
pub(crate) use self::count::count_group;
pub(crate) use self::digests::Run;
use self::digests::plan_checks;
pub(crate) use self::merge::Rows;
use self::orphans::Orphans;
use crate::error::{WorkError, some_groups};
use crate::shared::Shared;
use crate::worker::{Round, Worker};

/// How often the worker looks whether a census is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most fragments in one report.
const REPORT_AT_ONCE: usize = 1_000;

/// What was counted in one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Census {
    /// Objects, and what workers made of them, whose bytes are in fragments.
    pub objects: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Objects that can be read, with fewer fragments than they should have
    /// on disks that answer.
    pub degraded: u64,
    /// Objects that cannot be read until disks that do not answer come back.
    pub unavailable: u64,
    /// Objects that cannot be read any more.
    pub lost: u64,
    /// Fragments that nobody refers to: of uploads that run or have failed, of
    /// replaced versions, of repairs that were overtaken.
    pub orphans: u64,
    /// Fragments that should be on a disk that answers, and are not, or are corrupt.
    pub missing: u64,
    /// Disks that count and did not answer.
    pub silent_disks: u64,
    /// Ranges of uploads, of 256, that were gone through; the others agreed
    /// with the disks.
    pub walked: u64,
    /// Ranges whose sums were wrong: an error in Holdfast itself.
    pub wrong: u64,
    /// The layout's epoch when it began.
    pub epoch: Epoch,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub time: Timestamp,
}

impl Census {
    /// Whether every object has every fragment it should have.
    pub fn clean(&self) -> bool {
        self.degraded + self.unavailable + self.lost + self.missing + self.silent_disks == 0
    }
}

/// What is known of a group from one census to the next.
struct Standing {
    /// When the last census began, and the layout's epoch then.
    last: Option<(Duration, Epoch)>,
    /// The range whose turn it is to be walked in any case.
    next_check: u8,
    orphans: Orphans,
}

/// Counts the led groups in turn, reports and cleans up.
pub(crate) struct CensusWorker {
    shared: Shared,
    /// Of each group that this node leads.
    groups: BTreeMap<GroupId, Standing>,
    kicks: Arc<Kicks>,
}

/// What was asked for before its time.
#[derive(Default)]
pub(crate) struct Kicks {
    /// A census.
    pub count: AtomicBool,
    /// That it goes through everything.
    pub walk: AtomicBool,
}

impl CensusWorker {
    pub fn new(shared: Shared, kicks: Arc<Kicks>) -> Self {
        Self {
            shared,
            groups: BTreeMap::new(),
            kicks,
        }
    }

    async fn count_due(&mut self) -> Result<Round, WorkError> {
        let state = self.shared.state()?;
        let led = self.shared.led_groups(&state);
        // What another node leads by now, that node counts.
        self.shared
            .censuses()
            .retain(|group, _| led.contains(group));
        self.groups.retain(|group, _| led.contains(group));
        for group in &led {
            let entropy = &self.shared.env.entropy;
            // Leaders change: none must begin with the same range each time.
            self.groups.entry(*group).or_insert_with(|| Standing {
                last: None,
                next_check: entropy.number() as u8,
                orphans: Orphans::default(),
            });
        }
        let kicked = self.kicks.count.swap(false, Ordering::Relaxed);
        let walk = self.kicks.walk.swap(false, Ordering::Relaxed);
        let now = self.shared.now();
        let last = |group: &GroupId| self.groups.get(group).and_then(|known| known.last);
        let due = |group: &GroupId| match last(group) {
            None => true,
            Some((at, epoch)) => {
                kicked
                    || epoch != state.layout.epoch
                    || now.saturating_sub(at) >= self.shared.settings.census_interval
            }
        };
        let due: Vec<GroupId> = led.iter().copied().filter(due).collect();
        let (all, mut failures) = (due.len(), Vec::new());
        for group in due {
            if let Err(error) = self.count_one(group, state.layout.epoch, walk).await {
                failures.push((group, error));
            }
        }
        some_groups(failures, all)?;
        Ok(Round::Idle(self.note()))
    }

    fn note(&self) -> String {
        let censuses = self.shared.censuses();
        let sum = |what: fn(&Census) -> u64| censuses.values().map(what).sum::<u64>();
        let (degraded, unavailable) = (sum(|c| c.degraded), sum(|c| c.unavailable));
        let (lost, orphans) = (sum(|c| c.lost), sum(|c| c.orphans));
        metrics::gauge!("holdfast_census_objects", "standing" => "degraded").set(degraded as f64);
        metrics::gauge!("holdfast_census_objects", "standing" => "unavailable")
            .set(unavailable as f64);
        metrics::gauge!("holdfast_census_objects", "standing" => "lost").set(lost as f64);
        metrics::gauge!("holdfast_census_orphans").set(orphans as f64);
        format!(
            "{} groups: {} objects, {degraded} degraded, {unavailable} unavailable, {lost} lost, \
             {orphans} orphans; {} of {} ranges walked, {} with wrong sums",
            censuses.len(),
            sum(|c| c.objects),
            sum(|c| c.walked),
            censuses.len() * CENSUS_RANGES,
            sum(|c| c.wrong),
        )
    }

    async fn count_one(
        &mut self,
        group: GroupId,
        epoch: Epoch,
        walk: bool,
    ) -> Result<(), WorkError> {
        let Some(known) = self.groups.get_mut(&group) else {
            return Ok(());
        };
        let (shared, settings) = (&self.shared, &self.shared.settings);
        let now = shared.now();
        let elapsed = match known.last {
            _ if walk => settings.census_walk_interval,
            Some((at, _)) => now.saturating_sub(at),
            None => settings.census_interval,
        };
        known.last = Some((now, epoch));
        let (checks, next) = plan_checks(known.next_check, elapsed, settings.census_walk_interval);
        let counted = count_group(shared, group, &checks).await?;
        known.next_check = next;
        report(shared, group, &counted.reports).await?;
        if !counted.reports.is_empty() {
            shared.kick_repair.notify_one();
        }
        shared.censuses().insert(group, counted.census);
        let orphans = &mut known.orphans;
        orphans.look(shared.now(), &counted.answered, counted.unreferenced);
        clean_up::clean_up(shared, group, orphans).await
    }
}

impl Worker for CensusWorker {
    fn name(&self) -> &'static str {
        "census"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.count_due())
    }
}

/// Tells a group which fragments are not where it thinks they are.
pub(crate) async fn report(
    shared: &Shared,
    group: GroupId,
    fragments: &[MissingFragment],
) -> Result<(), WorkError> {
    for fragments in fragments.chunks(REPORT_AT_ONCE) {
        let fragments = fragments.to_vec();
        let count = fragments.len();
        shared
            .propose(
                group,
                "a report of what is missing",
                Command::ReportMissing { fragments },
            )
            .await?;
        tracing::info!(%group, count, "fragments are missing");
        metrics::counter!("holdfast_fragments_missing_total").increment(count as u64);
    }
    Ok(())
}
