//! Clusters as text, for the planners' tests.
//!
//! ```text
//! 1 a active          a node: its number, zone (- for none), state, [silent] or [late]
//! group 1: 1* 2 +4    a group: voters (* leads), learners (+), then
//!                     [stuck] or [wanted 1 2 3]: members the layout names
//! ```

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::layout::{SLOTS, SlotRange};
use holdfast_model::{
    DiskId, Epoch, GroupId, Layout, LayoutNode, NodeId, NodeState, Redundancy, Slot,
};

use crate::leaders::plan_leader_move;
use crate::members::{GroupSight, MemberOrder, MembersCase, plan_members};

/// The entries that each group of a scenario has.
const ENTRIES: u64 = 1_000;
/// More steps than any scenario takes.
const MAX_STEPS: usize = 100;

pub fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn disk(number: u8) -> DiskId {
    DiskId::from_bytes([number; 16])
}

fn number(disk: DiskId) -> u8 {
    disk.as_bytes()[0]
}

pub struct Scenario {
    pub layout: Layout,
    pub answering: BTreeSet<DiskId>,
    pub prompt: BTreeSet<DiskId>,
    pub groups: BTreeMap<GroupId, GroupSight>,
    pub stuck: BTreeSet<(GroupId, DiskId)>,
}

impl Scenario {
    pub fn read(text: &str) -> Self {
        let mut scenario = Self {
            layout: Layout {
                epoch: Epoch(7),
                redundancy: Redundancy::copies(3),
                metadata_replicas: 3,
                slots: Vec::<SlotRange>::new(),
                nodes: BTreeMap::new(),
                groups: BTreeMap::new(),
            },
            answering: BTreeSet::new(),
            prompt: BTreeSet::new(),
            groups: BTreeMap::new(),
            stuck: BTreeSet::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("group ") {
                Some(group) => scenario.read_group(group),
                None => scenario.read_node(line),
            }
        }
        // All slots are the last group's: the planners do not look at them.
        let group = scenario.groups.keys().last().copied().unwrap_or_default();
        scenario.layout.slots = vec![SlotRange {
            first: Slot(0),
            last: Slot(SLOTS - 1),
            group,
        }];
        scenario
    }

    fn read_node(&mut self, line: &str) {
        let mut words = line.split(' ');
        let id: u8 = words.next().unwrap().parse().unwrap();
        let zone = words.next().filter(|zone| *zone != "-").map(str::to_owned);
        let state = match words.next().unwrap() {
            "unplaced" => NodeState::Unplaced,
            "active" => NodeState::Active,
            "down" => NodeState::Down,
            "draining" => NodeState::Draining,
            "drained" => NodeState::Drained,
            "lost" => NodeState::Lost,
            other => panic!("{other} is no state"),
        };
        let how = words.next();
        if how != Some("silent") {
            self.answering.insert(disk(id));
        }
        if how.is_none() {
            self.prompt.insert(disk(id));
        }
        self.layout.nodes.insert(
            node(id),
            LayoutNode {
                id: node(id),
                disk: disk(id),
                address: format!("node{id}:8000"),
                zone,
                host: None,
                weight: 100,
                state,
                incarnation: 1,
                supports: Default::default(),
            },
        );
    }

    fn read_group(&mut self, line: &str) {
        let (group, members) = line.split_once(": ").unwrap();
        let group = GroupId(group.parse().unwrap());
        let mut sight = GroupSight {
            committed: ENTRIES,
            ..GroupSight::default()
        };
        let mut wanted: Option<Vec<DiskId>> = None;
        let mut stuck = false;
        for word in members.split(' ') {
            let id = || disk(word.trim_matches(['*', '+']).parse().unwrap());
            match (word, &mut wanted) {
                ("stuck", _) => stuck = true,
                ("wanted", _) => wanted = Some(Vec::new()),
                (_, Some(wanted)) => wanted.push(id()),
                _ if word.starts_with('+') => sight.learners.push(id()),
                _ => {
                    sight.voters.push(id());
                    sight.matched.insert(id(), ENTRIES);
                    if word.ends_with('*') {
                        sight.leader = Some(id());
                    }
                }
            }
        }
        if stuck {
            self.stuck
                .extend(sight.learners.iter().map(|disk| (group, *disk)));
        }
        self.layout
            .groups
            .insert(group, wanted.unwrap_or_else(|| sight.voters.clone()));
        self.groups.insert(group, sight);
    }

