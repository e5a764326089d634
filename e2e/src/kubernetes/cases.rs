//! The cases.

mod audit;
mod birth;
mod changes;
mod degraded;
mod drains;
mod leaving;
mod losses;
mod mistakes;
mod operators;
mod optional;
mod owners;
mod places;
mod queues;
mod refusals;
mod releases;
mod rest;
mod restore;
mod resumed;
mod retired;
mod rights;
mod scale;
mod secrecy;
mod sleep;
mod suspended;
mod templates;
mod volumes;
mod wipes;
mod workers;
mod zones;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;
use holdfast_crd::StorageCluster;
use holdfast_e2e::level::Level;
use serde_json::Value;

use crate::room::Room;
use crate::traffic::{Patience, Traffic};

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

/// How long the client of a cluster tries again that is meant to be away.
const PATIENCE: Duration = Duration::from_secs(600);

/// A cluster `demo` that is whole, and a client that tries again once.
pub async fn born_with_traffic(room: &Room, spec: &Value) -> Result<(StorageCluster, Traffic)> {
    born(room, spec, Patience::OneRetry).await
}

/// A cluster `demo` that is whole, and a client that tries for minutes.
pub async fn born_with_patient_traffic(
    room: &Room,
    spec: &Value,
) -> Result<(StorageCluster, Traffic)> {
    born(room, spec, Patience::Until(PATIENCE)).await
}

