use holdfast_runtime::memory_disk::MemoryDisk;

use super::*;

fn store() -> Store {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    Store::open(&disk, "state").unwrap()
}

#[test]
fn what_is_deleted_can_be_written_again_and_be_given_back() {
    const ROWS: u32 = 500;
    const BYTES: usize = 10_000;
    let mut store = store();
    let write = |store: &Store, rows: std::ops::Range<u32>| {
        let mut batch = store.begin().unwrap();
        let mut txn = batch.group(GroupId(1)).unwrap();
        for row in rows {
            txn.put(&row.to_be_bytes(), &[7; BYTES]).unwrap();
        }
        drop(txn);
        batch.commit(true).unwrap();
    };
    write(&store, 0..ROWS);
    assert_eq!(store.reusable(), 0);

    let mut batch = store.begin().unwrap();
    let mut txn = batch.group(GroupId(1)).unwrap();
    for row in 100..ROWS {
        assert!(txn.delete(&row.to_be_bytes()).unwrap());
    }
    drop(txn);
    batch.commit(true).unwrap();
    let deleted = store.reusable();
    assert!(deleted >= 400 * BYTES as u64, "{deleted}");
    write(&store, 100..200);
    assert!(store.reusable() <= deleted - 100 * BYTES as u64);

    let (before, after) = store.compact().unwrap();
    assert!(after < before * 6 / 10, "{before} to {after}");
    assert_eq!(store.reusable(), 0);
    let view = store.snapshot().unwrap();
    let row = view.group(GroupId(1)).get(&199u32.to_be_bytes()).unwrap();
    assert_eq!(row, Some(vec![7; BYTES]));
}