    /// Plans and does steps until there is nothing to do or to wait for.
    pub fn run_members(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..MAX_STEPS {
            let plan = plan_members(&MembersCase {
                layout: &self.layout,
                answering: &self.answering,
                welcoming: &self.answering,
                groups: &self.groups,
                stuck: &self.stuck,
            });
            for note in &plan.notes {
                let note = note.clone() + "\n";
                let readable = (1..10).fold(note, |text, n| {
                    text.replace(&disk(n).to_string(), &n.to_string())
                });
                if !out.contains(&readable) || readable.contains("entries") {
                    out.push_str(&readable);
                }
            }
            match plan.order {
                Some(order) => out.push_str(&(self.apply(&order) + "\n")),
                None if self.catch_up() => {}
                None => return out,
            }
        }
        panic!("it does not end:\n{out}");
    }

    fn catch_up(&mut self) -> bool {
        let mut moved = false;
        for sight in self.groups.values_mut() {
            for learner in &sight.learners {
                moved |= sight.matched.insert(*learner, ENTRIES) != Some(ENTRIES);
            }
        }
        moved
    }

    fn apply(&mut self, order: &MemberOrder) -> String {
        match order {
            MemberOrder::SetLayout(next) => {
                assert_eq!(
                    next.epoch, self.layout.epoch,
                    "computed from another layout"
                );
                next.check().unwrap();
                let changed = next
                    .groups
                    .iter()
                    .filter(|(g, m)| self.layout.groups[*g] != **m);
                let text: Vec<String> = changed
                    .map(|(group, members)| {
                        let members: Vec<_> =
                            members.iter().map(|d| number(*d).to_string()).collect();
                        format!("layout: group {group} = {}", members.join(" "))
                    })
                    .collect();
                self.layout = Layout {
                    epoch: next.epoch.next(),
                    ..(**next).clone()
                };
                text.join("\n")
            }
            MemberOrder::AddLearner { group, disk } => {
                self.groups.get_mut(group).unwrap().learners.push(*disk);
                format!("group {group}: add learner {}", number(*disk))
            }
            MemberOrder::Swap { group, add, remove } => {
                let sight = self.groups.get_mut(group).unwrap();
                assert_ne!(*remove, sight.leader, "the leader refuses to remove itself");
                sight.learners.retain(|disk| disk != add);
                sight.voters.retain(|disk| Some(*disk) != *remove);
                sight.voters.push(*add);
                let gone = remove.map_or("nobody".into(), |disk| number(disk).to_string());
                format!("group {group}: swap {} for {gone}", number(*add))
            }
            MemberOrder::Remove { group, disk } => {
                let sight = self.groups.get_mut(group).unwrap();
                assert_ne!(
                    Some(*disk),
                    sight.leader,
                    "the leader refuses to remove itself"
                );
                sight.learners.retain(|learner| learner != disk);
                sight.voters.retain(|voter| voter != disk);
                format!("group {group}: remove {}", number(*disk))
            }
            MemberOrder::Transfer { group, to } => {
                self.groups.get_mut(group).unwrap().leader = Some(*to);
                format!("group {group}: transfer to {}", number(*to))
            }
        }
    }

    /// Moves leaders until there is nothing to move.
    pub fn run_leaders(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..MAX_STEPS {
            let (layout, groups) = (&self.layout, &self.groups);
            let step = plan_leader_move(layout, &self.answering, &self.prompt, groups);
            let Some(step) = step else { return out };
            self.groups.get_mut(&step.group).unwrap().leader = Some(step.to);
            let (from, to) = (number(step.from), number(step.to));
            out.push_str(&format!("group {}: {from} -> {to}\n", step.group));
        }
        panic!("it does not end:\n{out}");
    }
}
