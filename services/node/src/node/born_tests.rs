//! A birth, and a start, on a disk of which syncs fail.

use std::sync::Mutex;

use holdfast_model::{LayoutNode, Supported};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Disk, OnFatal};

use super::*;
use crate::node::join::tests::{adopt, cluster, parts, paused, start};

type Ends = Arc<Mutex<Vec<Fatal>>>;

fn ends() -> (Ends, OnFatal) {
    let ends = Ends::default();
    let heard = ends.clone();
    let hear: OnFatal = Arc::new(move |fatal| heard.lock().unwrap().push(fatal));
    (ends, hear)
}

/// What the disk must do to the node that is born on it.
async fn born_on(harm: impl FnOnce(&MemoryDisk)) -> (Result<(), NodeError>, Vec<Fatal>, bool) {
    let memory = MemoryDisk::new(1 << 30, 1);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (ends, on_fatal) = ends();
    let node = start(paused(), disk, on_fatal).await;
    let mut state = cluster(1, 1);
    let own = node.identity();
    let peer = state.layout.nodes.values().next().unwrap().clone();
    let named = LayoutNode {
        id: own.node,
        disk: own.disk,
        ..peer
    };
    state.layout.nodes = [(own.node, named)].into();
    for group in state.layout.data_groups() {
        state.layout.groups.entry(group).or_default();
    }
    for disks in state.layout.groups.values_mut() {
        *disks = vec![own.disk];
    }
    harm(&memory);
    let done = node.be_born(Bootstrap { state }).await;
    node.ending.over().await;
    let refused = Identity::find(&memory).is_err();
    let ends = ends.lock().unwrap().clone();
    (done, ends, refused)
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_fails_in_a_birth_ends_the_disk_and_is_not_tried_again() {
    let (done, ended, refused) = born_on(|_| ()).await;
    assert_eq!((done, ended.as_slice(), refused), (Ok(()), &[][..], false));
    let mut failed = 0;
    for syncs in 0..12 {
        let harm = |disk: &MemoryDisk| {
            disk.fail_syncs_after(syncs);
        };
        let (done, ended, refused) = born_on(harm).await;
        if ended.is_empty() {
            // All that a birth syncs was synced before.
            assert_eq!(done, Ok(()), "{syncs}");
            continue;
        }
        failed += 1;
        assert!(
            matches!(ended[..], [Fatal::DiskFailed(_)]),
            "{syncs}: {ended:?}"
        );
        assert!(refused, "{syncs}");
    }
    assert!(failed >= 3, "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_birth_without_room_ends_the_process_and_not_the_disk() {
    let (done, ended, refused) = born_on(|disk| disk.set_free(0)).await;
    assert_eq!((done, refused), (Err(NodeError::DiskFull), false));
    assert!(matches!(ended[..], [Fatal::NoRoom(_)]), "{ended:?}");
}

/// What the next start would find in the page cache was never on the disk.
#[tokio::test(start_paused = true)]
async fn a_sync_that_fails_in_a_start_ends_the_disk() {
    let mut failed = 0;
    for syncs in 0..12 {
        let memory = MemoryDisk::new(1 << 30, 1);
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let env = paused();
        adopt(disk.as_ref(), &env);
        let (_, quiet) = ends();
        drop(start(env.clone(), disk.clone(), quiet).await);
        memory.end_process();
        memory.fail_syncs_after(syncs);
        let (ends, on_fatal) = ends();
        let started = Node::start(parts(env, disk, on_fatal)).await;
        memory.mend();
        let ended = ends.lock().unwrap().clone();
        assert_eq!(started.is_err(), !ended.is_empty(), "{syncs}");
        if started.is_err() {
            failed += 1;
            assert!(
                matches!(ended[..], [Fatal::DiskFailed(_)]),
                "{syncs}: {ended:?}"
            );
            let error = Identity::start(&memory, paused().entropy.as_ref(), &Supported::OWN);
            assert!(error.is_err(), "{syncs}: the next start is taken");
        }
    }
    assert!(failed >= 3, "{failed}");
}
