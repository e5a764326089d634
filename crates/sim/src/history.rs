//! Whether what clients saw of one key could have come from one register that
//! does one thing at a time.
//!
//! Values are unique, so a read names the write that it saw. The search is that
//! of Wing and Gong (1993) with the memory of Lowe (2017): try what may come
//! next, and never the same set of done operations with the same value twice.
//! A read that sees the current value is taken at once, since it changes
//! nothing for those after it.

use std::collections::{BTreeMap, BTreeSet};

/// Sets of done operations that are looked at before giving up: a history that
/// needs more has too many unknown outcomes to be worth judging.
const MAX_STATES: usize = 400_000;

/// Which value: every write has its own.
pub type Value = u64;

/// What an operation did, as its client knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Wrote a value over whatever was there.
    Put(Value),
    /// Wrote a value where there was none.
    PutAbsent(Value),
    /// Saw a value, or that there was none.
    Read(Option<Value>),
    /// Removed this value.
    Take(Value),
    /// Removed what was there, if anything.
    Clear,
}

/// One operation. Times are positions in the run's order of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    let seen: BTreeSet<Value> = history.iter().filter_map(saw).collect();
    // A write of unknown outcome that nobody saw may as well not have been.
    let mut ops: Vec<Op> = history
        .iter()
        .filter(|op| match op.action {
            Action::Put(value) | Action::PutAbsent(value) => {
                op.returned.is_some() || seen.contains(&value)
            }
            _ => true,
        })
        .copied()
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

fn saw(op: &Op) -> Option<Value> {
    match op.action {
        Action::Read(value) => value,
        Action::Take(value) => Some(value),
        _ => None,
    }
}

/// The value after an operation; `None` when it could not have been then.
fn step(action: Action, now: Option<Value>) -> Option<Option<Value>> {
    match action {
        Action::Put(value) => Some(Some(value)),
        Action::PutAbsent(value) => now.is_none().then_some(Some(value)),
        Action::Read(value) => (value == now).then_some(now),
        Action::Take(value) => (now == Some(value)).then_some(None),
        Action::Clear => Some(None),
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
    tried: BTreeMap<Option<Value>, BTreeSet<Vec<bool>>>,
    states: usize,
    furthest: usize,
    stuck: String,
}

impl Search<'_> {
    fn go(&mut self, now: Option<Value>) -> Found {
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
            self.stuck = format!("{next:?} with the value {now:?}");
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
            op.is_some_and(|op| op.action == Action::Read(now))
        });
        for at in free.map_or(may, |at| vec![at]) {
            let Some(op) = self.ops.get(at) else { continue };
            let Some(next) = step(op.action, now) else {
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
mod tests {
    use super::*;

    fn op(called: u64, returned: impl Into<Option<u64>>, action: Action) -> Op {
        Op {
            client: 0,
            called,
            returned: returned.into(),
            action,
        }
    }

    #[test]
    fn one_after_the_other_is_explained() {
        let history = [
            op(1, 2, Action::Read(None)),
            op(3, 4, Action::Put(7)),
            op(5, 6, Action::Read(Some(7))),
            op(7, 8, Action::Take(7)),
            op(9, 10, Action::Read(None)),
            op(11, 12, Action::PutAbsent(8)),
            op(13, 14, Action::Read(Some(8))),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn a_write_that_is_lost_is_found() {
        let history = [op(1, 2, Action::Put(7)), op(3, 4, Action::Read(None))];
        assert!(check(&history).is_err());
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [
            op(1, 2, Action::Put(7)),
            op(3, 4, Action::Put(8)),
            op(5, 6, Action::Read(Some(7))),
        ];
        assert!(check(&history).is_err());
    }

    #[test]
    fn a_read_that_goes_back_behind_another_is_found() {
        // While the write runs either is right, but not new and then old.
        let new_then_old = [
            op(1, 2, Action::Put(7)),
            op(3, 20, Action::Put(8)),
            op(4, 5, Action::Read(Some(8))),
            op(6, 7, Action::Read(Some(7))),
        ];
        assert!(check(&new_then_old).is_err());
        let old_then_new = [
            op(1, 2, Action::Put(7)),
            op(3, 20, Action::Put(8)),
            op(4, 5, Action::Read(Some(7))),
            op(6, 7, Action::Read(Some(8))),
        ];
        assert_eq!(check(&old_then_new), Ok(()));
    }

    #[test]
    fn what_comes_back_after_a_delete_is_found() {
        let history = [
            op(1, 2, Action::Put(7)),
            op(3, 4, Action::Take(7)),
            op(5, 6, Action::Read(Some(7))),
        ];
        assert!(check(&history).is_err());
    }

    #[test]
    fn one_value_is_not_removed_twice() {
        let history = [
            op(1, 2, Action::Put(7)),
            op(3, 10, Action::Take(7)),
            op(4, 11, Action::Take(7)),
        ];
        assert!(check(&history).is_err());
    }

    #[test]
    fn two_conditional_writes_do_not_both_win() {
        let both = [
            op(1, 10, Action::PutAbsent(7)),
            op(2, 11, Action::PutAbsent(8)),
        ];
        assert!(check(&both).is_err());
    }

    #[test]
    fn an_unknown_outcome_may_be_either_and_late_but_not_both() {
        let never = [
            op(1, 2, Action::Put(7)),
            op(3, None, Action::Put(8)),
            op(4, 5, Action::Read(Some(7))),
            op(6, 7, Action::Read(Some(7))),
        ];
        assert_eq!(check(&never), Ok(()));
        let late = [
            op(1, 2, Action::Put(7)),
            op(3, None, Action::Put(8)),
            op(4, 5, Action::Read(Some(7))),
            op(6, 7, Action::Read(Some(8))),
        ];
        assert_eq!(check(&late), Ok(()));
        let back = [
            op(1, 2, Action::Put(7)),
            op(3, None, Action::Put(8)),
            op(4, 5, Action::Read(Some(8))),
            op(6, 7, Action::Read(Some(7))),
        ];
        assert!(check(&back).is_err());
        let cleared = [
            op(1, 2, Action::Put(7)),
            op(3, None, Action::Clear),
            op(4, 5, Action::Read(None)),
        ];
        assert_eq!(check(&cleared), Ok(()));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert!(check(&[op(1, 2, Action::Read(Some(9)))]).is_err());
    }
}
