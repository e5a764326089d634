//! What waits to be written to the log: merged, so that one sync serves all.

use std::collections::BTreeMap;

use holdfast_model::GroupId;
use raft::eraftpb::{Entry, Message};

use crate::log::{GroupRound, Round};
use crate::wire::{WireError, WireHardState, wire_entry};

/// Bytes of entries in one round; what is beyond waits for the next.
const MAX_ROUND_BYTES: usize = 12 << 20;

/// What a group waits for.
pub(super) struct Waiting {
    pub round: GroupRound,
    /// The last of Raft's readies in it.
    pub number: u64,
    /// Messages that say that it is durable.
    pub messages: Vec<Message>,
    must_sync: bool,
    bytes: usize,
}

/// What of a group became durable, or needs not to.
pub(super) struct Released {
    pub round: GroupRound,
    pub number: u64,
    pub messages: Vec<Message>,
}

/// Collects what groups want written.
#[derive(Default)]
pub(super) struct Rounds {
    waiting: BTreeMap<GroupId, Waiting>,
    /// Commit indexes that are written when something else is.
    unsynced: BTreeMap<GroupId, WireHardState>,
    in_flight: BTreeMap<GroupId, Waiting>,
}

impl Rounds {
    /// Whether a round is being written.
    pub fn writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Adds one ready of a group.
    pub fn add(
        &mut self,
        group: GroupId,
        number: u64,
        hard: Option<WireHardState>,
        entries: &[Entry],
        must_sync: bool,
        messages: Vec<Message>,
    ) -> Result<(), WireError> {
        let waiting = self.waiting_of(group);
        waiting.number = number;
        waiting.must_sync |= must_sync;
        waiting.messages.extend(messages);
        if hard.is_some() {
            waiting.round.hard = hard;
        }
        if let Some(first) = entries.first() {
            let first = first.index;
            waiting.round.entries.retain(|entry| entry.index < first);
            for entry in entries {
                waiting.bytes += entry.data.len() + 32;
                waiting.round.entries.push(wire_entry(entry)?);
            }
        }
        Ok(())
    }

    /// A group's part of the next round.
    pub fn waiting_of(&mut self, group: GroupId) -> &mut Waiting {
        self.waiting.entry(group).or_insert_with(|| Waiting {
            round: GroupRound::new(group),
            number: 0,
            messages: Vec::new(),
            must_sync: false,
            bytes: 0,
        })
    }

    /// Drops what a group that leaves still wanted written.
    pub fn forget(&mut self, group: GroupId) {
        self.waiting.remove(&group);
        self.unsynced.remove(&group);
    }

    /// Demands that the group's part is synced.
    pub fn demand_sync(&mut self, group: GroupId) {
        self.waiting_of(group).must_sync = true;
    }

    /// What may go on at once: it asks for no sync, and nothing before it waits for one.
    pub fn release_unsynced(&mut self) -> Vec<(GroupId, Released)> {
        let free = |group: &GroupId, waiting: &Waiting, flying: &BTreeMap<GroupId, Waiting>| {
            !waiting.must_sync && !flying.contains_key(group)
        };
        let groups: Vec<_> = self
            .waiting
            .iter()
            .filter(|(group, waiting)| free(group, waiting, &self.in_flight))
            .map(|(group, _)| *group)
            .collect();
        let mut released = Vec::with_capacity(groups.len());
        for group in groups {
            let Some(waiting) = self.waiting.remove(&group) else {
                continue;
            };
            if let Some(hard) = waiting.round.hard {
                self.unsynced.insert(group, hard);
            }
            released.push((group, release(waiting)));
        }
        released
    }

    /// The next round to write, if none is being written and one is needed.
    pub fn next(&mut self) -> Option<Round> {
        if self.writing() || !self.waiting.values().any(|waiting| waiting.must_sync) {
            return None;
        }
        let mut bytes = 0;
        let mut round = Round::default();
        let groups: Vec<_> = self.waiting.keys().copied().collect();
        for group in groups {
            let size = self.waiting.get(&group).map_or(0, |waiting| waiting.bytes);
            if bytes > 0 && bytes + size > MAX_ROUND_BYTES {
                continue;
            }
            bytes += size;
            let Some(mut waiting) = self.waiting.remove(&group) else {
                continue;
            };
            let unsynced = self.unsynced.remove(&group);
            waiting.round.hard = waiting.round.hard.or(unsynced);
            round.groups.push(waiting.round.clone());
            self.in_flight.insert(group, waiting);
        }
        for (group, hard) in std::mem::take(&mut self.unsynced) {
            let mut part = GroupRound::new(group);
            part.hard = Some(hard);
            round.groups.push(part);
        }
        Some(round)
    }

    /// The round that was being written is durable.
    pub fn written(&mut self) -> Vec<(GroupId, Released)> {
        let done = std::mem::take(&mut self.in_flight);
        done.into_iter()
            .map(|(group, waiting)| (group, release(waiting)))
            .collect()
    }
}

fn release(waiting: Waiting) -> Released {
    Released {
        round: waiting.round,
        number: waiting.number,
        messages: waiting.messages,
    }
}
