//! What scenarios begin with.

use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_model::ObjectKey;
use holdfast_sim::World;
use holdfast_sim::journal::Journal;
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::{Client, Pace};

/// Without any pause.
pub const AT_ONCE: Option<Pace> = Some(Pace {
    piece: Duration::ZERO,
    commit: Duration::ZERO,
});

pub fn key(n: u64) -> ObjectKey {
    ObjectKey::new(format!("object-{n}")).unwrap()
}

/// A cluster in a hurry, and a client of it that makes no pauses.
pub async fn begin(world: &mut World, nodes: usize) -> (Cluster, Client, Journal) {
    hurry(world);
    let cluster = world.founded(nodes).await.unwrap();
    let journal = Journal::new(world.trace.clone());
    let mut client = Client::new(1, cluster.clone(), journal.clone()).unwrap();
    client.pace = AT_ONCE;
    (cluster, client, journal)
}

/// How many fragments are on the disk of a node.
pub async fn fragments(world: &World, node: usize) -> usize {
    let node = world.members[&node].node.as_ref().unwrap();
    let all = node.fragments().engine().list(None, usize::MAX).await;
    all.unwrap().len()
}