async fn born(room: &Room, spec: &Value, patience: Patience) -> Result<(StorageCluster, Traffic)> {
    room.apply("demo", spec).await?;
    let cluster = room.until_settled("demo", SETTLED).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, patience).await?;
    Ok((cluster, traffic))
}

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
        case!(
            Full,
            Others,
            secrecy::authority_credential_and_passwords_are_exchanged_and_no_pod_restarts
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
            restore::metadata_lost_everywhere_comes_back_out_of_a_backup
        ),
        case!(
            Full,
            Others,
            changes::an_image_that_does_not_exist_then_the_revert
        ),
        case!(
            Full,
            Others,
            changes::what_is_no_longer_asked_for_is_taken_away
        ),
        case!(
            Full,
            Others,
            queues::the_queue_moves_to_another_one_and_back_and_no_task_is_lost
        ),
        case!(
            Full,
            Others,
            queues::one_broker_becomes_three_and_no_task_is_lost
        ),
        case!(
            Full,
            Others,
            templates::what_a_pod_template_adds_arrives_and_what_is_ours_is_refused
        ),
        case!(
            Full,
            Others,
            templates::a_pod_that_kubernetes_refuses_is_told_and_taking_it_back_helps
        ),
        case!(
            Full,
            Others,
            drains::a_drain_asked_for_during_an_upgrade_ends_as_it_does_and_is_kept
        ),
        case!(
            Full,
            Others,
            owners::an_autoscaler_takes_over_the_gateways_that_are_there
        ),
        case!(
            Full,
            Others,
            owners::what_another_manager_claims_of_ours_is_taken_back
        ),
        case!(Full, Nobody, losses::a_crashed_machine_comes_back),
        case!(
            Full,
            Nobody,
            releases::a_release_is_finalised_and_then_the_older_one_is_refused
        ),
        case!(
            Full,
            Nobody,
            rights::a_missing_right_is_told_until_it_is_given_back
        ),
        case!(
            Full,
            Others,
            rights::what_the_definition_cannot_see_is_told_by_a_condition
        ),
        case!(
            Full,
            Others,
            mistakes::two_of_three_crash_loop_until_the_setting_is_put_right
        ),
        case!(
            Full,
            Others,
            mistakes::one_of_three_is_down_when_its_fix_arrives
        ),
        case!(
            Full,
            Others,
            wipes::a_node_whose_volume_was_deleted_is_another_one
        ),
        case!(
            Full,
            Others,
            wipes::a_wiped_queue_delays_tasks_and_loses_none
        ),
        case!(Full, Others, wipes::a_deleted_cache_is_missed_by_nobody),
        case!(
            Full,
            Others,
            places::more_nodes_than_machines_are_told_and_the_rest_serves
        ),
        case!(
            Full,
            Others,
            restore::a_namespace_that_is_gone_comes_back_on_volumes_that_were_retained
        ),
        case!(Full, Others, leaving::one_name_in_two_namespaces),
        case!(
            Full,
            Others,
            leaving::volumes_go_with_the_resource_where_asked_and_no_others
        ),
        case!(Full, Others, volumes::volumes_grow_where_their_class_allows),
        case!(Full, Others, volumes::volumes_that_cannot_grow_are_told),
        case!(
            Full,
            Others,
            volumes::full_volumes_refuse_uploads_and_deletions_work
        ),
        case!(
            Full,
            Nobody,
            operators::the_operator_killed_between_founding_and_status
        ),
        case!(Full, Nobody, operators::two_operators_and_one_of_them_acts),
        case!(
            Full,
            Nobody,
            operators::two_operators_that_both_act_take_one_node_at_a_time
        ),
        case!(
            Full,
            Nobody,
            operators::a_minute_without_the_api_server_fails_no_request
        ),
        case!(
            Full,
            Nobody,
            resumed::the_operator_killed_in_the_middle_of_an_upgrade
        ),
        case!(
            Full,
            Nobody,
            resumed::the_operator_killed_in_the_middle_of_a_volume_expansion
        ),
        case!(
            Full,
            Nobody,
            resumed::the_operator_killed_in_the_middle_of_a_rotation
        ),
        case!(
            Full,
            Nobody,
            places::a_machine_cut_off_from_the_others_comes_back
        ),
        case!(
            Full,
            Nobody,
            places::a_machine_drained_during_an_upgrade_waits_and_ends
        ),
        case!(
            Full,
            Nobody,
            leaving::the_definition_is_upgraded_under_a_running_operator
        ),
        case!(
            Full,
            Nobody,
            leaving::the_chart_goes_and_comes_back_and_files_are_served
        ),
        case!(
            Full,
            Nobody,
            leaving::the_namespaces_of_store_and_operator_go_at_once
        ),
        case!(
            Full,
            Others,
            degraded::a_word_for_one_generation_takes_degraded_nodes_one_at_a_time
        ),
        case!(Full, Others, scale::a_larger_number_calls_a_drain_off),
        case!(
            Full,
            Others,
            refusals::fewer_nodes_are_refused_where_zones_or_health_forbid_it
        ),
        case!(
            Full,
            Others,
            refusals::fewer_nodes_are_refused_where_there_is_no_room
        ),
        case!(
            Full,
            Others,
            refusals::a_node_that_nobody_knows_is_not_given_up
        ),
        case!(Full, Others, retired::a_retired_volume_brings_no_node_back),
        case!(
            Full,
            Others,
            retired::a_volume_is_used_again_and_deleted_by_the_operator_where_asked
        ),
        case!(
            Full,
            Others,
            sleep::hibernation_waits_for_the_end_of_a_drain
        ),
        case!(
            Full,
            Others,
            sleep::hibernation_waits_for_the_end_of_an_upgrade
        ),
        case!(
            Full,
            Others,
            volumes::volumes_that_their_class_does_not_give_are_told
        ),
        case!(
            Full,
            Others,
            zones::zones_are_as_the_machines_labels_say_and_too_few_are_told
        ),
        case!(
            Full,
            Others,
            suspended::what_drifts_while_suspended_stays_and_is_put_right_after
        ),
        case!(
            Full,
            Others,
            workers::a_long_queue_raises_the_workers_and_an_empty_one_lowers_them
        ),
        case!(
            Full,
            Nobody,
            optional::what_prometheus_reads_comes_with_its_kinds_and_is_kept
        ),
        case!(
            Full,
            Nobody,
            optional::certificates_of_cert_manager_are_taken_and_renewed_without_a_restart
        ),
        // Behind all others, which use what it looks for.
        case!(Core, Nobody, audit::every_right_that_is_given_is_used),
    ]
}
