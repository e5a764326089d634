//! What ends the process, and what that says of its disk.

use std::sync::Mutex;

use holdfast_model::layout::initial_slots;
use holdfast_model::{ClusterId, ClusterState, DiskId, Epoch, Layout, Redundancy};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Disk, still};

use super::*;
use crate::log::{LogFiles, LogSettings};

const GROUP: GroupId = GroupId(1);

/// An applier with rows of a group at its birth; what it says at its end.
async fn ended_by(data: Bytes, harm: impl FnOnce(&Store)) -> Option<Fatal> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    let store = Arc::new(Store::open(&disk, "state").unwrap());
    let mut batch = store.begin_bulk().unwrap();
    let mut txn = batch.group(GROUP).unwrap();
    for (key, value) in crate::state::initial_rows(GROUP, &cluster()) {
        txn.put(&key, &value).unwrap();
    }
    drop(txn);
    batch.commit(true).unwrap();
    harm(&store);
    let settings = LogSettings::default();
    let files = LogFiles::open(disk, settings, 0).unwrap().files;
    let (work, waiting) = mpsc::unbounded_channel();
    let (applied, _heard) = mpsc::unbounded_channel();
    let ended = Arc::new(Mutex::new(None));
    let end = ended.clone();
    let applier = Applier {
        env: still::env(1),
        store,
        files,
        work: waiting,
        applied,
        on_fatal: Arc::new(move |fatal| *end.lock().unwrap() = Some(fatal)),
    };
    let entry = Committed {
        at: LogEnd { index: 2, term: 1 },
        data,
        members: None,
    };
    let entries = vec![entry];
    let group = GROUP;
    assert!(work.send(Work::Entries { group, entries }).is_ok());
    drop(work);
    applier.run().await;
    ended.lock().unwrap().take()
}

fn cluster() -> ClusterState {
    ClusterState {
        cluster: ClusterId::from_bytes([9; 16]),
        revision: Epoch(1),
        layout: Layout {
            epoch: Epoch(1),
            redundancy: Redundancy::copies(1),
            metadata_replicas: 1,
            slots: initial_slots(1),
            nodes: Default::default(),
            groups: [(GROUP, vec![DiskId::from_bytes([1; 16])])].into(),
        },
        buckets: Vec::new(),
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

fn tick() -> Bytes {
    let batch = crate::command::Batch {
        time: Timestamp(1),
        commands: Vec::new(),
    };
    crate::protocol::encode(&batch)
}

/// Every member applies the same entries: an error that follows from them would
/// mark all their disks as failed at once, and no other program could mend it.
#[tokio::test]
async fn an_entry_that_cannot_be_read_or_applied_fails_no_disk() {
    assert_eq!(ended_by(tick(), |_| ()).await, None);
    let unread = ended_by(Bytes::from_static(&[0x9f]), |_| ()).await;
    assert!(matches!(unread, Some(Fatal::Broken(_))), "{unread:?}");
    let spoil = |store: &Store| {
        let mut batch = store.begin_bulk().unwrap();
        let mut txn = batch.group(GROUP).unwrap();
        let rows = crate::state::initial_rows(GROUP, &cluster());
        txn.put(&rows[0].0, &[0x9f]).unwrap();
        drop(txn);
        batch.commit(true).unwrap();
    };
    let senseless = ended_by(tick(), spoil).await;
    assert!(matches!(senseless, Some(Fatal::Broken(_))), "{senseless:?}");
}
