//! Claims about the state machine, each on a store in memory.

mod clusters;
mod downloading;
mod keys;
mod knowing;
mod random;
mod releasing;
mod removing;
mod storing;
mod versioning;
mod working;

use std::sync::Arc;

use holdfast_model::layout::initial_slots;
use holdfast_model::record::{Coding, Content};
use holdfast_model::{
    AccessKeyId, Bucket, BucketId, BucketName, Chunk, ClusterId, ClusterState, DiskId,
    DownloadLimit, Epoch, FragmentPlace, Generation, GroupId, Layout, ObjectKey, ObjectRecord,
    Part, Redundancy, Representation, RequestId, Timestamp, UploadId, VersionId,
};
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::{answer, apply, check_invariants, initial_rows, next_due};
use crate::command::{
    Batch, ByteSpan, Command, Condition, DeleteCause, Outcome, PutObject, Refusal, Request,
};
use crate::query::{Answer, Query, Totals};
use crate::store::{Rows, Store};

pub(super) const GROUP: GroupId = GroupId(1);
const BUCKET: BucketId = BucketId::from_bytes([1; 16]);
const START: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: u64 = 60_000;
const HALF_HOUR: u64 = 30 * MINUTE;
const HOUR: u64 = 60 * MINUTE;
// What a group goes by when nobody has set anything.
const EXPIRY_GRACE_MILLIS: u64 = HOUR;
const TICKET_IDLE_MILLIS: u64 = HOUR;
const TICKET_MAX_MILLIS: u64 = 24 * HOUR;

/// One group on a disk in memory.
pub(super) struct Bench {
    pub disk: MemoryDisk,
    pub store: Store,
    pub now: Timestamp,
    pub group: GroupId,
    requests: u64,
    index: u64,
}

pub(super) fn layout(groups: u16) -> Layout {
    Layout {
        epoch: Epoch(1),
        redundancy: Redundancy::copies(3),
        metadata_replicas: 1,
        slots: initial_slots(groups),
        nodes: Default::default(),
        groups: Default::default(),
    }
}

