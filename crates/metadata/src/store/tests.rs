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

/// A source of numbers for a test (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

type Model = std::collections::BTreeMap<(u16, Vec<u8>), Vec<u8>>;

fn of_group(model: &Model, group: u16, from: &[u8], to: &[u8]) -> Vec<Row> {
    let rows = model.range((group, from.to_vec())..(group, to.to_vec()));
    rows.map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

fn scanned(rows: &impl Rows, from: &[u8], to: &[u8]) -> Vec<Row> {
    let mut all = Vec::new();
    rows.scan(from, to, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        Ok(true)
    })
    .unwrap();
    all
}

fn compare(view: &ReadView, model: &Model, dice: &mut Dice) {
    for group in 1..=3 {
        let rows = view.group(GroupId(group));
        let all: Vec<Row> = view
            .rows(GroupId(group))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(all, of_group(model, group, &[], &[0xff; 8]));
        let (a, b) = (dice.below(600) as u16, dice.below(600) as u16);
        let (from, to) = (a.min(b).to_be_bytes(), a.max(b).to_be_bytes());
        assert_eq!(
            scanned(&rows, &from, &to),
            of_group(model, group, &from, &to)
        );
        let key = (dice.below(600) as u16).to_be_bytes().to_vec();
        let expected = model.get(&(group, key.clone())).cloned();
        assert_eq!(rows.get(&key).unwrap(), expected);
    }
}

/// Batches, in memory and in bulk, views that are held, flushes that begin and
/// end at other times, crashes: always what a map says, or what it said when
/// something was last durable.
#[test]
fn rows_in_memory_and_in_the_file_are_one_store() {
    for seed in 0..30 {
        let dice = &mut Dice(seed);
        let memory = MemoryDisk::new(1 << 30, seed);
        let disk: Arc<dyn Disk> = Arc::new(memory);
        let mut store = Store::open(&disk, "state").unwrap();
        let mut model = Model::new();
        let (mut frozen, mut durable) = (None, Model::new());
        let mut held: Vec<(ReadView, Model)> = Vec::new();
        for _ in 0..60 {
            match dice.below(12) {
                0..6 => {
                    let bulk = dice.below(8) == 0;
                    let mut batch = if bulk {
                        store.begin_bulk().unwrap()
                    } else {
                        store.begin().unwrap()
                    };
                    if bulk {
                        (frozen, durable) = (None, model.clone());
                    }
                    let mut next = model.clone();
                    change(&mut batch, &mut next, dice);
                    match dice.below(8) {
                        0 => drop(batch),
                        1 => {
                            batch.commit(true).unwrap();
                            (frozen, durable) = (None, next.clone());
                            model = next;
                        }
                        _ => {
                            batch.commit(false).unwrap();
                            model = next;
                        }
                    }
                }
                6 => {
                    if store.freeze() {
                        frozen = Some(model.clone());
                    } else {
                        assert!(frozen.is_some());
                    }
                }
                7 => {
                    store.flush().unwrap();
                    durable = frozen.take().unwrap_or(durable);
                }
                8 => held.push((store.snapshot().unwrap(), model.clone())),
                9 => drop(held.pop()),
                10 if dice.below(4) == 0 => {
                    held.clear();
                    store.abandon();
                    store = Store::open(&disk, "state").unwrap();
                    (model, frozen) = (durable.clone(), None);
                }
                _ => {
                    compare(&store.snapshot().unwrap(), &model, dice);
                    for (view, was) in &held {
                        compare(view, was, dice);
                    }
                }
            }
        }
        compare(&store.snapshot().unwrap(), &model, dice);
    }
}

/// Some changes of some groups, which the batch itself sees.
fn change(batch: &mut WriteBatch<'_>, model: &mut Model, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        if dice.below(10) == 0 {
            let group = 1 + dice.below(3) as u16;
            batch.delete_group(GroupId(group)).unwrap();
            model.retain(|(of, _), _| *of != group);
        }
        let group = 1 + dice.below(3) as u16;
        let mut txn = batch.group(GroupId(group)).unwrap();
        for _ in 0..dice.below(300) {
            let key = (dice.below(600) as u16).to_be_bytes().to_vec();
            if dice.below(3) == 0 {
                let was = model.remove(&(group, key.clone())).is_some();
                assert_eq!(txn.delete(&key).unwrap(), was);
            } else {
                let value = vec![dice.below(256) as u8; dice.below(40) as usize];
                txn.put(&key, &value).unwrap();
                model.insert((group, key), value);
            }
        }
        let all = scanned(&txn, &[], &[0xff; 8]);
        assert_eq!(all, of_group(model, group, &[], &[0xff; 8]));
    }
}
