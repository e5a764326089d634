//! A leader that is one no more: who follows it, and when it must go.

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

    /// A leader that a change of members has taken out altogether, begun by the
    /// one before it, leads no more: the library goes on with it, and panics when
    /// it is next told that something is durable, here or elsewhere.
    pub(super) fn resign_if_removed(&mut self) {
        let raft = &self.node.raft;
        if !self.leads() || raft.prs().get(raft.id).is_some() {
            return;
        }
        // Who has all of it stands at once; others do when they miss their leader.
        if let Some(heir) = self.heir() {
            self.node.transfer_leader(heir);
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.pin_timeout();
    }
}
