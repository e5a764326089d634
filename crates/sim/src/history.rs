//! Whether what clients saw of one key could have come from one register that
//! does one thing at a time: it holds a value or none, and of a value with a
//! download limit how many are left.
//!
//! Values are unique, so a read names the write that it saw. A condition that
//! was not met is a read as well: of a register for which it does not hold.
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017):
//! try what may come next, and never the same set of done operations with the
//! same register twice. What only looks, and fits what there is, is taken at
//! once, since it changes nothing for those after it.

use std::collections::{BTreeMap, BTreeSet};

/// Sets of done operations that are looked at before giving up: a history that
/// needs more has too many unknown outcomes to be worth judging.
const MAX_STATES: usize = 400_000;

/// Which value: every write has its own, from 1 on.
pub type Value = u64;

/// A value that nobody writes: conditions that name it are never met.
pub const NOBODYS: Value = 0;

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Held {
    /// The value.
    pub value: Value,
    /// Downloads that are left, of a value with a limit. With none left it is
    /// there for who asks for it, and counts as absent in conditions and lists.
    pub left: Option<u32>,
}

/// A condition, as clients of the object store can ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// None.
    Always,
    /// Nothing is there.
    Absent,
    /// This value is, by its version or its entity tag.
    Is(Value),
}

impl When {
    /// Whether it holds of a register.
    fn met(self, now: Option<Held>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => live(now).is_none(),
            Self::Is(value) => live(now) == Some(value),
        }
    }
}

/// The value that can be had.
fn live(now: Option<Held>) -> Option<Value> {
    now.filter(|held| held.left != Some(0))
        .map(|held| held.value)
}

/// What an operation did, as its client knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Wrote a value, with this download limit, where the condition was met.
    Put(Held, When),
    /// Was refused since a condition was not met, and told what is there.
    Unmet(When, Option<Value>),
    /// Saw what is there, or that there is nothing.
    Read(Option<Held>),
    /// Saw it in a list, or that it is not in one that would show it.
    Listed(Option<Value>),
    /// Saw a page of a list on which any of these values would be, and is not.
    NoneOf(Vec<Value>),
    /// Was told that this value is not there.
    Gone(Value),
    /// Was told that this value has no downloads left.
    UsedUp(Value),
    /// Removed this value.
    Take(Value),
    /// Removed what was there, if anything, where the condition was met. Of
    /// unknown outcome: who knows it knows what was removed.
    Clear(When),
    /// Reserved a download, and was told what is left after it.
    Reserve(Held),
    /// Reserved a download of this value, of unknown outcome.
    MayReserve(Value),
    /// Gave a download of this value back.
    GiveBack(Value),
}

impl Action {
    /// The value that it proves to have been there.
    fn saw(&self) -> Option<Value> {
        match self {
            Self::Read(held) => held.map(|held| held.value),
            Self::Listed(value) | Self::Unmet(_, value) => *value,
            Self::Reserve(held) => Some(held.value),
            Self::Take(value)
            | Self::UsedUp(value)
            | Self::MayReserve(value)
            | Self::GiveBack(value) => Some(*value),
            Self::Put(_, When::Is(value)) => Some(*value),
            Self::Put(..) | Self::NoneOf(_) | Self::Gone(_) | Self::Clear(_) => None,
        }
    }

    /// Whether a write that nobody saw may be why it saw what it did.
    fn saw_absence(&self) -> bool {
        matches!(self, Self::NoneOf(_) | Self::Gone(_))
    }

    /// Whether it fits the register and leaves it as it is.
    fn only_looks(&self, now: Option<Held>) -> bool {
        let looks = match self {
            Self::Read(_) | Self::Listed(_) | Self::Unmet(..) => true,
            Self::NoneOf(_) | Self::Gone(_) | Self::UsedUp(_) => true,
            Self::Put(..) | Self::Take(_) | Self::Clear(_) => false,
            Self::Reserve(_) | Self::MayReserve(_) | Self::GiveBack(_) => false,
        };
        looks && self.step(now).is_some()
    }

