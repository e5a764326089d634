//! Buckets over real groups: a deletion is whole, or none.

use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_metadata::command::{ClusterCommand, Command, DeleteCause, Outcome, Refusal};
use holdfast_model::*;
use holdfast_sim::plain_put::{inline, plain_put};
use holdfast_sim::run;

const DEADLINE: Duration = Duration::from_secs(30);
const BUCKET: BucketId = BucketId::from_bytes([7; 16]);

fn key() -> ObjectKey {
    ObjectKey::new("object").unwrap()
}

async fn change(
    cluster: &Cluster,
    group: GroupId,
    command: Command,
) -> Result<Outcome, ClusterError> {
    let id = cluster.env().entropy.request_id(&*cluster.env().clock);
    cluster.propose(group, id, command, DEADLINE, None).await
}

async fn put(cluster: &Cluster) -> Result<Outcome, ClusterError> {
    let version = VersionId::from_bytes(cluster.env().entropy.id());
    let owner = AccessKeyId::from_bytes([1; 16]);
    let put = plain_put(BUCKET, key(), version, owner, inline(vec![1].into()));
    let group = cluster.group_of(BUCKET, &key())?;
    change(cluster, group, Command::PutObject(Box::new(put))).await
}

fn refused<T>(result: Result<T, ClusterError>) -> Refusal {
    match result {
        Err(ClusterError::Refused(refusal)) => refusal,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was done"),
    }
}

#[test]
fn a_bucket_with_an_object_is_served_again_and_an_empty_one_is_gone() {
    run(11, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        assert_eq!(refused(put(&cluster).await), Refusal::NoSuchBucket);
        let name = BucketName::new("backups").unwrap();
        let made = cluster.create_bucket(BUCKET, name, DEADLINE).await.unwrap();
        assert_eq!(made.id, BUCKET);
        put(&cluster).await.unwrap();
        let full = cluster.delete_bucket(BUCKET, DEADLINE).await;
        assert_eq!(refused(full), Refusal::BucketNotEmpty);
        put(&cluster).await.unwrap();
        let delete = Command::DeleteObject {
            bucket: BUCKET,
            key: key(),
            version: None,
            cause: DeleteCause::Wish,
        };
        let group = cluster.group_of(BUCKET, &key()).unwrap();
        change(&cluster, group, delete).await.unwrap();
        cluster.delete_bucket(BUCKET, DEADLINE).await.unwrap();
        let left = cluster.buckets(DEADLINE).await.unwrap();
        assert!(left.iter().all(|bucket| bucket.id != BUCKET));
        assert_eq!(refused(put(&cluster).await), Refusal::NoSuchBucket);
    });
}

#[test]
fn a_deletion_whose_gateway_died_is_ended_by_the_controller() {
    for full in [false, true] {
        run(12, async |mut world| {
            let cluster = world.founded(3).await.unwrap();
            let name = BucketName::new("backups").unwrap();
            cluster.create_bucket(BUCKET, name, DEADLINE).await.unwrap();
            if full {
                put(&cluster).await.unwrap();
            }
            let begin = ClusterCommand::DeleteBucket { bucket: BUCKET };
            let begin = Command::Cluster(Box::new(begin));
            change(&cluster, GroupId::CLUSTER, begin).await.unwrap();
            let mut left = 60;
            let bucket = loop {
                let buckets = cluster.buckets(DEADLINE).await.unwrap();
                let bucket = buckets.into_iter().find(|bucket| bucket.id == BUCKET);
                match bucket {
                    Some(bucket) if bucket.deletion.is_some() => {
                        assert!(left > 0, "still {bucket:?}");
                        left -= 1;
                        world.pass(Duration::from_secs(1)).await;
                    }
                    settled => break settled,
                }
            };
            assert_eq!(bucket.is_some(), full);
            if full {
                // Whoever ended it has said so to no group yet, perhaps.
                let settled = cluster.settle_bucket(BUCKET, DEADLINE).await.unwrap();
                assert!(settled.unwrap().refused.is_some());
                put(&cluster).await.unwrap();
            }
        });
    }
}
