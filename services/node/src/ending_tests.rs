//! What becomes of a disk that cannot be trusted any more.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_metadata::command::Outcome;
use holdfast_metadata::protocol::{ProposeRequest, encode_result};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Reply, Transport, TransportError};
use tokio::time::Instant;

use super::*;
use crate::node::join::tests::{CLUSTER, cluster, paused};

type Told = Arc<Mutex<Vec<(Address, u64)>>>;
type Ends = Arc<Mutex<Vec<Fatal>>>;

/// The rest of the cluster: keeps what it hears of starts. Group 0 may have no
/// leader.
struct Others {
    told: Told,
    leads: bool,
    ends: Ends,
}

impl Transport for Others {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let hear = |start| {
            assert!(
                self.ends.lock().unwrap().is_empty(),
                "the process has ended"
            );
            self.told.lock().unwrap().push((to.clone(), start));
        };
        if call.path == protocol::RAFT {
            let batch: RaftBatch = protocol::decode(&call.head).unwrap();
            hear(batch.incarnation);
        } else if call.path == protocol::PROPOSE && self.leads {
            let request: ProposeRequest = protocol::decode(&call.head).unwrap();
            let Command::Cluster(change) = request.command else {
                panic!("{request:?}");
            };
            let ClusterCommand::Join { incarnation, .. } = *change else {
                panic!("{change:?}");
            };
            hear(incarnation);
            let outcome = Outcome::Joined(Box::new(cluster(3, 1)));
            let reply = Reply {
                head: encode_result(&Ok(outcome)),
                body: Body::Empty,
            };
            return std::future::ready(Ok(reply)).boxed();
        }
        let error = TransportError::Connect {
            to: to.clone(),
            reason: "it does not answer".into(),
        };
        std::future::ready(Err(error)).boxed()
    }
}

struct Case {
    disk: MemoryDisk,
    ending: Arc<Ending>,
    told: Told,
    ends: Ends,
}

/// A node of a cluster, in its start of that number as the cluster knows it,
/// about to end.
fn node(known_start: u64, leads: bool) -> Case {
    let disk = MemoryDisk::new(1 << 20, 1);
    let (told, ends) = (Told::default(), Ends::default());
    let mut env = paused();
    let mut identity = Identity::start(&disk, env.entropy.as_ref(), &Supported::OWN).unwrap();
    identity.cluster = Some(CLUSTER);
    identity.save(&disk).unwrap();
    env.transport = Arc::new(Others {
        told: told.clone(),
        leads,
        ends: ends.clone(),
    });
    let place = Place {
        address: Address("own:8000".into()),
        zone: None,
        host: None,
        supports: Supported::OWN,
        seeds: Vec::new(),
    };
    let (ended, shared) = (ends.clone(), Arc::new(disk.clone()));
    let on_fatal: OnFatal = Arc::new(move |fatal| ended.lock().unwrap().push(fatal));
    let ending = Ending::new(env.clone(), shared, place, on_fatal);
    ending.is_of(&identity);
    let view = Cluster::start(env, ClusterSettings::new(Vec::new()), Shutdown::default());
    let mut state = cluster(2, 1);
    let peer = state.layout.nodes.values().next().unwrap().clone();
    let own = holdfast_model::LayoutNode {
        id: identity.node,
        disk: identity.disk,
        address: "own:8000".into(),
        incarnation: known_start,
        ..peer
    };
    state.layout.nodes.insert(identity.node, own);
    view.learn(state);
    ending.sees(&view);
    Case {
        disk,
        ending,
        told,
        ends,
    }
}

impl Case {
    async fn end(&self, fatal: Fatal) -> Duration {
        let begun = Instant::now();
        self.ending.begin(fatal.clone());
        self.ending.over().await;
        assert_eq!(*self.ends.lock().unwrap(), [fatal]);
        begun.elapsed()
    }

    fn told(&self) -> Vec<(String, u64)> {
        let told = self.told.lock().unwrap();
        let mut told: Vec<_> = told.iter().map(|(to, n)| (to.0.clone(), *n)).collect();
        told.dedup();
        told
    }

    fn refuses(&self) -> bool {
        Identity::find(&self.disk).is_err()
    }
}

fn failed() -> Fatal {
    Fatal::DiskFailed("EIO".into())
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_the_file_is_refused_from_then_on_and_nobody_else_needs_to_know() {
    let case = node(1, true);
    case.end(failed()).await;
    assert!(case.refuses());
    case.disk.power_cut();
    assert!(case.refuses(), "the file was not durable");
    assert!(case.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_a_disk_that_does_not_take_the_file_the_others_are_told_before_the_process_ends() {
    let case = node(1, true);
    case.disk.refuse_changes();
    case.end(failed()).await;
    assert!(!case.refuses());
    let told = case.told();
    assert!(!told.is_empty());
    let peer = ("peer:8000".to_owned(), LAST_START);
    assert!(told.iter().all(|one| *one == peer), "{told:?}");
    // Of the member and of group 0.
    assert!(case.told.lock().unwrap().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_not_synced_stops_the_next_process_while_the_page_cache_lives() {
    let case = node(1, true);
    case.disk.fail_syncs_after(0);
    case.end(failed()).await;
    case.disk.end_process();
    case.disk.mend();
    assert!(case.refuses());
    assert!(!case.told().is_empty(), "it may be gone after a power cut");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_can_tell_nobody_ends_after_a_while() {
    let case = node(1, false);
    case.disk.refuse_changes();
    let took = case.end(failed()).await;
    assert!(
        took >= TELLING_LIMIT && took < TELLING_LIMIT * 2,
        "{took:?}"
    );
}

/// The number of an older copy is that of a disk which serves somewhere else.
#[tokio::test(start_paused = true)]
async fn an_older_copy_says_nothing_of_its_disk_to_others() {
    let case = node(1, true);
    case.disk.refuse_changes();
    case.end(Fatal::Outdated("an older copy".into())).await;
    assert!(case.told().is_empty());
    // One that does not know yet that it is one.
    let case = node(2, true);
    case.disk.refuse_changes();
    case.end(failed()).await;
    assert!(case.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_room_and_a_fault_of_ours_are_not_noted_on_the_disk() {
    for fatal in [
        Fatal::NoRoom("ENOSPC".into()),
        Fatal::Broken("a row".into()),
        Fatal::Refused("lost".into()),
    ] {
        let case = node(1, true);
        case.end(fatal).await;
        assert!(!case.refuses());
        assert!(case.told().is_empty());
    }
}
