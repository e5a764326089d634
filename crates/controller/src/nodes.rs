//! Which state each node should be in: a pure decision about silence.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_model::{Layout, NodeId, NodeState};

use crate::settings::ControllerSettings;

/// A look that comes so late after the one before tells nothing about what was
/// between them: this process was stalled, or did not lead.
const MAX_GAP: Duration = Duration::from_secs(10);

/// Since when each node has answered, or been silent. Kept in memory by who
/// leads group 0: a new leader begins to count anew, so nobody is declared
/// down for what another has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sights {
    nodes: BTreeMap<NodeId, Sight>,
    looked: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    answers: bool,
    since: Duration,
}

impl Sights {
    /// Takes a look at all nodes.
    pub fn look(&mut self, now: Duration, nodes: impl IntoIterator<Item = (NodeId, bool)>) {
        let gap = self
            .looked
            .is_none_or(|at| now.saturating_sub(at) > MAX_GAP);
        let before = if gap {
            BTreeMap::new()
        } else {
            std::mem::take(&mut self.nodes)
        };
        self.looked = Some(now);
        self.nodes = nodes
            .into_iter()
            .map(|(node, answers)| {
                let same = before.get(&node).filter(|sight| sight.answers == answers);
                (
                    node,
                    same.copied().unwrap_or(Sight {
                        answers,
                        since: now,
                    }),
                )
            })
            .collect();
    }

    /// Excuses the silence of all that are silent: it is counted from now on.
    pub fn excuse(&mut self, now: Duration) {
        for sight in self.nodes.values_mut().filter(|sight| !sight.answers) {
            sight.since = now;
        }
    }

    /// For how long a node has been silent.
    pub fn silent_for(&self, now: Duration, node: NodeId) -> Option<Duration> {
        let sight = self.nodes.get(&node).filter(|sight| !sight.answers)?;
        Some(now.saturating_sub(sight.since))
    }

    /// For how long a node has answered.
    pub fn answering_for(&self, now: Duration, node: NodeId) -> Option<Duration> {
        let sight = self.nodes.get(&node).filter(|sight| sight.answers)?;
        Some(now.saturating_sub(sight.since))
    }
}

/// The layout with the states that the nodes should be in, and why; `None`
/// when they are in them already. Only `Active` and `Down` follow from
/// silence: what somebody ordered (draining, lost) stays.
pub(crate) fn plan_node_states(
    layout: &Layout,
    sights: &Sights,
    now: Duration,
    settings: &ControllerSettings,
) -> Option<(Layout, String)> {
    let mut next = layout.clone();
    let mut why = Vec::new();
    for node in next.nodes.values_mut() {
        let to = match node.state {
            NodeState::Unplaced if node.zone.is_some() => NodeState::Active,
            NodeState::Active
                if sights
                    .silent_for(now, node.id)
                    .is_some_and(|d| d >= settings.down_grace) =>
            {
                NodeState::Down
            }
            NodeState::Down
                if sights
                    .answering_for(now, node.id)
                    .is_some_and(|d| d >= settings.return_steady) =>
            {
                if node.zone.is_some() {
                    NodeState::Active
                } else {
                    NodeState::Unplaced
                }
            }
            _ => continue,
        };
        why.push(format!("node {} from {:?} to {to:?}", node.id, node.state));
        node.state = to;
    }
    (!why.is_empty()).then(|| (next, why.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, node};

    fn settings() -> ControllerSettings {
        ControllerSettings {
            down_grace: Duration::from_secs(60),
            ..ControllerSettings::default()
        }
    }

    /// Looks once a second, with what each second says of node 2, and returns
    /// the states that the node was given, with the second.
    fn follow(start: &str, seconds: impl IntoIterator<Item = bool>) -> Vec<(u64, NodeState)> {
        let mut layout = Scenario::read(start).layout;
        let mut sights = Sights::default();
        let mut seen = Vec::new();
        for (second, answers) in (0..).zip(seconds) {
            let now = Duration::from_secs(1_000 + second);
            let all = layout
                .nodes
                .keys()
                .map(|id| (*id, *id != node(2) || answers));
            sights.look(now, all.collect::<Vec<_>>());
            if let Some((next, _)) = plan_node_states(&layout, &sights, now, &settings()) {
                layout = next;
                seen.push((second, layout.nodes[&node(2)].state));
            }
        }
        seen
    }

    const THREE: &str = "1 a active\n2 b active\n3 c active";

    #[test]
    fn is_a_silent_node_down_after_the_grace_and_active_when_it_answers_again() {
        let silence = std::iter::repeat_n(false, 70).chain(std::iter::repeat_n(true, 10));
        let states = follow(THREE, silence);
        assert_eq!(states, [(60, NodeState::Down), (75, NodeState::Active)]);
    }

    #[test]
    fn does_a_node_that_flaps_faster_than_the_grace_stay_active() {
        let flaps = (0..600).map(|second| second % 50 == 0);
        assert_eq!(follow(THREE, flaps), []);
    }

    #[test]
    fn does_a_node_that_is_down_and_flaps_stay_down() {
        let flaps = (0..600).map(|second| second % 4 != 0);
        assert_eq!(follow("1 a active\n2 b down\n3 c active", flaps), []);
    }

    #[test]
    fn does_a_joined_node_wait_for_its_zone() {
        let states = follow("1 a active\n2 - unplaced", [true; 5]);
        assert_eq!(states, []);
        let states = follow("1 a active\n2 b unplaced", [true; 5]);
        assert_eq!(states, [(0, NodeState::Active)]);
    }

    #[test]
    fn does_an_order_outlast_silence() {
        let states = follow("1 a active\n2 b draining", [false; 100]);
        assert_eq!(states, []);
        let states = follow("1 a active\n2 b lost", [true; 100]);
        assert_eq!(states, []);
    }

    #[test]
    fn is_a_silence_that_is_excused_not_counted_and_one_after_it_from_its_end() {
        let mut layout = Scenario::read("1 a active\n2 b active\n3 c down").layout;
        let mut sights = Sights::default();
        let mut seen = Vec::new();
        for second in 0..400 {
            let now = Duration::from_secs(1_000 + second);
            // Node 3 is the first to be there again, node 2 never is.
            let answers = [(node(1), true), (node(2), false), (node(3), second >= 100)];
            sights.look(now, answers);
            if second < 300 {
                sights.excuse(now);
            }
            if let Some((next, _)) = plan_node_states(&layout, &sights, now, &settings()) {
                layout = next;
                let state = |n| layout.nodes[&node(n)].state;
                seen.push((second, state(2), state(3)));
            }
        }
        let back = (105, NodeState::Active, NodeState::Active);
        let away = (359, NodeState::Down, NodeState::Active);
        assert_eq!(seen, [back, away]);
    }

    #[test]
    fn is_nobody_blamed_for_the_time_in_which_this_process_did_not_look() {
        let layout = Scenario::read(THREE).layout;
        let mut sights = Sights::default();
        sights.look(Duration::from_secs(1), [(node(2), false)]);
        let later = Duration::from_secs(500);
        sights.look(later, [(node(2), false)]);
        assert_eq!(plan_node_states(&layout, &sights, later, &settings()), None);
        assert_eq!(sights.silent_for(later, node(2)), Some(Duration::ZERO));
    }
}
