//! Whether the operator itself moves, for the kubelet.
//!
//! Alive: its election goes on, and no round stands still. Ready: the API server
//! answers. Neither says anything about clusters; their status does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An election takes a turn every few seconds, whether it is answered or not; one
/// that has not for so long stands still.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// A round takes seconds, and minutes at most where nodes count their objects. One
/// that takes longer waits for an answer that does not come.
const ROUND_LIMIT: Duration = Duration::from_secs(600);
/// The API server is asked every two seconds; it may be slow, or be restarted.
const NOT_ANSWERED: Duration = Duration::from_secs(30);

/// What has moved, and when.
pub struct Health {
    /// Held for single look-ups.
    seen: Mutex<Seen>,
}

struct Seen {
    turned: Instant,
    answered: Option<Instant>,
    rounds: BTreeMap<u64, Instant>,
    next_round: u64,
}

/// A round that goes on until this is dropped.
pub struct Round {
    health: Arc<Health>,
    number: u64,
}

impl Drop for Round {
    fn drop(&mut self) {
        let number = self.number;
        self.health.with(|seen| seen.rounds.remove(&number));
    }
}

impl Health {
    /// Of an operator that starts.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::new(Seen {
                turned: now,
                answered: None,
                rounds: BTreeMap::new(),
                next_round: 0,
            }),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The election has taken a turn; whether the API server has answered.
    pub fn note_turn(&self, now: Instant, answered: bool) {
        self.with(|seen| {
            seen.turned = now;
            if answered {
                seen.answered = Some(now);
            }
        });
    }

    /// A round begins.
    pub fn begin_round(self: &Arc<Self>, now: Instant) -> Round {
        let number = self.with(|seen| {
            let number = seen.next_round;
            seen.next_round += 1;
            seen.rounds.insert(number, now);
            number
        });
        Round {
            health: self.clone(),
            number,
        }
    }

    /// Whether it moves.
    ///
    /// # Errors
    /// What stands still.
    pub fn alive(&self, now: Instant) -> Result<(), String> {
        let (turned, oldest) = self.with(|seen| (seen.turned, seen.rounds.values().min().copied()));
        let still = now.duration_since(turned);
        if still > STANDS_STILL {
            return Err(format!(
                "the election stands still for {} s",
                still.as_secs()
            ));
        }
        let round = oldest.map_or(Duration::ZERO, |begun| now.duration_since(begun));
        match round > ROUND_LIMIT {
            true => Err(format!("a round takes {} s", round.as_secs())),
            false => Ok(()),
        }
    }

    /// Whether it can do its work. One that waits for another to give up the lead
    /// can: it takes over at once.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, now: Instant) -> Result<(), String> {
        match self.with(|seen| seen.answered) {
            None => Err("the API server has not answered yet".into()),
            Some(at) if now.duration_since(at) > NOT_ANSWERED => Err(format!(
                "the API server has not answered for {} s",
                now.duration_since(at).as_secs()
            )),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_while_the_api_server_answers_and_alive_in_any_case() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let health = Health::new(start);
        assert!(health.ready(start).is_err());
        health.note_turn(at(1), true);
        assert_eq!(health.ready(at(20)), Ok(()));
        health.note_turn(at(40), false);
        assert!(health.ready(at(40)).unwrap_err().contains("39 s"));
        assert_eq!(health.alive(at(40)), Ok(()));
    }

    #[test]
    fn it_is_not_alive_when_its_election_or_a_round_stands_still() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let health = Health::new(start);
        assert!(health.alive(at(61)).unwrap_err().contains("election"));
        let (first, second) = (health.begin_round(at(0)), health.begin_round(at(300)));
        health.note_turn(at(601), true);
        assert!(health.alive(at(601)).unwrap_err().contains("601 s"));
        drop(first);
        assert_eq!(health.alive(at(601)), Ok(()));
        drop(second);
    }
}
