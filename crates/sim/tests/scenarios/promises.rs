//! For each promise whose code could be broken without many seeds noticing: a
//! scenario in which that break shows. `docs/simulation.md` has the list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_metadata::command::{Command, DeleteCause, Outcome, Refusal};
use holdfast_metadata::log::{LogFiles, LogSettings};
use holdfast_metadata::protocol::{self, GroupStatus, ProposeRequest, QueryRequest, RaftBatch};
use holdfast_metadata::query::{Answer, ChunkRow, Query};
use holdfast_metadata::wire::decode_message;
use holdfast_model::{FragmentPlace, GroupId, ObjectKey};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Address, Call};
use holdfast_sim::faults::Step;
use holdfast_sim::journal::Journal;
use holdfast_sim::workload::Client;
use holdfast_sim::{World, checks, run};
use raft::eraftpb::{Message, MessageType};

use crate::named::{play_with, told};
use crate::objects::{delete, get, put, put_sized};

/// How long things may take to settle.
const SETTLED: Duration = Duration::from_secs(60);

/// What each machine's disk holds durably, looked at whenever it says that it
/// has given its vote or taken entries.
struct Looker {
    disks: BTreeMap<Address, MemoryDisk>,
    settings: LogSettings,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    votes: u64,
    entries: u64,
    wrong: Vec<String>,
}

/// Of answers to entries one in so many is looked at: opening a log takes time.
const EVERY: u64 = 40;

impl Looker {
    fn look(&self, from: &Address, call: &Call) {
        if call.path != protocol::RAFT {
            return;
        }
        let batch: RaftBatch = protocol::decode(&call.head).unwrap();
        for one in &batch.messages {
            let message = decode_message(&one.message).unwrap();
            let mut seen = self.seen.lock().unwrap();
            let count = match message.get_msg_type() {
                _ if message.reject => continue,
                MessageType::MsgRequestVoteResponse => &mut seen.votes,
                MessageType::MsgAppendResponse => &mut seen.entries,
                _ => continue,
            };
            *count += 1;
            let skipped = message.get_msg_type() == MessageType::MsgAppendResponse
                && !count.is_multiple_of(EVERY);
            if !skipped && let Err(why) = self.holds(from, one.group, &message) {
                let kind = message.get_msg_type();
                let what = format!("{from} sends {kind:?} of group {}: {why}", one.group);
                seen.wrong.push(what);
            }
        }
    }

    fn holds(&self, from: &Address, group: GroupId, message: &Message) -> Result<(), String> {
        let disk = Arc::new(self.disks[from].durable("raft"));
        let log = LogFiles::open(disk, self.settings, 0).map_err(|error| error.to_string())?;
        let log = log
            .groups
            .get(&group)
            .ok_or("its log knows no such group")?;
        let (hard, end) = (log.hard(), log.end());
        let voted =
            hard.term > message.term || (hard.term == message.term && hard.vote == message.to);
        match message.get_msg_type() {
            MessageType::MsgRequestVoteResponse if !voted => Err(format!(
                "a vote for {} in term {} that its disk does not hold: {hard:?}",
                message.to, message.term
            )),
            MessageType::MsgAppendResponse if end.index < message.index => Err(format!(
                "it has entry {}, and its disk ends at {end:?}",
                message.index
            )),
            _ => Ok(()),
        }
    }
}

#[test]
fn votes_and_answers_to_entries_leave_a_machine_after_its_disk_has_them() {
    run(41, async |mut world| {
        world.log_file_bytes = 1 << 20;
        let cluster = world.founded(3).await.unwrap();
        let members = world.members.values();
        let looker = Arc::new(Looker {
            disks: members
                .map(|m| (m.address.clone(), m.disk.clone()))
                .collect(),
            settings: LogSettings {
                file_bytes: world.log_file_bytes,
            },
            seen: Mutex::default(),
        });
        let looking = looker.clone();
        let witness = move |from: &Address, call: &Call| {
            if looking.disks.contains_key(from) {
                looking.look(from, call);
            }
        };
        world.network.watch(Arc::new(witness));
        for turn in 0..3 {
            let victim = world.leader(GroupId(1)).unwrap();
            world.power_cut(victim);
            for n in 0..20 {
                // Some fail while a group has no leader.
                let _ = put(&cluster, turn * 20 + n).await;
            }
            world.start(victim).await.unwrap();
            world.pass(Duration::from_secs(3)).await;
        }
        let seen = looker.seen.lock().unwrap();
        assert_eq!(seen.wrong, Vec::<String>::new());
        assert!(seen.votes > 10, "only {} votes", seen.votes);
        assert!(seen.entries > 10 * EVERY, "only {} answers", seen.entries);
    });
}

