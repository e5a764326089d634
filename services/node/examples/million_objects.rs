//! How long a census of very many objects takes, and the first page of a list.
//!
//! `million_objects DIR [COUNT...]` (100000 and 1000000 without counts): three
//! nodes in this process, each behind HTTP on a port of its own and with its
//! store in `DIR`. Objects of one chunk of 4 KiB in three copies are put
//! into the leaders' stores through the state machine, and their fragments into
//! the engines; the engines' files are kept in memory, but for their zeros, so that
//! no gigabytes are written. Everything is then asked as a node or a gateway asks.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a measurement run by hand, on the machine's own clock and files"
)]

#[path = "million_objects/segments_in_memory.rs"]
mod segments_in_memory;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use futures_util::stream::{self, StreamExt};
use holdfast_blobs::Closing;
use holdfast_client::cluster::ListNewest;
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_metadata::command::{Batch, Command, Condition, PutObject, Request};
use holdfast_metadata::query::ListKeys;
use holdfast_metadata::state;
use holdfast_model::cluster::FILES_BUCKET;
use holdfast_model::record::{Coding, Content, STRIPE_BYTES};
use holdfast_model::{
    AccessKeyId, BucketId, Chunk, DiskId, FileName, FragmentHeader, FragmentPlace, Generation,
    GroupId, ObjectKey, ObjectRecord, Part, Redundancy, Representation, RequestId, Supported,
    Timestamp, UploadId, VersionId,
};
use holdfast_node::{NodeSettings, RunParts, Running, host_env, start_on};
use holdfast_runtime::host::tls::Security;
use holdfast_runtime::{Address, Env, Shutdown};

use segments_in_memory::SegmentsInMemory;

/// Bytes of each object.
const OBJECT_BYTES: usize = 4 << 10;
/// Commits in one batch.
const BATCH: usize = 5_000;
/// How often each figure is taken.
const ROUNDS: usize = 5;
const CREDENTIAL: &str = "measured";
const DEADLINE: Duration = Duration::from_secs(60);

struct World {
    env: Env,
    nodes: Vec<Running>,
    cluster: Cluster,
    bucket: BucketId,
}

fn mixed(number: u64, salt: u64) -> u64 {
    let mut z = number
        .wrapping_add(salt << 40)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn upload(number: u64) -> UploadId {
    let both = u128::from(mixed(number, 1)) << 64 | u128::from(mixed(number, 2));
    UploadId::from_bytes(both.to_be_bytes())
}

fn key(number: u64) -> ObjectKey {
    ObjectKey::new(format!("{:016x}{number:08x}", mixed(number, 3))).unwrap()
}

async fn start(dir: &str) -> World {
    let ports: Vec<u16> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    let addresses: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut nodes = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        let data = format!("{dir}/node{at}");
        let zone = format!("zone{at}");
        let mut arguments = vec!["node", "--listen", address, "--advertise", address];
        arguments.extend([
            "--data",
            &data,
            "--zone",
            &zone,
            "--census-interval",
            "1h",
            "--metrics-addr",
            "127.0.0.1:0",
        ]);
        let all = addresses.join(",");
        if at == 0 {
            arguments.extend(["--bootstrap", &all]);
        }
        let parts = RunParts {
            security: Security::plain(CREDENTIAL),
            admin_token: "a token for a measurement".into(),
            metrics: None,
            operations: false,
            supports: Supported::OWN,
        };
        let disk = SegmentsInMemory::over(&data);
        let settings = NodeSettings::parse_from(arguments);
        nodes.push(start_on(&settings, parts, Arc::new(disk)).await.unwrap());
    }
    let env = host_env(&Security::plain(CREDENTIAL)).unwrap();
    let seeds = addresses.into_iter().map(Address).collect();
    let cluster = Cluster::start(
        env.clone(),
        ClusterSettings::new(seeds),
        Shutdown::default(),
    );
    let state = cluster.wait_ready(DEADLINE).await.unwrap();
    let files = state
        .buckets
        .iter()
        .find(|b| b.name.as_str() == FILES_BUCKET);
    World {
        env,
        bucket: files.unwrap().id,
        nodes,
        cluster,
    }
}

