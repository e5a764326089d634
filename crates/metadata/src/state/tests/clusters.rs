use super::*;
use crate::command::ClusterCommand;
use holdfast_model::{
    AccessKey, BucketDeletion, BucketName, NodeId, NodeState, Role, Supported, Versioning,
};

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn bench() -> Bench {
    Bench::of(GroupId::CLUSTER, &cluster_state(1))
}

fn run(bench: &mut Bench, change: ClusterCommand) -> Outcome {
    bench.run(Command::Cluster(Box::new(change)))
}

fn join(number: u8, disk_number: u64, incarnation: u64, zone: Option<&str>) -> ClusterCommand {
    ClusterCommand::Join {
        node: node(number),
        disk: disk(disk_number),
        address: format!("node{number}:8000"),
        zone: zone.map(str::to_owned),
        host: None,
        incarnation,
        supports: Supported::FIRST,
    }
}

fn state(bench: &Bench) -> ClusterState {
    match bench.ask(&Query::Cluster) {
        Answer::Cluster(state) => *state,
        other => panic!("{other:?}"),
    }
}

fn is_held(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::Held(_)))
}

#[test]
fn a_newer_start_fences_an_older_one() {
    let mut bench = bench();
    assert!(matches!(
        run(&mut bench, join(1, 1, 5, Some("a"))),
        Outcome::Joined(_)
    ));
    let stale = run(&mut bench, join(1, 1, 4, Some("a")));
    assert_eq!(stale, Outcome::Refused(Refusal::Stale));
    let before = state(&bench);
    assert!(matches!(
        run(&mut bench, join(1, 1, 5, Some("a"))),
        Outcome::Joined(_)
    ));
    assert_eq!(
        state(&bench),
        before,
        "the same start again changes nothing"
    );
    assert!(
        is_held(run(&mut bench, join(2, 1, 1, None))),
        "another node's disk"
    );
    assert!(
        is_held(run(&mut bench, join(1, 2, 6, None))),
        "another disk"
    );
    run(&mut bench, join(1, 1, 6, Some("b")));
    let after = state(&bench);
    assert_eq!(after.layout.nodes[&node(1)].zone.as_deref(), Some("a"));
    assert!(after.revision > before.revision && after.layout.epoch > before.layout.epoch);
}

#[test]
fn a_node_without_a_zone_waits_to_be_placed() {
    let mut bench = bench();
    run(&mut bench, join(1, 1, 1, None));
    assert_eq!(
        state(&bench).layout.nodes[&node(1)].state,
        NodeState::Unplaced
    );
    let active = ClusterCommand::SetNodeState {
        node: node(1),
        state: NodeState::Active,
    };
    assert!(matches!(
        run(&mut bench, active),
        Outcome::Refused(Refusal::Invalid(_))
    ));
    let place = ClusterCommand::PlaceNode {
        node: node(1),
        zone: "a".to_owned(),
        host: None,
    };
    assert_eq!(run(&mut bench, place), Outcome::Done);
    assert!(state(&bench).layout.nodes[&node(1)].takes_data());
}

#[test]
fn a_layout_is_taken_only_by_who_saw_the_last_one() {
    let mut bench = bench();
    run(&mut bench, join(1, 1, 1, Some("a")));
    let seen = state(&bench).layout;
    let mut wanted = seen.clone();
    wanted.groups = [(GroupId(1), vec![disk(1)])].into();
    let set = |layout: &Layout, epoch: Epoch| ClusterCommand::SetLayout {
        seen: epoch,
        layout: layout.clone(),
    };
    let bad = run(&mut bench, set(&seen, seen.epoch));
    assert!(
        matches!(bad, Outcome::Refused(Refusal::Invalid(_))),
        "{bad:?}"
    );
    assert_eq!(run(&mut bench, set(&wanted, seen.epoch)), Outcome::Done);
    assert_eq!(state(&bench).layout.epoch, seen.epoch.next());
    let stale = run(&mut bench, set(&wanted, seen.epoch));
    assert_eq!(stale, Outcome::Refused(Refusal::Stale));
    let drained = ClusterCommand::SetNodeState {
        node: node(1),
        state: NodeState::Drained,
    };
    assert!(is_held(run(&mut bench, drained)), "it carries a group");
}

#[test]
fn there_is_one_permit() {
    let mut bench = bench();
    run(&mut bench, join(1, 1, 1, Some("a")));
    run(&mut bench, join(2, 2, 1, Some("b")));
    let take = |number| ClusterCommand::TakePermit {
        node: node(number),
        reason: "upgrade".to_owned(),
    };
    let Outcome::Permit(permit) = run(&mut bench, take(1)) else {
        panic!();
    };
    assert_eq!(run(&mut bench, take(1)), Outcome::Permit(permit.clone()));
    assert!(is_held(run(&mut bench, take(2))));
    let release = |epoch| ClusterCommand::ReleasePermit { epoch };
    let wrong = run(&mut bench, release(permit.epoch.next()));
    assert_eq!(wrong, Outcome::Refused(Refusal::Stale));
    assert_eq!(run(&mut bench, release(permit.epoch)), Outcome::Done);
    assert!(matches!(run(&mut bench, take(2)), Outcome::Permit(next) if next.epoch > permit.epoch));
}