/// The copy lacks what its disk has acknowledged since, together with node 1
/// alone; node 3 was away. With node 3 it would be a majority that knows
/// nothing of it.
#[test]
fn an_older_copy_of_a_disk_makes_no_majority_with_one_that_was_away() {
    for seed in 51..53 {
        let steps = [
            (3_000, Step::CopyDisk(2)),
            (3_300, Step::Kill(2)),
            (3_400, Step::Start(2)),
            (5_000, Step::PowerCut(2)),
            (5_200, Step::Start(2)),
            (9_000, Step::PowerCut(3)),
            (14_000, Step::PowerCut(1)),
            (14_000, Step::OldDisk(2)),
            (14_100, Step::Start(3)),
            (22_000, Step::Start(1)),
            (30_000, Step::Replace(2)),
        ];
        let report = play_with(seed, 3, &steps, Duration::from_millis(60));
        assert!(told(&report, "node 2 ends itself"));
    }
}

/// The rows of one committed chunk, and where.
async fn a_chunk(cluster: &Cluster) -> (GroupId, ChunkRow) {
    let state = cluster.state().unwrap();
    for group in state.layout.data_groups() {
        let query = Query::Rows {
            before: None,
            after: None,
            limit: 10,
        };
        let answer = cluster.query(group, query, SETTLED, None).await.unwrap();
        let Answer::Rows(rows) = answer else {
            panic!("{answer:?}")
        };
        if let Some(row) = rows.into_iter().find(|row| row.committed) {
            return (group, row);
        }
    }
    panic!("no object has chunks");
}

/// Puts an object that is not kept in its record.
async fn put_chunked(world: &World, cluster: &Cluster) {
    let journal = Journal::new(world.trace.clone());
    let client = Client::new(1, cluster.clone(), journal.clone()).unwrap();
    for n in 0..20 {
        let key = ObjectKey::new(format!("chunked-{n}")).unwrap();
        client.put(&key, 100_000, None).await;
        if journal.counts().puts > 0 {
            return;
        }
    }
    panic!("nothing was put");
}

/// Two controllers, of which one does not know yet that it leads no more, have
/// planned a repair of one chunk from the same row. The later one would bring a
/// fragment back that the first has given up, and that is deleted some time
/// after.
#[test]
fn of_two_repairs_of_one_chunk_the_later_is_refused() {
    run(61, async |mut world| {
        let cluster = world.founded(5).await.unwrap();
        put_chunked(&world, &cluster).await;
        let (group, row) = a_chunk(&cluster).await;
        let layout = cluster.state().unwrap().layout.clone();
        let held: BTreeSet<_> = row.chunk.fragments.iter().map(|place| place.disk).collect();
        let free: Vec<_> = layout.nodes.values().map(|node| node.disk).collect();
        let free: Vec<_> = free
            .into_iter()
            .filter(|disk| !held.contains(disk))
            .collect();
        let generation = cluster.generation(group).await.unwrap();
        let moved = |at: usize, disk| {
            let mut now = row.chunk.fragments.clone();
            now[at] = FragmentPlace { disk, ..now[at] };
            Command::ReplaceFragments {
                upload: row.upload,
                chunk: row.chunk.index,
                seen: row.chunk.fragments.clone(),
                now,
                generation,
            }
        };
        let env = cluster.env().clone();
        let propose = async |command| {
            let id = env.entropy.request_id(env.clock.as_ref());
            cluster.propose(group, id, command, SETTLED, None).await
        };
        let first = propose(moved(0, free[0])).await;
        assert!(matches!(first, Ok(Outcome::Done)), "{first:?}");
        let leader = world.leader(group).unwrap();
        world.power_cut(leader);
        let second = propose(moved(1, free[1])).await;
        let stale = matches!(second, Err(ClusterError::Refused(Refusal::Stale)));
        assert!(stale, "{second:?}");
        world.start(leader).await.unwrap();
        let whole = checks::until(&world, 4 * SETTLED, async |world| {
            checks::replicas(world, &mut BTreeSet::new())
        });
        whole.await.unwrap();
    });
}

