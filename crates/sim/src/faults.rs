//! What befalls a cluster: when each fault begins and what ends it, drawn from
//! the seed ([`draw`]), done to the world ([`Applied`]).
//!
//! At most one fault of a run damages what is durable (a failed sync, flipped
//! bits, a lost or an older disk): with two copies acknowledged of three, two
//! damaged disks at once may lose data, and nothing is promised then.

mod apply;
pub mod damage;
mod draw;

use std::time::Duration;

pub use apply::Applied;
pub use draw::{LAST_BEGIN, draw};

use crate::network::Quality;

/// One change of the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A node loses power.
    PowerCut(usize),
    /// Every node loses power at once.
    PowerCutAll,
    /// A node's disk stops after so many more changes, in the middle of
    /// whatever is written then; [`Step::PowerCut`] follows.
    StopDisk(usize, u64),
    /// Whichever machine passes this point after so many others have loses
    /// power there.
    CutAt(&'static str, u64),
    /// A node's process is killed.
    Kill(usize),
    /// The node that leads a group loses power.
    CutLeader(u16),
    /// A node is asked to end, and hands its groups over.
    Stop(usize),
    /// A node is started, if it does not run.
    Start(usize),
    /// Every node that does not run is started.
    StartAll,
    /// A node is cut off from the others, or no longer.
    Isolate(usize, bool),
    /// What others send to a node is lost, or no longer.
    Deaf(usize, bool),
    /// What a node sends to others is lost, or no longer.
    Mute(usize, bool),
    /// The link between two nodes is cut, or mended.
    Pair(usize, usize, bool),
    /// How good all links are.
    Links(Quality),
    /// Raft messages of this group are lost, or of none.
    Silence(Option<u16>),
    /// A node's disk takes at most so many ms for a piece of work.
    SlowDisk(usize, u64),
    /// A node is 50 times slower than the others, disk and links, or no longer.
    SlowNode(usize, bool),
    /// A node's wall clock is off by so many ms.
    Clock(usize, i64),
    /// A node is started with such a clock.
    StartWithClock(usize, i64),
    /// A node's next sync fails.
    FailSync(usize),
    /// So many more syncs of a node's disk succeed, then all fail, those of its
    /// next start too.
    FailSyncs(usize, u64),
    /// A node's disk refuses every change, and cannot even note that it failed.
    Refuse(usize),
    /// A node's disk takes everything again.
    Mend(usize),
    /// So many bits of a node's fragments flip, most of them in heads and
    /// checksums where this is set.
    Flip(usize, u64, bool),
    /// A file of a node's fragments reads as zeros.
    ZeroFile(usize),
    /// Bits of the base of a node's fragment index flip under its running engine;
    /// the base is made anew just before, so that there is one.
    RotIndex(usize),
    /// So many bits of a node's Raft log flip; it is then started anew.
    RotLog(usize, u64),
    /// The same of its state store.
    RotState(usize, u64),
    /// A node's disk is replaced by an empty one.
    SwapDisk(usize),
    /// A node loses power and is given up for lost.
    Lose(usize),
    /// A copy of a node's disk is kept.
    CopyDisk(usize),
    /// A node is started with that copy.
    OldDisk(usize),
    /// A node whose disk must be refused by now has ended, refuses to start
    /// again, and gets an empty disk.
    Replace(usize),
    /// A node's disk is full but for its reserve, or no longer.
    Full(usize, bool),
    /// The same of every node's.
    FullAll(bool),
    /// A node's disk engine saves its index: makes a new base of it where this
    /// is set, else a line in its journal.
    KeepIndex(usize, bool),
    /// A node joins.
    Grow,
    /// A node is drained.
    Drain(usize),
}

impl Step {
    /// What kind of fault it is, for counting.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let end = text.find(|c: char| !c.is_alphanumeric());
        text.get(..end.unwrap_or(text.len()))
            .unwrap_or_default()
            .to_owned()
    }
}

/// Steps with their times.
pub type Schedule = Vec<(Duration, Step)>;

/// How long all clients work while faults come.
pub const WORK: Duration = Duration::from_secs(30);
