//! What copies of fragments carry: read past the nodes, from their disks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_blobs::FragmentMeta;
use holdfast_model::{GroupId, NodeState, ObjectKey, UploadId, VersionId};
use holdfast_sim::journal::Journal;
use holdfast_sim::orders::Operator;
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::Client;
use holdfast_sim::{World, checks, run};

use crate::support::fragments;

/// How long a cluster may take to be whole again.
const WHOLE: Duration = Duration::from_secs(240);
/// Fragments of a disk: more than there are.
const ALL: usize = 10_000;
const OBJECTS: u64 = 9;

/// Every fragment of every chunk as it stands on the disks of nodes that run.
async fn on_disks(world: &World) -> BTreeMap<(GroupId, UploadId, u32), Vec<FragmentMeta>> {
    let mut chunks: BTreeMap<_, Vec<FragmentMeta>> = BTreeMap::new();
    for node in world.members.values().filter_map(|m| m.node.as_ref()) {
        let engine = node.fragments().engine();
        for entry in engine.list(None, ALL).await.unwrap() {
            let id = entry.id;
            let meta = engine.verify(id).await.unwrap();
            let chunk = chunks.entry((id.group, id.upload, id.chunk));
            chunk.or_default().push(meta);
        }
    }
    chunks
}

/// Compares what the copies of each chunk carry.
async fn carried_alike(world: &World) {
    for (chunk, metas) in on_disks(world).await {
        let keys: BTreeSet<_> = metas.iter().map(|meta| meta.key.clone()).collect();
        assert_eq!(keys.len(), 1, "{chunk:?}: {metas:#?}");
        assert!(metas.iter().all(|meta| meta.key.is_some()), "{chunk:?}");
        let first = &metas[0].header;
        assert_ne!(first.version, VersionId::from_bytes([0; 16]));
        for meta in &metas {
            let mut header = meta.header.clone();
            header.id.index = first.id.index;
            header.generation = first.generation;
            assert_eq!(header, *first);
            assert_eq!(meta.expires, metas[0].expires);
        }
    }
}

#[test]
fn copies_made_by_drain_and_repair_carry_what_their_originals_do() {
    run(137, async |mut world| {
        hurry(&mut world);
        let cluster = world.founded(4).await.unwrap();
        let journal = Journal::new(world.trace.clone());
        let client = Client::new(1, cluster.clone(), journal.clone()).unwrap();
        for n in 0..OBJECTS {
            let key = ObjectKey::new(format!("object-{n}")).unwrap();
            client.put(&key, 40_000 + n * 10_000, None).await;
        }
        assert_eq!(journal.counts().puts, OBJECTS);
        checks::until(&world, WHOLE, checks::fragments)
            .await
            .unwrap();
        assert!(
            fragments(&world, 2).await > 0,
            "there is nothing to be moved"
        );
        let (drained, lost) = (world.node_id(2).unwrap(), world.node_id(3).unwrap());
        Operator::new(&world).order(&world, drained, NodeState::Draining);
        let emptied = checks::until(&world, WHOLE, async |_| {
            let state = cluster.state().unwrap().layout.nodes[&drained].state;
            match state {
                NodeState::Drained => Ok(()),
                other => Err(checks::Not::Yet(format!("{other:?}"))),
            }
        });
        emptied.await.unwrap();
        carried_alike(&world).await;
        // And once more from those copies, to an empty disk.
        world.power_cut(3);
        Operator::new(&world).order(&world, lost, NodeState::Lost);
        world.add(1);
        world.start(5).await.unwrap();
        checks::until(&world, WHOLE, checks::fragments)
            .await
            .unwrap();
        carried_alike(&world).await;
        let there = on_disks(&world).await;
        assert!(there.len() >= OBJECTS as usize, "{}", there.len());
        assert!(there.values().all(|metas| metas.len() == 3));
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}
