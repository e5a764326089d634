//! What a founder decides, makes and sends.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_metadata::protocol::{self, DiskStatus, NodeError, encode_result};
use holdfast_model::Supported;
use holdfast_model::release::VersionRange;
use holdfast_runtime::{Body, Call, Clock, Reply, Transport, TransportError, still};

use super::*;

/// A member that belongs to no cluster, by its number.
fn status(number: u8) -> Status {
    Status {
        node: NodeId::from_bytes([number; 16]),
        disk: DiskId::from_bytes([100 + number; 16]),
        cluster: None,
        incarnation: 1,
        wire_version: 1,
        now: Timestamp(0),
        state: None,
        space: DiskStatus::default(),
        groups: Vec::new(),
        draining: false,
        disk_hangs: false,
        started: Timestamp(0),
        address: at(number).0,
        zone: None,
        host: None,
        supports: Supported::OWN,
        recorded: None,
    }
}

fn at(number: u8) -> Address {
    Address(format!("node-{number}:8000"))
}

fn of_cluster(number: u8, cluster: u8) -> Status {
    Status {
        cluster: Some(ClusterId::from_bytes([cluster; 16])),
        ..status(number)
    }
}

fn members(statuses: &[Status]) -> Vec<Address> {
    statuses
        .iter()
        .map(|status| Address(status.address.clone()))
        .collect()
}

fn beginning() -> Beginning {
    Beginning::usual(FirstKey::of("token"), ObjectTimes::default())
}

fn plan(statuses: &[Status]) -> ClusterState {
    plan_birth(&still::env(1), statuses, &beginning())
}

fn decide(statuses: &[Status], kept: Option<ClusterState>) -> Result<Birth, BirthError> {
    decide_birth(&members(statuses), statuses, kept)
}

#[test]
fn a_founder_begins_goes_on_with_what_it_kept_and_adopts_what_is_there() {
    let new = [status(1), status(2), status(3)];
    assert_eq!(decide(&new, None), Ok(Birth::Begin));
    let kept = plan(&new);
    let go_on = Ok(Birth::GoOn(Box::new(kept.clone())));
    assert_eq!(decide(&new, Some(kept.clone())), go_on);
    let of_others = plan(&[status(1), status(2), status(4)]);
    assert_eq!(decide(&new, Some(of_others)), Ok(Birth::Begin));

    // One has been told, the founder ended, and comes back.
    let mut told = new.clone();
    told[1].cluster = Some(kept.cluster);
    assert_eq!(decide(&told, Some(kept.clone())), go_on);
    // Somebody else has founded.
    let founded = [status(1), of_cluster(2, 9), status(3)];
    let adopted = Ok(Birth::Adopt(ClusterId::from_bytes([9; 16])));
    assert_eq!(decide(&founded, None), adopted);
    assert_eq!(decide(&founded, Some(kept)), adopted);
}

#[test]
fn members_of_two_clusters_found_nothing_and_are_all_named() {
    let statuses = [of_cluster(1, 8), status(2), of_cluster(3, 9)];
    let Err(BirthError::DifferentClusters(named)) = decide(&statuses, None) else {
        panic!("they belong to different clusters");
    };
    let id = |number: u8| ClusterId::from_bytes([number; 16]).to_string();
    let expected = [
        format!("node-1:8000: {}", id(8)),
        "node-2:8000: none".to_owned(),
        format!("node-3:8000: {}", id(9)),
    ];
    assert_eq!(named, expected);
}

#[test]
fn one_node_under_two_addresses_founds_nothing() {
    let statuses = [status(1), status(2), status(1)];
    let addresses = [at(1), at(2), at(3)];
    let refused = decide_birth(&addresses, &statuses, None);
    assert_eq!(refused, Err(BirthError::SameNode(at(1), at(3))));
}