    /// The register after it; `None` when it could not have been then.
    fn step(&self, now: Option<Held>) -> Option<Option<Held>> {
        let holds = |value: Value| now.is_some_and(|held| held.value == value);
        let with = |value: Value, left: u32| Held {
            value,
            left: Some(left),
        };
        match self {
            Self::Put(held, when) => when.met(now).then_some(Some(*held)),
            Self::Unmet(when, there) => (!when.met(now) && live(now) == *there).then_some(now),
            Self::Read(held) => (*held == now).then_some(now),
            Self::Listed(value) => (live(now) == *value).then_some(now),
            Self::NoneOf(values) => {
                let there = live(now).is_some_and(|value| values.contains(&value));
                (!there).then_some(now)
            }
            Self::Gone(value) => (!holds(*value)).then_some(now),
            Self::UsedUp(value) => (now == Some(with(*value, 0))).then_some(now),
            Self::Take(value) => holds(*value).then_some(None),
            Self::Clear(when) => when.met(now).then_some(None),
            Self::Reserve(held) => {
                let before = with(held.value, held.left?.checked_add(1)?);
                (now == Some(before)).then_some(Some(*held))
            }
            Self::MayReserve(value) => {
                let left = now.filter(|_| holds(*value))?.left?.checked_sub(1)?;
                Some(Some(with(*value, left)))
            }
            Self::GiveBack(value) => {
                let left = now.filter(|_| holds(*value))?.left?.checked_add(1)?;
                Some(Some(with(*value, left)))
            }
        }
    }
}

/// One operation. Times are positions in the run's order of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// Who did it.
    pub client: usize,
    /// When it was called.
    pub called: u64,
    /// When it was answered; `None` when its outcome is unknown: it may have
    /// been done at any time after its call, or never.
    pub returned: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// Why a history was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No order explains it.
    #[error("no order of these {ops} operations explains what was seen; stuck at {stuck}")]
    NotLinearizable {
        /// How many.
        ops: usize,
        /// What no order got past.
        stuck: String,
    },
    /// It was not decided.
    #[error("the history has too many unknown outcomes to be judged")]
    Undecided,
}

/// Checks the history of one key that began without a value.
///
/// # Errors
/// When no order of the operations, each between its call and its answer,
/// explains what they saw.
pub fn check(history: &[Op]) -> Result<(), Refused> {
    let seen: BTreeSet<Value> = history.iter().filter_map(|op| op.action.saw()).collect();
    let absence = history.iter().filter(|op| op.action.saw_absence());
    let absence = absence.filter_map(|op| op.returned).max().unwrap_or(0);
    // A write of unknown outcome that nobody saw, and that hid nothing from
    // anybody, may as well not have been.
    let mut ops: Vec<Op> = history
        .iter()
        .filter(|op| match op.action {
            Action::Put(held, _) => {
                op.returned.is_some() || seen.contains(&held.value) || op.called < absence
            }
            _ => true,
        })
        .cloned()
        .collect();
    ops.sort_by_key(|op| op.called);
    let mut search = Search {
        done: vec![false; ops.len()],
        ops: &ops,
        tried: BTreeMap::new(),
        states: 0,
        furthest: 0,
        stuck: String::new(),
    };
    match search.go(None) {
        Found::Order => Ok(()),
        Found::None => Err(Refused::NotLinearizable {
            ops: ops.len(),
            stuck: search.stuck,
        }),
        Found::TooMany => Err(Refused::Undecided),
    }
}

enum Found {
    Order,
    None,
    TooMany,
}

struct Search<'o> {
    ops: &'o [Op],
    done: Vec<bool>,
    tried: BTreeMap<Option<Held>, BTreeSet<Vec<bool>>>,
    states: usize,
    furthest: usize,
    stuck: String,
}

impl Search<'_> {
    fn go(&mut self, now: Option<Held>) -> Found {
        let waiting = || {
            let all = self.ops.iter().zip(&self.done);
            all.filter(|(op, done)| !**done && op.returned.is_some())
                .map(|(op, _)| op)
        };
        let Some(until) = waiting().filter_map(|op| op.returned).min() else {
            return Found::Order;
        };
        let may: Vec<usize> = (0..self.ops.len())
            .filter(|at| !self.done.get(*at).copied().unwrap_or(true))
            .filter(|at| self.ops.get(*at).is_some_and(|op| op.called < until))
            .collect();
        let count = self.done.iter().filter(|done| **done).count();
        if count >= self.furthest {
            self.furthest = count;
            let next = waiting().min_by_key(|op| op.returned);
            self.stuck = format!("{next:?} with {now:?} there");
        }
        if !self.tried.entry(now).or_default().insert(self.done.clone()) {
            return Found::None;
        }
        self.states += 1;
        if self.states > MAX_STATES {
            return Found::TooMany;
        }
        let free = may.iter().copied().find(|at| {
            let op = self.ops.get(*at);
            op.is_some_and(|op| op.action.only_looks(now))
        });
        for at in free.map_or(may, |at| vec![at]) {
            let Some(op) = self.ops.get(at) else { continue };
            let Some(next) = op.action.step(now) else {
                continue;
            };
            self.mark(at, true);
            match self.go(next) {
                Found::None => self.mark(at, false),
                other => return other,
            }
        }
        Found::None
    }

    fn mark(&mut self, at: usize, done: bool) {
        if let Some(slot) = self.done.get_mut(at) {
            *slot = done;
        }
    }
}

#[cfg(test)]
mod tests;