#[test]
fn the_last_admin_stays() {
    let mut bench = bench();
    let key = |number: u8, role| AccessKey {
        id: AccessKeyId::from_bytes([number; 16]),
        token_sha256: [number; 32],
        role,
        name: String::new(),
        created: START,
    };
    let id = |number| AccessKeyId::from_bytes([number; 16]);
    run(
        &mut bench,
        ClusterCommand::PutAccessKey(key(1, Role::Admin)),
    );
    run(&mut bench, ClusterCommand::PutAccessKey(key(2, Role::User)));
    assert!(is_held(run(
        &mut bench,
        ClusterCommand::RevokeAccessKey(id(1))
    )));
    let demoted = ClusterCommand::PutAccessKey(key(1, Role::User));
    assert!(is_held(run(&mut bench, demoted)));
    run(
        &mut bench,
        ClusterCommand::PutAccessKey(key(3, Role::Admin)),
    );
    assert_eq!(
        run(&mut bench, ClusterCommand::RevokeAccessKey(id(1))),
        Outcome::Done
    );
    assert_eq!(state(&bench).access_keys.len(), 2);
}

#[test]
fn a_bucket_has_one_name_and_a_name_one_bucket() {
    let mut bench = bench();
    let make = |number: u8, name: &str| ClusterCommand::CreateBucket {
        id: BucketId::from_bytes([number + 10; 16]),
        name: BucketName::new(name).unwrap(),
    };
    assert_eq!(run(&mut bench, make(1, "files")), Outcome::Done);
    assert_eq!(run(&mut bench, make(1, "files")), Outcome::Done);
    assert!(is_held(run(&mut bench, make(2, "files"))));
    assert!(is_held(run(&mut bench, make(1, "other"))));
    assert_eq!(run(&mut bench, make(2, "backups")), Outcome::Done);
    let names: Vec<_> = state(&bench).buckets.into_iter().map(|b| b.name).collect();
    assert!(names.is_sorted());
}

fn deletion_of(bench: &Bench, id: BucketId) -> Option<BucketDeletion> {
    let buckets = state(bench).buckets;
    buckets.iter().find(|b| b.id == id).unwrap().deletion
}

#[test]
fn a_deletion_goes_on_by_its_own_attempt_alone() {
    let mut bench = bench();
    let delete = ClusterCommand::DeleteBucket { bucket: BUCKET };
    let settle = |attempt, empty| ClusterCommand::SettleDeletion {
        bucket: BUCKET,
        attempt,
        empty,
    };
    let begin = |bench: &mut Bench| match run(bench, delete.clone()) {
        Outcome::Deleting(attempt) => attempt,
        other => panic!("{other:?}"),
    };
    let end = |attempt| ClusterCommand::EndDeletion {
        bucket: BUCKET,
        attempt,
    };
    let stale = Outcome::Refused(Refusal::Stale);
    let first = begin(&mut bench);
    assert_eq!(begin(&mut bench), first, "the same attempt goes on");
    assert_eq!(run(&mut bench, end(first)), stale, "not asked yet");
    assert_eq!(run(&mut bench, settle(first, false)), Outcome::Done);
    assert_eq!(deletion_of(&bench, BUCKET), None);
    let second = begin(&mut bench);
    assert!(second > first);
    // Somebody who had asked for the first attempt comes late.
    assert_eq!(run(&mut bench, settle(first, true)), stale);
    assert_eq!(run(&mut bench, settle(second, true)), Outcome::Done);
    assert_eq!(run(&mut bench, settle(second, false)), stale);
    assert_eq!(run(&mut bench, end(second)), Outcome::Done);
    assert_eq!(state(&bench).buckets, []);
    let gone = run(&mut bench, end(second));
    assert_eq!(gone, Outcome::Refused(Refusal::NoSuchBucket));
}

#[test]
fn the_bucket_of_files_stays_and_has_no_versions() {
    let mut bench = bench();
    let files = BucketId::from_bytes([8; 16]);
    let make = ClusterCommand::CreateBucket {
        id: files,
        name: BucketName::new("files").unwrap(),
    };
    run(&mut bench, make);
    let refused = |outcome| matches!(outcome, Outcome::Refused(Refusal::Invalid(_)));
    let delete = ClusterCommand::DeleteBucket { bucket: files };
    assert!(refused(run(&mut bench, delete)));
    let set = |bucket, versioning| ClusterCommand::SetVersioning { bucket, versioning };
    let enable = set(files, Versioning::Enabled);
    assert!(refused(run(&mut bench, enable)));
    let enable = set(BUCKET, Versioning::Enabled);
    assert_eq!(run(&mut bench, enable), Outcome::Done);
    let undo = set(BUCKET, Versioning::Unversioned);
    assert!(refused(run(&mut bench, undo)));
    let suspend = set(BUCKET, Versioning::Suspended);
    assert_eq!(run(&mut bench, suspend), Outcome::Done);
}

#[test]
fn each_group_refuses_what_is_the_others() {
    let mut cluster = bench();
    assert_eq!(cluster.refused(commit(put("a", 1))), Refusal::WrongGroup);
    let mut data = Bench::new();
    let joined = Command::Cluster(Box::new(join(1, 1, 1, None)));
    assert_eq!(data.refused(joined), Refusal::WrongGroup);
    assert_eq!(
        data.ask(&Query::Cluster),
        Answer::Refused(Refusal::WrongGroup)
    );
}