impl World {
    fn disks(&self) -> Vec<DiskId> {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.node.identity().disk).collect()
    }

    /// Waits until every group has a leader, and says who.
    async fn leaders(&self) -> BTreeMap<GroupId, DiskId> {
        loop {
            self.cluster.refresh().await.unwrap();
            let groups = self.cluster.state().unwrap().layout.data_groups();
            let views = self.cluster.leaders();
            let led = groups
                .iter()
                .filter_map(|g| Some((*g, views.get(g)?.leader?)));
            let led: BTreeMap<GroupId, DiskId> = led.collect();
            if led.len() == groups.len() {
                return led;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn object(&self, number: u64) -> PutObject {
        let size = OBJECT_BYTES as u64;
        let fragments = self.disks().into_iter().zip(0..);
        let fragments = fragments.map(|(disk, index)| FragmentPlace { index, disk });
        PutObject {
            record: ObjectRecord {
                bucket: self.bucket,
                key: key(number),
                version: VersionId::from_bytes(*upload(number).as_bytes()),
                owner: AccessKeyId::from_bytes([2; 16]),
                created: Timestamp(0),
                expires: None,
                content: Content {
                    filename: FileName::new(format!("photo-{number}.jpg")).ok(),
                    mime: "image/jpeg".into(),
                    size,
                    sha256: [7; 32],
                    etag: format!("{:016x}", mixed(number, 4)),
                    checksums: BTreeMap::new(),
                },
                representation: Representation::Chunked {
                    parts: vec![Part {
                        upload: upload(number),
                        chunks: 1,
                        size,
                        chunk_bytes: OBJECT_BYTES as u32,
                        sums: Default::default(),
                    }],
                    coding: Coding::Identity,
                },
                downloads: None,
                password: None,
                delete_token: None,
                metadata: BTreeMap::new(),
                tags: BTreeMap::new(),
                derived: Vec::new(),
                revision: 0,
                fingerprint: None,
                kind: Default::default(),
                headers: Default::default(),
            },
            chunks: vec![Chunk {
                index: 0,
                size: size as u32,
                stored: size as u32,
                redundancy: Redundancy::copies(3),
                stripe_bytes: STRIPE_BYTES,
                generation: Generation(1),
                fragments: fragments.collect(),
            }],
            generation: Some(Generation(1)),
            tasks: Vec::new(),
            condition: Condition::Always,
            lifetime_millis: None,
        }
    }

    /// Adds objects up to a number: fragments, then rows, as an upload does.
    async fn fill(&self, from: u64, to: u64) {
        let leaders = self.leaders().await;
        let mut by_group: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for number in from..to {
            let group = self.cluster.group_of(self.bucket, &key(number)).unwrap();
            by_group.entry(group).or_default().push(number);
        }
        let begun = Instant::now();
        let all = by_group.iter().flat_map(|(group, numbers)| {
            let numbers = numbers.iter();
            numbers.flat_map(move |number| (0..3).map(move |at| (*group, *number, at)))
        });
        stream::iter(all)
            .for_each_concurrent(256, |(group, number, at)| {
                self.put_fragment(group, number, at)
            })
            .await;
        println!(
            "{} objects' fragments in {:.1?}",
            to - from,
            begun.elapsed()
        );
        let begun = Instant::now();
        // In turn, as uploads come to all groups alike.
        let mut left: BTreeMap<GroupId, std::slice::Chunks<'_, u64>> = by_group
            .iter()
            .map(|(group, numbers)| (*group, numbers.chunks(BATCH)))
            .collect();
        while !left.is_empty() {
            let time = self.env.clock.wall();
            left.retain(|group, batches| match batches.next() {
                Some(numbers) => {
                    self.put_rows(*group, leaders[group], time, numbers);
                    true
                }
                None => false,
            });
        }
        println!("their rows in {:.1?}", begun.elapsed());
    }

    fn put_rows(&self, group: GroupId, leader: DiskId, time: Timestamp, numbers: &[u64]) {
        let node = self.nodes.iter().find(|n| n.node.identity().disk == leader);
        let store = node.unwrap().node.store();
        let commands = numbers.iter().map(|number| Request {
            id: RequestId::from_bytes(*self.env.entropy.request_id(&*self.env.clock).as_bytes()),
            command: Command::PutObject(Box::new(self.object(*number))),
        });
        let batch = Batch {
            time,
            commands: commands.collect(),
        };
        let mut writing = store.begin_bulk().unwrap();
        let mut rows = writing.group(group).unwrap();
        let outcomes = state::apply(&mut rows, &batch).unwrap();
        let refused = outcomes
            .iter()
            .find(|outcome| !matches!(outcome, holdfast_metadata::command::Outcome::Put(_)));
        assert!(refused.is_none(), "{refused:?}");
        drop(rows);
        writing.commit(false).unwrap();
    }

    async fn put_fragment(&self, group: GroupId, number: u64, at: usize) {
        let node = &self.nodes[at].node;
        let object = self.object(number);
        let place = object.chunks[0].fragments[at];
        let header = FragmentHeader {
            id: place.id(group, upload(number), 0),
            cluster: node.identity().cluster.unwrap(),
            bucket: self.bucket,
            version: object.record.version,
            redundancy: Redundancy::copies(3),
            stripe_bytes: STRIPE_BYTES,
            generation: Generation(1),
            encryption_key: None,
        };
        let engine = node.fragments().engine().clone();
        let zeros = Bytes::from_static(&[0; OBJECT_BYTES]);
        engine
            .put_small(header, zeros, Closing::default())
            .await
            .unwrap();
    }

    /// Has every group counted and says how long it took until the last was done.
    async fn census(&self, walk: bool, objects: u64) -> Duration {
        let asked = self.env.clock.wall();
        let begun = Instant::now();
        for node in &self.nodes {
            node.node.controller().unwrap().kick_census(walk);
        }
        let groups = self.cluster.state().unwrap().layout.data_groups().len();
        loop {
            let all = self
                .nodes
                .iter()
                .flat_map(|node| node.node.controller().unwrap().census());
            let done: Vec<_> = all.filter(|(_, census)| census.began >= asked).collect();
            if done.len() == groups {
                let took = begun.elapsed();
                let counted: u64 = done.iter().map(|(_, census)| census.objects).sum();
                let walked: u64 = done.iter().map(|(_, census)| census.walked).sum();
                for (group, census) in &done {
                    assert!(census.clean() && census.wrong == 0, "{group}: {census:?}");
                }
                assert_eq!(counted, objects);
                println!("census, walk {walk}: {took:.2?}, {walked} ranges walked");
                return took;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "no census: {done:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn newest(&self) -> Duration {
        let asked = ListNewest {
            bucket: self.bucket,
            owner: None,
            after: None,
            limit: 1_000,
        };
        let begun = Instant::now();
        let page = self
            .cluster
            .list_newest(&asked, DEADLINE, None)
            .await
            .unwrap();
        assert_eq!((page.records.len(), page.next.is_some()), (1_000, true));
        begun.elapsed()
    }

    async fn by_key(&self) -> Duration {
        let asked = ListKeys {
            bucket: self.bucket,
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: 1_000,
            versions: false,
        };
        let begun = Instant::now();
        let page = self.cluster.list_keys(asked, DEADLINE).await.unwrap();
        assert_eq!((page.entries.len(), page.next.is_some()), (1_000, true));
        begun.elapsed()
    }
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let [first, .., last] = &times[..] else {
        return;
    };
    let median = times[times.len() / 2];
    println!("{what}: median {median:.2?}, {first:.2?} to {last:.2?}");
}

async fn measure(world: &World, objects: u64) {
    println!("{objects} objects:");
    let (mut newest, mut by_key) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 4 {
        newest.push(world.newest().await);
        by_key.push(world.by_key().await);
    }
    tell("first page of 1,000, newest first", newest);
    tell("first page of 1,000, by key", by_key);
    for walk in [true, false] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(world.census(walk, objects).await);
        }
        let what = if walk {
            "census, everything walked"
        } else {
            "census"
        };
        tell(what, times);
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((dir, counts)) = arguments.split_first() else {
        println!("million_objects DIR [COUNT...]");
        return;
    };
    let mut counts: Vec<u64> = counts.iter().map(|count| count.parse().unwrap()).collect();
    if counts.is_empty() {
        counts = vec![100_000, 1_000_000];
    }
    let world = start(dir).await;
    let mut there = 0;
    for count in counts {
        world.fill(there, count).await;
        there = count;
        measure(&world, count).await;
    }
    std::process::exit(0);
}
