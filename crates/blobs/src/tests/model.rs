//! Any sequence of calls, against a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_model::FragmentId;

use super::world::*;
use crate::{FragmentState, WriteError};

#[tokio::test]
async fn the_engine_does_what_a_map_does() {
    for seed in 0..40 {
        let random = Seeded::new(seed);
        let disk = holdfast_runtime::memory_disk::MemoryDisk::new(12 << 20, seed);
        let (mut engine, _) = try_open(Arc::new(disk.clone()), seed, SETTINGS)
            .await
            .unwrap();
        let mut map: BTreeMap<FragmentId, u64> = BTreeMap::new();
        for step in 0..150 {
            let context = format!("seed {seed}, step {step}");
            let number = random.below(60);
            let len = 1 + (number * 7919) % 280_000;
            match random.below(10) {
                0..5 => match put(&engine, number, len as usize).await {
                    Ok(written) => {
                        let before = map.insert(id(number), number);
                        assert_eq!(written.existed, before.is_some(), "{context}");
                    }
                    Err(WriteError::Full) => assert!(map.len() > 20, "{context}: full"),
                    Err(error) => panic!("{context}: {error}"),
                },
                5..7 => {
                    engine.delete(id(number)).await.unwrap();
                    map.remove(&id(number));
                }
                7 => {
                    let writer = engine.begin(header(id(number)), len).await;
                    drop(writer);
                }
                8 => {
                    let found = get(&engine, id(number), len / 2..len).await.ok();
                    let expected = map.get(&id(number));
                    let expected = expected.map(|_| data(number, len as usize));
                    let expected = expected.map(|bytes| bytes[len as usize / 2..].to_vec());
                    assert_eq!(found, expected, "{context}");
                }
                _ => {
                    drop(engine);
                    engine = open(&disk).await;
                    let report = engine.report();
                    let bad = (report.damaged, report.corrupt, report.torn);
                    assert_eq!(bad, (0, 0, 0), "{context}");
                }
            }
            let listed = listed(&engine, 1000).await;
            assert!(
                listed
                    .iter()
                    .all(|entry| entry.state == FragmentState::Whole)
            );
            let listed: Vec<FragmentId> = listed.iter().map(|entry| entry.id).collect();
            let expected: Vec<FragmentId> = map.keys().copied().collect();
            assert_eq!(listed, expected, "{context}");
        }
        let stats = engine.stats().await.unwrap();
        let bytes = map.values().map(|number| 1 + (number * 7919) % 280_000);
        assert_eq!(stats.bytes, bytes.sum::<u64>());
    }
}
