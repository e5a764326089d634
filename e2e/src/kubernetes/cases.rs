//! The cases.

mod birth;
mod changes;
mod losses;
mod releases;
mod rest;
mod scale;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;
use holdfast_e2e::level::Level;

use crate::room::Room;

/// Birth under load beside another cluster, and what a case does then.
const CORE_LIMIT: Duration = Duration::from_secs(480);
/// Those that wait for machines and moves of data.
const FULL_LIMIT: Duration = Duration::from_secs(900);

/// Birth is to take 45 s on a machine that does nothing else; here another case
/// runs beside it.
pub const BIRTH: Duration = Duration::from_secs(90);
/// Until what was told to the operator is seen in the status.
pub const TOLD: Duration = Duration::from_secs(90);
/// How long a cluster may take to be whole again after something was done to it:
/// pods start, leaders are elected, a census is taken, one step after another.
pub const SETTLED: Duration = Duration::from_secs(300);

/// A claim about the operator, and how it is shown.
pub struct Case {
    /// The claim.
    pub name: &'static str,
    /// From which level on it runs.
    pub level: Level,
    /// Beside whom it runs.
    pub company: Company,
    /// Shows it.
    pub run: for<'a> fn(&'a Room) -> LocalBoxFuture<'a, Result<()>>,
}

/// Beside whom a case runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Other cases.
    Others,
    /// Nobody: it breaks what all share, or needs all machines.
    Nobody,
}

impl Case {
    /// How long it may take.
    pub fn limit(&self) -> Duration {
        match self.level {
            Level::Core => CORE_LIMIT,
            Level::Full => FULL_LIMIT,
        }
    }
}

macro_rules! case {
    ($level:ident, $company:ident, $module:ident :: $name:ident) => {
        Case {
            name: stringify!($name),
            level: Level::$level,
            company: Company::$company,
            run: |room| Box::pin($module::$name(room)),
        }
    };
}

/// All of them.
pub fn all() -> Vec<Case> {
    vec![
        case!(
            Core,
            Others,
            birth::apply_makes_a_cluster_that_stores_and_serves
        ),
        case!(
            Core,
            Others,
            birth::a_contradiction_is_refused_with_a_sentence
        ),
        case!(
            Core,
            Others,
            losses::a_deleted_storage_pod_comes_back_and_nothing_fails
        ),
        case!(
            Core,
            Others,
            scale::scaling_to_four_and_back_keeps_every_file
        ),
        case!(
            Core,
            Others,
            changes::a_changed_setting_rolls_one_node_at_a_time
        ),
        case!(Core, Others, changes::drift_is_put_right),
        case!(
            Core,
            Others,
            rest::a_resource_deleted_and_made_again_finds_its_files
        ),
        case!(Full, Others, losses::all_pods_deleted_at_once),
        case!(Full, Others, rest::hibernate_and_wake),
        case!(
            Full,
            Nobody,
            scale::the_operator_killed_in_the_middle_of_scale_down
        ),
        case!(Full, Nobody, losses::a_lost_node_is_replaced_when_named),
        case!(Full, Others, rest::two_clusters_in_one_namespace),
        case!(
            Full,
            Others,
            changes::an_image_that_does_not_exist_then_the_revert
        ),
        case!(Full, Nobody, losses::a_crashed_machine_comes_back),
        case!(
            Full,
            Nobody,
            releases::a_release_is_finalised_and_then_the_older_one_is_refused
        ),
    ]
}
