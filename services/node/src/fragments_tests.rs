//! What a fragment that is to be copied tells of itself.

use holdfast_blobs::EngineSettings;
use holdfast_client::blocks::encode_blocks;
use holdfast_model::{
    BucketId, FragmentId, Generation, GroupId, ObjectKey, Redundancy, Timestamp, UploadId,
    VersionId,
};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::still;

use super::*;
use crate::LimitSettings;

const CLUSTER: ClusterId = ClusterId::from_bytes([9; 16]);
const DISK: DiskId = DiskId::from_bytes([1; 16]);

async fn fragments() -> Fragments {
    let env = still::env(1);
    let settings = EngineSettings {
        segment_bytes: 1 << 20,
        reserve_bytes: None,
    };
    let disk = Arc::new(MemoryDisk::new(1 << 30, 1));
    let opened = Engine::open(disk, &env, settings, Arc::new(|reason| panic!("{reason}")));
    let engine = opened.await.unwrap();
    let limits = Limits::new(env.clock.clone(), LimitSettings::default());
    let load = Load::new(env.clock.clone());
    Fragments::new(engine, DISK, Arc::new(limits), Arc::new(load))
}

fn uploading(copy: bool) -> UploadRequest {
    UploadRequest {
        disk: DISK,
        header: FragmentHeader {
            id: FragmentId {
                group: GroupId(3),
                upload: UploadId::from_bytes([4; 16]),
                chunk: 5,
                index: 1,
            },
            cluster: CLUSTER,
            bucket: BucketId::from_bytes([8; 16]),
            version: VersionId::from_bytes([9; 16]),
            redundancy: Redundancy::copies(3),
            stripe_bytes: 262_144,
            generation: Generation(10),
            encryption_key: Some(12),
        },
        max_bytes: 100,
        key: ObjectKey::new("a/b").ok(),
        expires: Some(Timestamp(11)),
        copy,
    }
}

fn reading(end: u64, copy: bool) -> DownloadRequest {
    DownloadRequest {
        disk: DISK,
        id: uploading(false).header.id,
        first: 0,
        end,
        copy,
    }
}

#[tokio::test]
async fn who_copies_a_fragment_is_told_all_that_it_carries_and_nobody_else() {
    let fragments = fragments().await;
    let body = || Body::Full(encode_blocks(&[7; 100]));
    let written = fragments.upload(CLUSTER, uploading(false), body()).await;
    assert_eq!(written.unwrap().pressed, None);
    let (head, _) = fragments.download(reading(100, false)).await.unwrap();
    assert_eq!((head.carried, head.pressed), (None, None));
    let expected = uploading(false);
    let expected = Carried {
        header: expected.header,
        key: expected.key,
        expires: expected.expires,
    };
    // Also without its bytes.
    for end in [100, 0] {
        let (head, _) = fragments.download(reading(end, true)).await.unwrap();
        assert_eq!(head.carried.as_deref(), Some(&expected));
        assert_eq!(head.pressed, Some(false));
    }
    let copied = fragments.upload(CLUSTER, uploading(true), body()).await;
    assert_eq!(copied.unwrap().pressed, Some(false));
}
