//! Times that every replica of a group must agree on, since what a command
//! does depends on them. The cluster's state holds them, and each group has
//! them from a command of its own log.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::duration::format_duration;

/// The shortest of these times, in milliseconds: the unit that they are set in.
pub const MIN_TIME_MILLIS: u64 = 1_000;
/// The longest grace, in milliseconds: what has expired is to be gone some day.
pub const MAX_EXPIRY_GRACE_MILLIS: u64 = 30 * 86_400_000;
/// The longest life of a ticket, in milliseconds: until then an object whose
/// downloads are used up is kept.
pub const MAX_TICKET_MILLIS: u64 = 7 * 86_400_000;

/// Times that objects and their downloads live by, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ObjectTimes {
    /// How long the data of an expired object is kept, so that a jump of the
    /// clock can be undone.
    #[n(0)]
    pub expiry_grace: u64,
    /// How long a ticket is good after the last byte it served.
    #[n(1)]
    pub ticket_idle: u64,
    /// How long a ticket is good at most.
    #[n(2)]
    pub ticket_max: u64,
}

impl Default for ObjectTimes {
    fn default() -> Self {
        Self {
            expiry_grace: 60 * 60 * 1_000,
            ticket_idle: 60 * 60 * 1_000,
            ticket_max: 24 * 60 * 60 * 1_000,
        }
    }
}

impl ObjectTimes {
    /// Whether each lies within its bounds.
    ///
    /// # Errors
    /// A sentence that says which does not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let times = [
            ("expiry grace", self.expiry_grace, MAX_EXPIRY_GRACE_MILLIS),
            ("ticket's idle time", self.ticket_idle, MAX_TICKET_MILLIS),
            ("ticket's longest life", self.ticket_max, MAX_TICKET_MILLIS),
        ];
        let shown = |millis| format_duration(Duration::from_millis(millis));
        for (name, millis, most) in times {
            if !(MIN_TIME_MILLIS..=most).contains(&millis) {
                return Err(format!(
                    "the {name} is {millis} ms: it must be between {} and {}",
                    shown(MIN_TIME_MILLIS),
                    shown(most)
                ));
            }
        }
        if self.ticket_idle > self.ticket_max {
            return Err(format!(
                "a ticket's idle time, {} ms, must not be longer than its longest life, {} ms",
                self.ticket_idle, self.ticket_max
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_their_bounds_are_refused_with_a_sentence() {
        let usual = ObjectTimes::default();
        assert_eq!(usual.check(), Ok(()));
        let none = ObjectTimes {
            expiry_grace: 999,
            ..usual
        };
        assert_eq!(
            none.check().unwrap_err(),
            "the expiry grace is 999 ms: it must be between 1s and 30d"
        );
        let long = ObjectTimes {
            ticket_max: MAX_TICKET_MILLIS + 1,
            ..usual
        };
        assert!(long.check().is_err());
        let crossed = ObjectTimes {
            ticket_idle: 5_000,
            ticket_max: 4_000,
            ..usual
        };
        assert!(crossed.check().unwrap_err().contains("longer than"));
    }
}