fn cluster_state(groups: u16) -> ClusterState {
    ClusterState {
        cluster: ClusterId::from_bytes([9; 16]),
        revision: Epoch(1),
        layout: layout(groups),
        buckets: vec![Bucket::new(
            BUCKET,
            BucketName::new("bucket").unwrap(),
            START,
        )],
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::of(GROUP, &cluster_state(1))
    }

    pub(super) fn of(group: GroupId, state: &ClusterState) -> Self {
        let disk = MemoryDisk::new(1 << 30, 1);
        let store = Store::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), "state").unwrap();
        let mut batch = store.begin().unwrap();
        let mut txn = batch.group(group).unwrap();
        for (key, value) in initial_rows(group, state) {
            txn.put(&key, &value).unwrap();
        }
        txn.set_applied(0, 0).unwrap();
        drop(txn);
        batch.commit(true).unwrap();
        Self {
            disk,
            store,
            now: START,
            group,
            requests: 0,
            index: 0,
        }
    }

    pub(super) fn request(&mut self, command: Command) -> Request {
        self.requests += 1;
        let mut id = [0; 16];
        id[..6].copy_from_slice(&self.now.0.to_be_bytes()[2..]);
        id[8..].copy_from_slice(&self.requests.to_be_bytes());
        Request {
            id: RequestId::from_bytes(id),
            command,
        }
    }

    pub(super) fn send(&mut self, request: &Request) -> Outcome {
        self.send_all(vec![request.clone()]).pop().unwrap()
    }

    /// Applies an entry and checks that all rows agree with each other.
    pub(super) fn send_all(&mut self, commands: Vec<Request>) -> Vec<Outcome> {
        self.index += 1;
        let mut batch = self.store.begin().unwrap();
        let mut txn = batch.group(self.group).unwrap();
        let time = self.now;
        let outcomes = apply(&mut txn, &Batch { time, commands }).unwrap();
        txn.set_applied(self.index, 1).unwrap();
        if let Err(problem) = check_invariants(&txn).unwrap() {
            panic!("{problem}");
        }
        drop(txn);
        batch.commit(false).unwrap();
        outcomes
    }

    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let request = self.request(command);
        self.send(&request)
    }

    pub(super) fn refused(&mut self, command: Command) -> Refusal {
        match self.run(command) {
            Outcome::Refused(refusal) => refusal,
            other => panic!("done: {other:?}"),
        }
    }

    pub(super) fn ask(&self, query: &Query) -> Answer {
        let view = self.store.snapshot().unwrap();
        answer(&view.group(self.group), query, self.now).unwrap()
    }

    pub(super) fn object(&self, key: &str) -> Option<ObjectRecord> {
        let query = Query::Object {
            bucket: BUCKET,
            key: name(key),
            chunks: 10,
        };
        match self.ask(&query) {
            Answer::Object { record, .. } => record.map(|record| *record),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        match self.ask(&Query::Totals) {
            Answer::Totals(totals) => totals,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus(millis);
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        next_due(&self.store.snapshot().unwrap().group(self.group)).unwrap()
    }

    /// Waits and ticks.
    pub(super) fn tick_after(&mut self, millis: u64) {
        self.wait(millis);
        assert_eq!(self.run(Command::Tick), Outcome::Done);
    }

    /// Writes the state to its disk.
    pub(super) fn make_durable(&mut self) {
        let mut batch = self.store.begin().unwrap();
        batch
            .group(self.group)
            .unwrap()
            .set_applied(self.index, 1)
            .unwrap();
        batch.commit(true).unwrap();
    }

    /// Opens the state from its disk, as after a start.
    pub(super) fn reopen(&mut self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        self.store = Store::open(&disk, "state").unwrap();
    }

    pub(super) fn rows(&self) -> Vec<crate::store::Row> {
        let view = self.store.snapshot().unwrap();
        view.rows(self.group).unwrap().map(Result::unwrap).collect()
    }

    pub(super) fn delete(&mut self, key: &str, cause: DeleteCause) -> Outcome {
        self.run(Command::DeleteObject {
            bucket: BUCKET,
            key: name(key),
            version: None,
            cause,
        })
    }
}

pub(super) fn name(key: &str) -> ObjectKey {
    ObjectKey::new(key).unwrap()
}

fn id16(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(super) fn version(number: u64) -> VersionId {
    VersionId::from_bytes(id16(number))
}

pub(super) fn upload(number: u64) -> UploadId {
    UploadId::from_bytes(id16(number))
}

pub(super) fn disk(number: u64) -> DiskId {
    DiskId::from_bytes([number as u8; 16])
}

pub(super) fn span(first: u64, end: u64) -> ByteSpan {
    ByteSpan { first, end }
}

/// A chunk of three copies with one on each of `disks`.
pub(super) fn chunk(index: u32, size: u32, disks: &[u64]) -> Chunk {
    Chunk {
        index,
        size,
        stored: size,
        redundancy: Redundancy::copies(3),
        stripe_bytes: 65_536,
        generation: Generation(1),
        fragments: places(disks),
    }
}

pub(super) fn places(disks: &[u64]) -> Vec<FragmentPlace> {
    disks
        .iter()
        .enumerate()
        .map(|(index, number)| FragmentPlace {
            index: index as u8,
            disk: disk(*number),
        })
        .collect()
}

pub(super) fn record(key: &str, number: u64, bytes: &'static [u8]) -> ObjectRecord {
    ObjectRecord {
        bucket: BUCKET,
        key: name(key),
        version: version(number),
        owner: AccessKeyId::from_bytes([2; 16]),
        created: Timestamp(0),
        expires: None,
        content: Content {
            filename: None,
            mime: "text/plain".to_owned(),
            size: bytes.len() as u64,
            sha256: [0; 32],
            etag: format!("tag{number}"),
            checksums: Default::default(),
        },
        representation: Representation::Inline {
            bytes: bytes.into(),
            coding: Coding::Identity,
        },
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
    }
}

/// A commit of ten inline bytes.
pub(super) fn put(key: &str, number: u64) -> PutObject {
    PutObject {
        record: record(key, number, b"0123456789"),
        chunks: Vec::new(),
        generation: None,
        tasks: Vec::new(),
        condition: Condition::Always,
        lifetime_millis: None,
    }
}

pub(super) fn limited(key: &str, number: u64, limit: u32) -> PutObject {
    let mut put = put(key, number);
    put.record.downloads = Some(DownloadLimit { limit, left: 0 });
    put
}

/// A commit of `count` chunks of 100 bytes on three disks, of which `given`
/// travel in the command.
pub(super) fn chunked(key: &str, number: u64, count: u32, given: Vec<Chunk>) -> PutObject {
    let mut put = put(key, number);
    let size = u64::from(count) * 100;
    put.record.content.size = size;
    put.record.representation = Representation::Chunked {
        parts: vec![Part {
            upload: upload(number),
            chunks: count,
            size,
            chunk_bytes: 100,
            sums: Default::default(),
        }],
        coding: Coding::Identity,
    };
    put.chunks = given;
    put.generation = Some(Generation(1));
    put
}

pub(super) fn commit(put: PutObject) -> Command {
    Command::PutObject(Box::new(put))
}