/// A member whose program reads and writes these formats, on wire and disk alike.
fn reading(number: u8, min: u32, max: u32) -> Status {
    let range = VersionRange { min, max };
    let supports = Supported {
        wire: range,
        disk: range,
        ..Supported::OWN
    };
    Status {
        supports,
        ..status(number)
    }
}

#[test]
fn the_first_formats_are_the_newest_that_all_members_read() {
    let mixed = [reading(1, 1, 3), reading(2, 1, 2), reading(3, 2, 3)];
    assert_eq!(decide(&mixed, None), Ok(Birth::Begin));
    let active = plan(&mixed).active;
    assert_eq!((active.wire, active.disk), (2, 2));

    let apart = [reading(1, 1, 1), reading(2, 1, 2), reading(3, 2, 2)];
    let Err(BirthError::Releases { lacking, .. }) = decide(&apart, None) else {
        panic!("the third cannot read what the first writes");
    };
    assert_eq!(lacking, ["node-3:8000"]);
}

#[test]
fn redundancy_is_that_of_the_number_of_nodes_or_what_was_asked_for() {
    for (nodes, copies, replicas) in [(1, 1, 1), (2, 2, 1), (3, 3, 3), (5, 3, 3)] {
        let statuses: Vec<_> = (1..=nodes).map(status).collect();
        let layout = plan(&statuses).layout;
        assert_eq!(layout.redundancy, Redundancy::copies(copies), "{nodes}");
        assert_eq!(layout.metadata_replicas, replicas, "{nodes} nodes");
        for (group, disks) in &layout.groups {
            let distinct: BTreeSet<_> = disks.iter().collect();
            assert_eq!(distinct.len(), usize::from(replicas), "{group}: {disks:?}");
        }
    }
    let asked = Beginning {
        copies: Some(2),
        metadata_replicas: Some(5),
        ..beginning()
    };
    let five: Vec<_> = (1..=5).map(status).collect();
    let layout = plan_birth(&still::env(1), &five, &asked).layout;
    assert_eq!(layout.redundancy, Redundancy::copies(2));
    assert_eq!(layout.metadata_replicas, 5);
    assert!(layout.groups.values().all(|disks| disks.len() == 5));
}

#[test]
fn every_member_is_the_first_of_as_many_groups_as_any_other() {
    let layout = plan(&[status(1), status(2), status(3)]).layout;
    let groups = usize::from(DEFAULT_GROUPS) + 1;
    assert_eq!(layout.groups.len(), groups, "group 0 and those of objects");
    let mut led: BTreeMap<DiskId, usize> = BTreeMap::new();
    for disks in layout.groups.values() {
        *led.entry(disks[0]).or_default() += 1;
    }
    assert_eq!(led.len(), 3);
    assert!(led.values().all(|count| count.abs_diff(groups / 3) <= 1));
    assert!(
        layout
            .nodes
            .values()
            .all(holdfast_model::LayoutNode::takes_data)
    );
}

#[test]
fn a_node_is_where_it_says_or_is_assigned_and_else_apart_from_all_others() {
    let place = |zone: &str, host: &str| Place {
        zone: zone.into(),
        host: host.into(),
    };
    let mut says = status(1);
    (says.zone, says.host) = (Some("own-zone".into()), Some("own-host".into()));
    // Two on one machine that nobody has placed.
    let (mut third, mut fourth) = (status(3), status(4));
    third.address = "localhost:8001".into();
    fourth.address = "localhost:8002".into();
    let places = [
        (says.node, place("z9", "h9")),
        (status(2).node, place("z2", "h2")),
    ];
    let beginning = Beginning {
        places: places.into(),
        ..beginning()
    };
    let statuses = [says, status(2), third, fourth];
    let nodes = plan_birth(&still::env(1), &statuses, &beginning)
        .layout
        .nodes;
    let found = |number: usize| {
        let node = &nodes[&statuses[number].node];
        (node.zone.clone().unwrap(), node.host.clone().unwrap())
    };
    assert_eq!(found(0), ("own-zone".into(), "own-host".into()));
    assert_eq!(found(1), ("z2".into(), "h2".into()));
    let (third, fourth) = (found(2), found(3));
    assert!(third.0.starts_with("localhost-"), "{third:?}");
    assert_ne!(third, fourth);
    assert_eq!(
        third.0, third.1,
        "a zone of its own is a machine of its own"
    );
}

