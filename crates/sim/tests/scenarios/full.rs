//! Disks without room: what is refused, what goes on, and what helps.

use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_runtime::Disk;
use holdfast_sim::journal::{Did, Journal};
use holdfast_sim::workload::Client;
use holdfast_sim::world::RESERVE_BYTES;
use holdfast_sim::{World, checks, run};

use crate::support::{begin, fragments, key};

/// Bytes of an object; a disk takes some of them after it has no more room for
/// another segment.
const OBJECT: u64 = 600 << 10;
/// Of them a segment holds fewer than are put.
const LARGE: u64 = 2 << 20;
/// Less than an object.
const LITTLE: u64 = 100 << 10;

fn is_full(did: &Did) -> bool {
    matches!(did.error, Some(ClusterError::DiskFull))
}

/// Puts an object until it is there, and says how often there was no room.
async fn until_there(world: &World, client: &Client, journal: &Journal, n: u64) -> usize {
    until_so_large(world, client, journal, (n, OBJECT)).await
}

async fn until_so_large(
    world: &World,
    client: &Client,
    journal: &Journal,
    (n, bytes): (u64, u64),
) -> usize {
    let mut refused = 0;
    let put = checks::until(world, Duration::from_secs(60), async |_| {
        client.put(&key(n), bytes, None).await;
        match journal.all_done().last().and_then(|did| did.error.clone()) {
            None => Ok(()),
            Some(ClusterError::DiskFull) => {
                refused += 1;
                Err(checks::Not::Yet("there is no room".into()))
            }
            Some(other) => Err(checks::Not::Ever(other.to_string())),
        }
    });
    put.await.unwrap();
    refused
}

#[test]
fn deletes_make_room_for_uploads_on_disks_that_stay_full() {
    run(23, async |mut world| {
        let (_, client, journal) = begin(&mut world, 3).await;
        for n in 0..12 {
            assert_eq!(until_there(&world, &client, &journal, n).await, 0);
        }
        for member in world.members.values() {
            member.disk.set_free(RESERVE_BYTES + LITTLE);
        }
        let full = checks::until(&world, Duration::from_secs(20), async |_| {
            client.put(&key(100), OBJECT, None).await;
            match journal.all_done().last().map(|did| did.error.clone()) {
                Some(Some(ClusterError::DiskFull)) => Ok(()),
                other => Err(checks::Not::Yet(format!("{other:?}"))),
            }
        });
        full.await.unwrap();
        // Refused again and again, and every object can be read meanwhile.
        for n in 0..12 {
            client.put(&key(101), OBJECT, None).await;
            let last = journal.all_done().pop().unwrap();
            assert!(is_full(&last), "{last:?}");
            assert!(client.read_whole(&key(n)).await.unwrap().is_some());
        }
        for n in 0..8 {
            client.delete(&key(n)).await;
            assert!(client.read_whole(&key(n)).await.unwrap().is_none());
        }
        for n in 102..105 {
            until_there(&world, &client, &journal, n).await;
            assert!(client.read_whole(&key(n)).await.unwrap().is_some());
        }
        journal.judge();
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

#[test]
fn one_full_disk_of_three_is_gone_round_and_filled_later() {
    run(22, async |mut world| {
        let (_, client, journal) = begin(&mut world, 3).await;
        for n in 0..4 {
            assert_eq!(
                until_so_large(&world, &client, &journal, (n, LARGE)).await,
                0
            );
        }
        let disk = world.members[&2].disk.clone();
        let free = disk.space().unwrap().free;
        disk.set_free(RESERVE_BYTES + LITTLE);
        let mut refused = 0;
        for n in 4..24 {
            refused += until_so_large(&world, &client, &journal, (n, LARGE)).await;
        }
        // The first may meet the disk before anybody has heard of it.
        assert!(refused <= 1, "{refused}");
        let (full, other) = (fragments(&world, 2).await, fragments(&world, 3).await);
        assert!(full + 10 < other, "{full} beside {other}");
        for n in 0..24 {
            assert!(client.read_whole(&key(n)).await.unwrap().is_some());
        }
        disk.set_free(free);
        let whole = checks::until(&world, Duration::from_secs(600), checks::fragments);
        whole.await.unwrap();
        assert_eq!(fragments(&world, 2).await, other);
        journal.judge();
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}
