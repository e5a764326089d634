//! On what condition something is put or deleted, and what a condition that was
//! not met says.

use holdfast_metadata::command::Condition;
use holdfast_model::{ObjectKey, VersionId};

use super::Client;
use crate::history::{Action, NOBODYS, Value, When};

/// A condition, and the value that it names.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub condition: Condition,
    value: Value,
}

impl Chosen {
    pub const ALWAYS: Self = Self {
        condition: Condition::Always,
        value: NOBODYS,
    };
    pub const ABSENT: Self = Self {
        condition: Condition::Absent,
        value: NOBODYS,
    };

    /// The same, as the history has it.
    pub fn when(&self) -> When {
        match self.condition {
            Condition::Always => When::Always,
            Condition::Absent => When::Absent,
            _ => When::Is(self.value),
        }
    }
}

impl Client {
    /// What is there now, by its version or its entity tag: another may have
    /// taken its place when the request is made. Now and then, and where nothing
    /// is there or nobody says what, one that nobody writes.
    pub(super) async fn one_that_is_there(&self, key: &ObjectKey) -> Chosen {
        let seen = match self.look(key).await {
            Ok((_, Some((record, written)))) => Some((record.version, written.value)),
            Ok(_) | Err(_) => None,
        };
        let seen = seen.filter(|_| self.below(6) > 0);
        let (version, value) = seen.unwrap_or_else(|| {
            let made_up = VersionId::from_bytes(self.cluster.env().entropy.id());
            (made_up, NOBODYS)
        });
        let condition = match self.below(2) {
            0 => Condition::Version(version),
            _ => Condition::Matches(version.to_string()),
        };
        Chosen { condition, value }
    }

    /// Notes that a condition was not met, and the entity tag that came along.
    pub(super) fn unmet(&self, key: &ObjectKey, called: u64, when: When, tag: Option<String>) {
        self.journal.count(|counts| counts.unmet += 1);
        let there = tag.as_deref().map(|tag| self.journal.tagged(tag));
        match there {
            Some(None) => self.wrong(format!("an entity tag nobody wrote: {tag:?}")),
            Some(Some(written)) => {
                let there = Some(written.value);
                self.note(key, called, true, Action::Unmet(when, there));
            }
            None => self.note(key, called, true, Action::Unmet(when, None)),
        }
    }
}