#[test]
fn a_cluster_begins_with_its_bucket_its_key_and_an_id_of_its_own() {
    let statuses = [status(1)];
    let state = plan(&statuses);
    assert_eq!(state.buckets.len(), 1);
    assert_eq!(state.buckets[0].name.as_str(), FILES_BUCKET);
    let [key] = &state.access_keys[..] else {
        panic!("{:?}", state.access_keys);
    };
    assert_eq!(key.role, Role::Admin);
    assert_eq!(key.token_sha256, FirstKey::of("token").token_sha256);
    assert_eq!(key.id, FirstKey::of("token").id());
    assert_ne!(key.id, FirstKey::of("another").id());
    assert_ne!(
        key.id.as_bytes()[..],
        key.token_sha256[..16],
        "it says nothing of it"
    );
    let other = plan_birth(&still::env(2), &statuses, &beginning());
    assert_ne!(state.cluster, other.cluster);
}

/// Members that do not answer the first calls, and one that refuses.
struct Slow {
    silent: Mutex<u32>,
    refuses: Option<Address>,
    told: Mutex<Vec<Address>>,
}

impl Transport for Slow {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let mut silent = self.silent.lock().unwrap();
        let reply = if *silent > 0 {
            *silent -= 1;
            Err(TransportError::Connect {
                to: to.clone(),
                reason: "not yet".into(),
            })
        } else if call.path == protocol::STATUS {
            let number = (1..9).find(|number| at(*number) == *to).unwrap();
            Ok(encode_result(&Ok(status(number))))
        } else {
            self.told.lock().unwrap().push(to.clone());
            Ok(match &self.refuses {
                Some(refuses) if refuses == to => {
                    encode_result::<()>(&Err(NodeError::Mistaken("another cluster".into())))
                }
                _ => encode_result(&Ok(())),
            })
        };
        let body = Body::Empty;
        std::future::ready(reply.map(|head| Reply { head, body })).boxed()
    }
}

/// Tokio's own time, which passes when all wait.
struct Paused;

impl Clock for Paused {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

fn world(silent: u32, refuses: Option<Address>) -> (Env, Arc<Slow>) {
    let slow = Arc::new(Slow {
        silent: Mutex::new(silent),
        refuses,
        told: Mutex::default(),
    });
    let mut env = still::env(1);
    (env.transport, env.clock) = (slow.clone(), Arc::new(Paused));
    (env, slow)
}

#[tokio::test(start_paused = true)]
async fn members_are_asked_until_all_have_answered_and_in_their_order() {
    let (env, _) = world(7, None);
    let statuses = ask_members(&env, &[at(3), at(1), at(2)]).await;
    let nodes: Vec<_> = statuses.iter().map(|status| status.node).collect();
    let expected = [3, 1, 2].map(|number| NodeId::from_bytes([number; 16]));
    assert_eq!(nodes, expected);
}

#[tokio::test(start_paused = true)]
async fn the_first_state_goes_to_every_member_and_a_refusal_names_who() {
    let addresses = [at(1), at(2), at(3)];
    let state = plan(&[status(1), status(2), status(3)]);
    let (env, members) = world(0, None);
    assert_eq!(send_birth(&env, &addresses, &state).await, Ok(()));
    assert_eq!(*members.told.lock().unwrap(), addresses);

    let (env, _) = world(0, Some(at(2)));
    let Err(BirthError::Refused { member, reason }) = send_birth(&env, &addresses, &state).await
    else {
        panic!("the second refuses");
    };
    assert_eq!(member, at(2));
    assert!(reason.contains("another cluster"), "{reason}");
}
