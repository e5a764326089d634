//! Leaders spread over the nodes, slowly and only in quiet times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_client::{Health, NodeView};
use holdfast_model::{DiskId, GroupId, Layout, LayoutNode, NodeState};

use crate::members::GroupSight;

/// An answer to a poll that takes so long is late: who leads is waited for by
/// everybody, at every command.
const LATE: Duration = Duration::from_millis(250);
/// For how long a node must have answered in time before it is led to. One that
/// stands still again and again, or whose network is slow, is alive and gives
/// leadership away; it is not to be given it back.
pub(crate) const PROVED: Duration = Duration::from_secs(10);

/// Whether a node answers, its last answer was not late, and its disk moves.
pub(crate) fn is_prompt(view: &NodeView) -> bool {
    let hangs = view.status.as_ref().is_some_and(|status| status.disk_hangs);
    view.health == Health::Up && view.answered_in.is_some_and(|took| took < LATE) && !hangs
}

/// A group to be led by another disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeaderMove {
    pub group: GroupId,
    pub from: DiskId,
    pub to: DiskId,
}

/// One leader to move, when a disk leads far more groups than its share and
/// nobody is away, all of the layout's active disks being `welcoming`: every move
/// costs the group a moment. It goes to one of those that are `prompt`, among
/// which the groups are shared: one slow node does not leave the rest uneven.
pub(crate) fn plan_leader_move(
    layout: &Layout,
    welcoming: &BTreeSet<DiskId>,
    prompt: &BTreeSet<DiskId>,
    groups: &BTreeMap<GroupId, GroupSight>,
) -> Option<LeaderMove> {
    let quiet = |node: &LayoutNode| match node.state {
        NodeState::Active => welcoming.contains(&node.disk),
        NodeState::Down => false,
        _ => true,
    };
    let settled = |sight: &GroupSight| {
        sight.leader.is_some()
            && sight.learners.is_empty()
            && sight.voters.iter().all(|disk| welcoming.contains(disk))
    };
    if !layout.nodes.values().all(quiet) || !groups.values().all(settled) {
        return None;
    }
    let stays = |disk: &DiskId| {
        prompt.contains(disk) && layout.node_of(*disk).is_some_and(LayoutNode::takes_data)
    };
    let mut leads: BTreeMap<DiskId, usize> = groups
        .values()
        .flat_map(|sight| sight.voters.iter())
        .filter(|disk| stays(disk))
        .map(|disk| (*disk, 0))
        .collect();
    for leader in groups.values().filter_map(|sight| sight.leader) {
        *leads.entry(leader).or_default() += 1;
    }
    let share = groups.len().div_ceil(leads.len().max(1));
    let too_many = share + (share / 4).max(2);
    let (most, count) = leads.iter().max_by_key(|(disk, count)| (**count, **disk))?;
    if *count < too_many {
        return None;
    }
    groups
        .iter()
        .filter(|(_, sight)| sight.leader == Some(*most))
        .flat_map(|(group, sight)| sight.voters.iter().map(|disk| (*group, *disk)))
        .filter(|(_, disk)| disk != most && stays(disk))
        .filter_map(|(group, disk)| Some((*leads.get(&disk)?, group, disk)))
        .filter(|(led, ..)| led + 1 < *count)
        .min()
        .map(|(_, group, to)| LeaderMove {
            group,
            from: *most,
            to,
        })
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn groups(leaders: &[u8]) -> String {
        let mut text = "1 a active\n2 b active\n3 c active\n".to_owned();
        for (group, leader) in leaders.iter().enumerate() {
            let members: Vec<String> = [1, 2, 3]
                .map(|n| format!("{n}{}", if n == *leader { "*" } else { "" }))
                .to_vec();
            text.push_str(&format!("group {group}: {}\n", members.join(" ")));
        }
        text
    }

    #[test]
    fn does_a_node_that_leads_everything_give_some_away_and_then_no_more() {
        let mut scenario = Scenario::read(&groups(&[1; 17]));
        let moves = scenario.run_leaders();
        assert_eq!(moves.lines().count(), 10, "{moves}");
        assert!(
            moves.starts_with("group 0: 1 -> 2\ngroup 1: 1 -> 3\n"),
            "{moves}"
        );
        assert_eq!(scenario.run_leaders(), "");
    }

    #[test]
    fn is_a_small_difference_left_alone() {
        let even = [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3];
        assert_eq!(Scenario::read(&groups(&even)).run_leaders(), "");
    }

    #[test]
    fn does_nothing_move_while_somebody_is_silent() {
        let text = groups(&[1; 17]).replace("3 c active", "3 c active silent");
        assert_eq!(Scenario::read(&text).run_leaders(), "");
    }

    #[test]
    fn is_a_late_node_led_to_by_none_and_relieved_of_what_it_leads() {
        let late = |leaders: &[u8]| groups(leaders).replace("3 c active", "3 c active late");
        let mut led = Scenario::read(&late(&[1; 17]));
        let moves = led.run_leaders();
        assert!(moves.contains("-> 2") && !moves.contains("-> 3"), "{moves}");
        assert!(moves.lines().count() >= 5, "{moves}");
        let mut leads = Scenario::read(&late(&[3; 17]));
        let moves = leads.run_leaders();
        assert!(
            moves.contains("3 -> 1") && moves.contains("3 -> 2"),
            "{moves}"
        );
    }
}
