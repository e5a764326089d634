//! Raft's time: a tick, and how many of them its time-outs are.

use std::time::Duration;

use holdfast_model::{DiskId, GroupId};
use raft::StateRole;

/// The unit of Raft's time-outs. All groups count the same ticks, so that their
/// heartbeats travel together.
pub const TICK: Duration = Duration::from_millis(250);
/// A heartbeat every other tick: three before the first follower stands for election.
pub const HEARTBEAT_TICKS: usize = 2;
/// A follower waits at least 1.5 s, so that a leader whose disk takes a second
/// for one sync is not replaced.
pub const MIN_ELECTION_TICKS: usize = 6;
/// And less than 3 s.
pub const MAX_ELECTION_TICKS: usize = 12;
/// A read round that is not confirmed within this many ticks is begun anew.
pub const READ_ROUND_TICKS: u64 = 2;
/// A query that is not answered within this many ticks has no quorum.
pub const QUERY_TICKS: u64 = 6;

/// A leader that has heard from no majority for so many ticks says so, long
/// before it steps down: who waits hears within two seconds that there is no
/// quorum, and a follower's disk may take a second for one sync.
pub const SILENT_TICKS: u64 = 5;

/// A round of the log that is being written for so long hangs: as long as a
/// leader can be silent before another is elected. Nothing is applied meanwhile.
pub const ROUND_HANGS: Duration = Duration::from_secs(3);
/// Any call of the disk that is open for so long hangs. One that works takes
/// seconds for a large sync; what is only read waits no longer than this.
pub const CALL_HANGS: Duration = Duration::from_secs(10);

/// The election time-out of a member: drawn by hashing, so that it depends on
/// nothing but who it is, and a seed replays a run.
pub fn election_ticks(disk: DiskId, group: GroupId, term: u64, role: StateRole) -> usize {
    let mut mix = disk.raft_id() ^ (u64::from(group.0) << 48) ^ (term << 8) ^ role as u64;
    for _ in 0..2 {
        mix = (mix ^ (mix >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mix ^= mix >> 29;
    }
    let span = (MAX_ELECTION_TICKS - MIN_ELECTION_TICKS) as u64;
    MIN_ELECTION_TICKS + (mix % span) as usize
}
