//! What comes late to a disk that is being emptied.

use std::time::Duration;

use holdfast_client::blocks::encode_blocks;
use holdfast_client::{CallError, Cluster, StorageNodeClient};
use holdfast_metadata::protocol::{NodeError, UploadRequest};
use holdfast_model::{
    BucketId, DiskId, FragmentHeader, FragmentId, Generation, NodeState, Redundancy, UploadId,
    VersionId,
};
use holdfast_runtime::Body;
use holdfast_sim::orders::Operator;
use holdfast_sim::scenario::hurry;
use holdfast_sim::{World, checks, run};

use crate::support::{begin, key};

/// How long an order may take to be done.
const DONE: Duration = Duration::from_secs(240);
const BYTES: usize = 300 << 10;

/// Writes a fragment of an upload of its own, as a gateway does that has the disk
/// from a layout of long ago.
async fn write(
    cluster: &Cluster,
    node: &StorageNodeClient,
    disk: DiskId,
    upload: u8,
) -> Result<u64, CallError> {
    let state = cluster.state().unwrap();
    let request = UploadRequest {
        disk,
        header: FragmentHeader {
            id: FragmentId {
                group: state.layout.data_groups()[0],
                upload: UploadId::from_bytes([upload; 16]),
                chunk: 0,
                index: 0,
            },
            cluster: state.cluster,
            bucket: BucketId::from_bytes([1; 16]),
            version: VersionId::from_bytes([1; 16]),
            redundancy: Redundancy::copies(3),
            stripe_bytes: 256 << 10,
            generation: Generation(1_000_000),
            encryption_key: None,
        },
        max_bytes: BYTES as u64,
        key: None,
        expires: None,
        copy: false,
    };
    let body = Body::Full(encode_blocks(&[7; BYTES]));
    let written = node.upload(&request, body, None).await?;
    Ok(written.bytes)
}

fn is_sealed(result: &Result<u64, CallError>) -> bool {
    matches!(result, Err(CallError::Node(NodeError::Sealed)))
}

async fn until(world: &World, cluster: &Cluster, disk: DiskId, state: NodeState) {
    let reached = checks::until(world, DONE, async |_| {
        let view = cluster.state().unwrap();
        let mut nodes = view.layout.nodes.values();
        match nodes.find(|node| node.disk == disk) {
            Some(node) if node.state == state => Ok(()),
            other => Err(checks::Not::Yet(format!("{other:?}"))),
        }
    });
    reached.await.unwrap();
}

#[test]
fn a_gateway_that_has_not_heard_of_a_drain_writes_nothing_to_the_drained_disk() {
    run(131, async |mut world| {
        hurry(&mut world);
        let cluster = world.founded(4).await.unwrap();
        let id = world.node_id(2).unwrap();
        let disk = cluster.state().unwrap().layout.nodes[&id].disk;
        let late = cluster.manager().node_of_disk(disk).unwrap();
        let operator = Operator::new(&world);
        operator.order(&world, id, NodeState::Draining);
        until(&world, &cluster, disk, NodeState::Drained).await;
        let refused = write(&cluster, &late, disk, 1).await;
        assert!(is_sealed(&refused), "{refused:?}");
        // Nor before it has heard, after a power cut, what layout there is.
        world.power_cut(2);
        world.start(2).await.unwrap();
        let refused = write(&cluster, &late, disk, 2).await;
        assert!(is_sealed(&refused), "{refused:?}");
        // Called back, it takes data again.
        operator.order(&world, id, NodeState::Active);
        until(&world, &cluster, disk, NodeState::Active).await;
        let taken = checks::until(&world, DONE, async |_| {
            let written = write(&cluster, &late, disk, 3).await;
            written.map_or_else(
                |error| Err(checks::Not::Yet(error.to_string())),
                |bytes| match bytes == BYTES as u64 {
                    true => Ok(()),
                    false => Err(checks::Not::Ever(format!("{bytes} bytes"))),
                },
            )
        });
        taken.await.unwrap();
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

/// Its groups go one at a time, and each as soon as the last one has gone: a step
/// a second would take a minute and more.
#[test]
fn a_node_that_holds_little_is_drained_in_less_than_half_a_minute() {
    run(132, async |mut world| {
        let (cluster, client, _) = begin(&mut world, 4).await;
        for n in 0..20 {
            client.put(&key(n), 300 << 10, None).await;
        }
        let id = world.node_id(2).unwrap();
        let state = cluster.state().unwrap();
        let disk = state.layout.nodes[&id].disk;
        let carried = state.layout.groups.values().filter(|g| g.contains(&disk));
        assert!(carried.count() >= 10);
        let begun = world.trace.at();
        Operator::new(&world).order(&world, id, NodeState::Draining);
        until(&world, &cluster, disk, NodeState::Drained).await;
        let took = world.trace.at() - begun;
        println!("drained in {took:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
}
