//! Who leads no more: who follows, and when it must go.

use raft::StateRole;

use super::group::Group;

impl Group {
    /// The member with a vote that has most of the log, beside this one.
    pub(super) fn heir(&self) -> Option<u64> {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters();
        let others = raft.prs().iter().filter(|(peer, progress)| {
            **peer != raft.id && progress.recent_active && voters.contains(**peer)
        });
        let best = others.max_by_key(|(peer, progress)| (progress.matched, **peer));
        best.map(|(peer, _)| *peer)
    }

    /// Who was taken out of the group altogether leads no more, and stands for
    /// election no more: a leader by the change that the one before it began, a
    /// candidate by one that it hears of late. The library goes on with both, and
    /// panics when a leader is next told that something is durable, here or
    /// elsewhere, and when a candidate gets its votes.
    pub(super) fn resign_if_removed(&mut self) {
        let raft = &self.node.raft;
        if raft.state == StateRole::Follower || raft.prs().get(raft.id).is_some() {
            return;
        }
        // Who has all of it stands at once; others do when they miss their leader.
        if self.leads()
            && let Some(heir) = self.heir()
        {
            self.node.transfer_leader(heir);
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.pin_timeout();
    }
}
