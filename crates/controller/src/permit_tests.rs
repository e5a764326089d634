use holdfast_metadata::protocol::GroupStatus;
use holdfast_metadata::query::Totals;
use holdfast_model::{ClusterId, Epoch, Permit};

use super::*;
use crate::scenario::{Scenario, disk, node};

const NOW: Timestamp = Timestamp(1_000_000);

struct World {
    state: ClusterState,
    answering: BTreeSet<DiskId>,
    groups: BTreeMap<GroupId, GroupView>,
    censuses: BTreeMap<GroupId, Census>,
}

fn world(text: &str) -> World {
    let scenario = Scenario::read(text);
    let epoch = scenario.layout.epoch;
    let view = |group: GroupId, sight: &crate::members::GroupSight| GroupView {
        leader: sight.leader,
        totals: Totals::default(),
        tasks_due: 0,
        status: Some(GroupStatus {
            group,
            leader: sight.leader,
            term: 1,
            applied: 1,
            committed: 1,
            voters: sight.voters.iter().map(DiskId::raft_id).collect(),
            learners: sight.learners.iter().map(DiskId::raft_id).collect(),
            matched: BTreeMap::new(),
            totals: Totals::default(),
            tasks_due: 0,
            active: true,
        }),
    };
    let census = Census {
        objects: 9,
        chunks: 9,
        degraded: 0,
        unavailable: 0,
        lost: 0,
        orphans: 3,
        missing: 0,
        silent_disks: 0,
        walked: 0,
        wrong: 0,
        epoch,
        began: Timestamp(NOW.0 - 1_000),
        time: NOW,
    };
    World {
        groups: scenario
            .groups
            .iter()
            .map(|(group, sight)| (*group, view(*group, sight)))
            .collect(),
        censuses: scenario
            .layout
            .data_groups()
            .into_iter()
            .map(|g| (g, census))
            .collect(),
        answering: scenario.answering,
        state: ClusterState {
            cluster: ClusterId::from_bytes([1; 16]),
            revision: Epoch(1),
            layout: scenario.layout,
            buckets: Vec::new(),
            access_keys: Vec::new(),
            permit: None,
            next_permit: Epoch(1),
            times: Default::default(),
            active: Default::default(),
        },
    }
}

fn ask(world: &World) -> String {
    ask_for("a new kernel", false, world)
}

fn ask_for(reason: &str, degraded: bool, world: &World) -> String {
    let answer = may_take_permit(&PermitCase {
        state: &world.state,
        node: node(2),
        reason,
        degraded,
        answering: &world.answering,
        groups: &world.groups,
        censuses: &world.censuses,
        now: NOW,
        max_age: Duration::from_secs(60),
    });
    answer.map_or_else(|refusal| format!("{refusal:?}"), |()| "yes".into())
}

const WHOLE: &str = "1 a active\n2 b active\n3 c active\ngroup 0: 1* 2 3\ngroup 1: 2* 1 3";

#[test]
fn may_a_node_of_a_whole_cluster_be_taken_away() {
    assert_eq!(ask(&world(WHOLE)), "yes");
    // It may be away already: that is why it is worked on.
    let mut own = world(WHOLE);
    own.answering.remove(&disk(2));
    assert_eq!(ask(&own), "yes");
}

#[test]
fn is_a_second_permit_refused_and_the_same_one_granted_again() {
    let mut held = world(WHOLE);
    let permit = |n, reason: &str| Permit {
        epoch: Epoch(1),
        node: node(n),
        disk: disk(n),
        reason: reason.into(),
        granted: NOW,
    };
    held.state.permit = Some(permit(1, "a new kernel"));
    assert!(ask(&held).starts_with("Held"));
    held.state.permit = Some(permit(2, "another reason"));
    assert!(ask(&held).starts_with("Held"));
    held.state.permit = Some(permit(2, "a new kernel"));
    held.censuses.clear();
    assert_eq!(ask(&held), "yes");
}

#[test]
fn is_it_refused_while_another_node_is_away_or_a_group_lacks_a_member() {
    assert!(ask(&world(&WHOLE.replace("3 c active", "3 c active silent"))).starts_with("NodeAway"));
    assert!(ask(&world(&WHOLE.replace("1: 2* 1 3", "1: 2 1 3"))).starts_with("NoLeader"));
    for group in ["1: 2* 1", "1: 2* 1 3 +4", "1: 2* 1 wanted 1 2 3"] {
        let text = format!("{}\n4 d active", WHOLE.replace("1: 2* 1 3", group));
        let answer = ask(&world(&text));
        assert!(answer.starts_with("MemberLacks"), "{group}: {answer}");
    }
    // A node that was given up is not waited for.
    assert_eq!(ask(&world(&format!("{WHOLE}\n4 d lost silent"))), "yes");
}

#[test]
fn is_it_refused_without_a_fresh_and_clean_census_of_every_group() {
    let group = GroupId(1);
    let with = |change: fn(&mut Census)| {
        let mut world = world(WHOLE);
        change(world.censuses.get_mut(&group).unwrap());
        ask(&world)
    };
    assert!(with(|census| census.began = Timestamp(NOW.0 - 61_000)).starts_with("CensusOld"));
    assert!(with(|census| census.epoch = Epoch(6)).starts_with("CensusOld"));
    for change in [
        (|census| census.degraded = 1) as fn(&mut Census),
        |census| census.unavailable = 1,
        |census| census.lost = 1,
        |census| census.missing = 1,
        |census| census.silent_disks = 1,
    ] {
        assert!(with(change).starts_with("NotClean"));
    }
    let mut none = world(WHOLE);
    none.censuses.remove(&group);
    assert_eq!(ask(&none), "CensusOld(GroupId(1))");
}

#[test]
fn is_a_census_that_is_not_clean_passed_over_where_a_person_says_so_and_nothing_else() {
    let anyway = |world: &World| ask_for("a new kernel", true, world);
    let mut worse = world(WHOLE);
    worse.censuses.get_mut(&GroupId(1)).unwrap().degraded = 1;
    assert_eq!(anyway(&worse), "yes");
    worse.censuses.clear();
    assert_eq!(anyway(&worse), "yes");
    worse.state.permit = Some(Permit {
        epoch: Epoch(1),
        node: node(1),
        disk: disk(1),
        reason: "a person works on it".into(),
        granted: NOW,
    });
    assert!(anyway(&worse).starts_with("Held"));
    let away = world(&WHOLE.replace("3 c active", "3 c active silent"));
    assert!(anyway(&away).starts_with("NodeAway"));
    let leaderless = world(&WHOLE.replace("1: 2* 1 3", "1: 2 1 3"));
    assert!(anyway(&leaderless).starts_with("NoLeader"));
    let text = format!("{WHOLE}\n4 d active").replace("1: 2* 1 3", "1: 2* 1 3 +4");
    assert!(anyway(&world(&text)).starts_with("MemberLacks"));
}

#[test]
fn may_a_cluster_be_put_to_sleep_whatever_it_lacks_unless_somebody_has_the_permit() {
    let asleep = |world: &World| ask_for(HIBERNATE, false, world);
    let mut worse = world(&WHOLE.replace("3 c active", "3 c down silent"));
    worse.censuses.clear();
    assert_eq!(asleep(&worse), "yes");
    worse.state.permit = Some(Permit {
        epoch: Epoch(1),
        node: node(1),
        disk: disk(1),
        reason: "a person works on it".into(),
        granted: NOW,
    });
    assert!(asleep(&worse).starts_with("Held"));
}
