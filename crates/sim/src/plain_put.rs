//! The command that puts an object which has nothing special about it.

use bytes::Bytes;
use holdfast_client::Written;
use holdfast_metadata::command::{Condition, PutObject};
use holdfast_model::record::{Coding, Content};
use holdfast_model::{
    AccessKeyId, BucketId, ObjectKey, ObjectRecord, Representation, Timestamp, VersionId,
};
use sha2::{Digest, Sha256};

/// Puts what was written, without any condition.
pub fn plain_put(
    bucket: BucketId,
    key: ObjectKey,
    version: VersionId,
    owner: AccessKeyId,
    written: Written,
) -> PutObject {
    let record = ObjectRecord {
        bucket,
        key,
        version,
        owner,
        created: Timestamp(0),
        expires: None,
        content: Content {
            filename: None,
            mime: "application/octet-stream".into(),
            size: written.size,
            sha256: written.sha256,
            etag: version.to_string(),
            checksums: Default::default(),
        },
        representation: written.representation,
        downloads: None,
        password: None,
        delete_token: None,
        metadata: Default::default(),
        tags: Default::default(),
        derived: Vec::new(),
        revision: 0,
        fingerprint: None,
        kind: Default::default(),
        headers: Default::default(),
    };
    PutObject {
        record,
        chunks: written.chunks,
        generation: written.generation,
        tasks: Vec::new(),
        condition: Condition::Always,
        lifetime_millis: None,
    }
}

/// Bytes that travel inside the command.
pub fn inline(bytes: Bytes) -> Written {
    Written {
        size: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).into(),
        representation: Representation::Inline {
            bytes,
            coding: Coding::Identity,
        },
        chunks: Vec::new(),
        generation: None,
    }
}
