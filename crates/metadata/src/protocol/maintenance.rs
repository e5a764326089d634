//! Calls about a node's maintenance: what was counted, and the permit to take a
//! node away.

use holdfast_model::{DiskId, Epoch, GroupId, NodeId, Release, RequestId, Timestamp};
use minicbor::{Decode, Encode};

/// What the groups that a node leads last counted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct CensusReport {
    /// One count for each group.
    #[n(0)]
    pub groups: Vec<GroupCensus>,
    /// Chunks that repair and drain have still to copy in these groups.
    #[n(1)]
    pub chunks_to_copy: u64,
}

/// The last census of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct GroupCensus {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// Objects whose bytes are in fragments.
    #[n(1)]
    pub objects: u64,
    /// Objects that can be read, with fewer fragments than they should have.
    #[n(2)]
    pub degraded: u64,
    /// Objects that cannot be read until disks come back.
    #[n(3)]
    pub unavailable: u64,
    /// Objects that cannot be read any more.
    #[n(4)]
    pub lost: u64,
    /// Fragments that should be on a disk that answers, and are not.
    #[n(5)]
    pub missing: u64,
    /// Disks that count and did not answer.
    #[n(6)]
    pub silent_disks: u64,
    /// The layout's epoch when it began.
    #[n(7)]
    pub epoch: Epoch,
    /// When it ended.
    #[n(8)]
    pub time: Timestamp,
}

/// Lets a disk take no further fragments, durably, and waits for those that are
/// being written: what is counted then stays so. It ends with a layout newer than
/// `epoch` in which the disk takes data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SealRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The layout in which it is being emptied.
    #[n(1)]
    pub epoch: Epoch,
}

/// Asks for the maintenance permit; answers [`Permit`](holdfast_model::Permit).
/// Any member may be asked: it counts what has not been counted lately, which
/// may take a while. Who has the permit for the same node and reason gets it
/// again.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PermitRequest {
    /// The node to be taken away.
    #[n(0)]
    pub node: NodeId,
    /// Why: it tells one maintenance from another.
    #[n(1)]
    pub reason: String,
    /// Whether it is to be granted although objects lack copies, or have not been
    /// counted lately: a person takes that upon themselves. All else that stands
    /// in the way stands there all the same. A node of before this field does not
    /// read it, and refuses.
    #[n(2)]
    #[cbor(default)]
    pub degraded: bool,
}

/// Gives the permit back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ReleaseRequest {
    /// The permit's number.
    #[n(0)]
    pub epoch: Epoch,
}

/// Lets the cluster write the formats of a release that its nodes run; answers
/// [`ActiveRelease`](holdfast_model::ActiveRelease). Any member may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FinalizeRequest {
    /// The release, whatever its patch.
    #[n(0)]
    pub to: Release,
    /// The same on every retry.
    #[n(1)]
    pub id: RequestId,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nodes and operators of before say to each other.
    #[derive(Encode, Decode)]
    struct Before {
        #[n(0)]
        node: NodeId,
        #[n(1)]
        reason: String,
    }

    #[test]
    fn a_permit_is_asked_for_by_these_bytes_and_by_those_of_before() {
        let node = NodeId::from_bytes([7; 16]);
        let request = PermitRequest {
            node,
            reason: "a kernel".into(),
            degraded: true,
        };
        let bytes = minicbor::to_vec(&request).unwrap();
        let mut golden = vec![0x83, 0x50];
        golden.extend([7; 16]);
        golden.push(0x68);
        golden.extend(b"a kernel");
        golden.push(0xf5);
        assert_eq!(bytes, golden);
        let read: Before = minicbor::decode(&bytes).unwrap();
        assert_eq!(read.reason, request.reason);
        let reason = request.reason.clone();
        let before = minicbor::to_vec(Before { node, reason }).unwrap();
        let read: PermitRequest = minicbor::decode(&before).unwrap();
        assert_eq!((read.node, read.degraded), (node, false));
    }
}