/// What a member has of a group is gone when a snapshot of it is installed.
#[test]
fn a_snapshot_takes_the_place_of_every_row_that_was_there() {
    run(71, async |mut world| {
        world.log_file_bytes = 512 << 10;
        let cluster = world.founded(3).await.unwrap();
        for n in 0..60 {
            put(&cluster, n).await.unwrap();
        }
        world.power_cut(3);
        for n in 0..60 {
            assert!(delete(&cluster, n).await.unwrap());
        }
        for n in 100..500 {
            put_sized(&cluster, n, 12 << 10).await.unwrap();
        }
        world.pass(Duration::from_secs(10)).await;
        world.start(3).await.unwrap();
        let mut done = BTreeSet::new();
        let same = checks::until(&world, SETTLED, async |world| {
            checks::replicas(world, &mut done)
        });
        same.await.unwrap();
        let passed = world.points.passed();
        assert!(
            passed.contains_key("layout.snapshot_installed"),
            "{passed:?}"
        );
        world.power_cut(1);
        for n in 0..60 {
            assert!(!get(&cluster, n).await.unwrap(), "{n} is back");
        }
    });
}

/// Several files of the log fill between two moments at which the state is
/// durable; power goes when the next one is near. What the state does not hold
/// must still be in the log.
#[test]
fn a_log_is_kept_until_the_state_is_durable() {
    for seed in 81..83 {
        run(seed, async |mut world| {
            world.log_file_bytes = 512 << 10;
            let cluster = world.founded(3).await.unwrap();
            let mut lost = 0;
            for turn in 0..2 {
                world.points.arm("commit.before_flush", 0);
                for n in 0..250 {
                    put_sized(&cluster, turn * 250 + n, 12 << 10).await.unwrap();
                }
                world.pass(Duration::from_secs(6)).await;
                for number in world.numbers() {
                    if !world.runs(number) {
                        lost += 1;
                        world.start(number).await.unwrap();
                    }
                }
                world.pass(Duration::from_secs(5)).await;
            }
            assert!(lost > 0, "power went {lost} times");
            assert!(world.points.passed().contains_key("log.purged"));
            for n in (0..500).step_by(11) {
                assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
            }
        });
    }
}

/// A leader that was cut off still thinks that it leads for a while, and others
/// have elected another. It must not answer from what it has.
#[test]
fn a_leader_that_was_cut_off_does_not_answer_from_its_own_rows() {
    run(121, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..40 {
            put(&cluster, n).await.unwrap();
        }
        let bucket = cluster.state().unwrap().bucket("files").unwrap().id;
        let (mut asked, mut others) = (0, 0);
        for n in 0..40 {
            let key = crate::objects::key(n);
            let group = cluster.group_of(bucket, &key).unwrap();
            let old = world.leader(group).unwrap();
            let node = world.members[&old].node.clone().unwrap();
            world.isolate(old, true);
            let elected =
                checks::until_every(&world, SETTLED, Duration::from_millis(20), async |world| {
                    match world.leader(group) {
                        Some(other) if other != old => Ok(()),
                        _ => Err(checks::Not::Yet("nobody else leads".into())),
                    }
                });
            elected.await.unwrap();
            let new = world.leader(group).unwrap();
            let other = world.members[&new].node.clone().unwrap();
            let env = cluster.env().clone();
            let done = other.born().unwrap().propose(ProposeRequest {
                group,
                id: env.entropy.request_id(env.clock.as_ref()),
                command: Command::DeleteObject {
                    bucket,
                    key: key.clone(),
                    version: None,
                    cause: DeleteCause::Wish,
                },
            });
            if done.await.is_ok() {
                others += 1;
                let own = node.identity().disk;
                let leads =
                    |status: &GroupStatus| status.group == group && status.leader == Some(own);
                asked += u32::from(node.status().groups.iter().any(leads));
                let query = Query::Object {
                    bucket,
                    key,
                    chunks: 0,
                };
                let answer = node
                    .born()
                    .unwrap()
                    .query(QueryRequest { group, query })
                    .await;
                let stale = matches!(
                    &answer,
                    Ok(Answer::Object {
                        record: Some(_),
                        ..
                    })
                );
                assert!(!stale, "object {n} is deleted, and node {old} shows it");
            }
            world.isolate(old, false);
            world.pass(Duration::from_secs(4)).await;
        }
        assert!(
            others > 20 && asked > 2,
            "{asked} of {others} thought that they lead"
        );
    });
}
