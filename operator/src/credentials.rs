//! The exchange of what the parts of a cluster know each other by, and of what
//! they show RabbitMQ and Redis, while all of them run.
//!
//! Each lies in three slots of one Secret, each change of which is one write:
//!
//! | step | current, which is shown | previous, which is taken too | next |
//! | --- | --- | --- | --- |
//! | at rest | old | | |
//! | Adding | old | new | new |
//! | Switching | new | old | new |
//! | at rest | new | | |
//!
//! From one step to the next it goes when all that take it say that they take
//! the new one, and when all that show it say that they show it. Pods mount the
//! first two slots. RabbitMQ takes two logins in that it has two users: the
//! operator makes the new one there, and takes the old one away.

mod broker;
mod cache;
pub mod settle;

use std::fmt;

use holdfast_crd::RotationStatus;
use holdfast_plan::names::Component;
use holdfast_runtime::credential::fingerprint;

use crate::certificates::decide::{ADDING, REMOVING, SWITCHING, rotation};
use crate::loaded::{Loaded, Reports, those_not};

/// What is exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// What the parts of a cluster know each other by.
    Cluster,
    /// The login to RabbitMQ.
    Queue,
    /// The password of Redis.
    Cache,
}

impl Which {
    /// All of them; each is exchanged by itself.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Queue, Self::Cache];

    /// As the status calls it.
    fn label(self) -> &'static str {
        match self {
            Self::Cluster => "ClusterCredential",
            Self::Queue => "QueueLogin",
            Self::Cache => "CachePassword",
        }
    }

    /// The server that takes it, which must be there to be asked.
    fn server(self) -> Option<Component> {
        match self {
            Self::Cluster => None,
            Self::Queue => Some(Component::Rabbitmq),
            Self::Cache => Some(Component::Redis),
        }
    }

    /// Whether a pod takes the new one, as far as it has to.
    fn is_taken(self, part: Component, loaded: Option<&Loaded>, digest: &String) -> bool {
        let credentials = |loaded: &Loaded| {
            let all = loaded.credentials.as_ref();
            all.is_some_and(|all| all.contains(digest))
        };
        match (self, part) {
            (Self::Cluster, Component::Rabbitmq | Component::Redis) => true,
            (Self::Cluster, _) => loaded.is_some_and(credentials),
            (_, part) if self.server() == Some(part) => {
                loaded.is_some_and(|loaded| loaded.takes.contains(digest))
            }
            _ => true,
        }
    }

    /// Whether a pod shows the new one, as far as it has to.
    fn is_shown(self, part: Component, loaded: Option<&Loaded>, digest: &String) -> bool {
        let first = |loaded: &Loaded| loaded.credentials.as_ref()?.first().cloned();
        match (self, part) {
            (Self::Cluster, Component::Rabbitmq | Component::Redis) => true,
            (Self::Cluster, _) => loaded.and_then(first).as_ref() == Some(digest),
            (Self::Queue, Component::Gateway | Component::Worker) => {
                loaded.is_some_and(|loaded| loaded.queue.as_ref() == Some(digest))
            }
            (Self::Cache, Component::Gateway | Component::Worker) => {
                loaded.is_some_and(|loaded| loaded.cache.as_ref() == Some(digest))
            }
            // Nobody works on with the old login.
            (Self::Queue, Component::Rabbitmq) => {
                loaded.is_some_and(|loaded| loaded.connected == Some(0))
            }
            _ => true,
        }
    }
}

/// A password, and who shows it where that has a name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// The name; empty where there is none.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// One without a name.
    pub fn of(password: impl Into<String>) -> Self {
        Self {
            user: String::new(),
            password: password.into(),
        }
    }

    /// As pods report it.
    fn digest(&self) -> String {
        fingerprint(self.password.trim())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// The slots, as the Secret has them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Slots {
    /// What is shown.
    pub current: Login,
    /// What is taken beside it.
    pub previous: Option<Login>,
    /// What is to be current.
    pub next: Option<Login>,
    /// The wish for which the last exchange was begun.
    pub begun_for: Option<String>,
}

/// Something to be written, as one change of the Secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// A new one is taken everywhere.
    Offer,
    /// The new one is shown, and the old one still taken.
    Switch,
    /// The old one is taken no more.
    Drop,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// What to write.
    pub write: Option<Write>,
    /// Whether pods must be asked before more can be decided.
    pub ask: bool,
    /// What is under way.
    pub rotation: Option<RotationStatus>,
}

impl Verdict {
    /// Whether nothing is under way, nor wished for.
    pub fn is_done(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides the next step.
pub fn decide(
    which: Which,
    slots: &Slots,
    wish: Option<&String>,
    reports: Option<&Reports>,
) -> Verdict {
    let step = |write: Option<Write>, step: &str, waiting: Vec<String>| Verdict {
        write,
        ask: false,
        rotation: Some(rotation(which.label(), step, waiting)),
    };
    let next = match (&slots.next, &slots.previous) {
        (Some(next), _) => next,
        // Nothing else writes the second slot: what is left there goes.
        (None, Some(_)) => &slots.current,
        (None, None) => {
            let wished = wish.is_some() && wish != slots.begun_for.as_ref();
            return match wished {
                true => step(Some(Write::Offer), ADDING, Vec::new()),
                false => Verdict::default(),
            };
        }
    };
    let Some(reports) = reports else {
        return Verdict {
            ask: true,
            ..Verdict::default()
        };
    };
    let digest = next.digest();
    if *next == slots.current {
        // Until every pod shows it, somebody may still show the old one.
        let waiting = those_without(which, reports, |part, loaded| {
            which.is_shown(part, loaded, &digest)
        });
        return match waiting.is_empty() {
            true => step(Some(Write::Drop), REMOVING, waiting),
            false => step(None, SWITCHING, waiting),
        };
    }
    if slots.previous.as_ref() != Some(next) {
        return step(Some(Write::Offer), ADDING, Vec::new());
    }
    let waiting = those_without(which, reports, |part, loaded| {
        which.is_taken(part, loaded, &digest)
    });
    let write = waiting.is_empty().then_some(Write::Switch);
    step(write, ADDING, waiting)
}

/// The pods that are not good, and the server where it has no pod at all.
fn those_without(
    which: Which,
    reports: &Reports,
    good: impl Fn(Component, Option<&Loaded>) -> bool,
) -> Vec<String> {
    let mut waiting = those_not(reports, good);
    if let Some(server) = which.server()
        && !reports.values().any(|(part, _)| *part == server)
    {
        waiting.push(server.as_str().to_owned());
    }
    waiting
}

/// The slots after a write. `new` is used where one is made.
pub fn after(slots: &Slots, write: Write, wish: Option<&String>, new: Login) -> Slots {
    match write {
        Write::Offer => {
            let next = slots.next.clone().unwrap_or(new);
            Slots {
                current: slots.current.clone(),
                previous: Some(next.clone()),
                next: Some(next),
                begun_for: wish.or(slots.begun_for.as_ref()).cloned(),
            }
        }
        Write::Switch => Slots {
            current: slots.next.clone().unwrap_or_else(|| slots.current.clone()),
            previous: Some(slots.current.clone()),
            ..slots.clone()
        },
        Write::Drop => Slots {
            previous: None,
            next: None,
            ..slots.clone()
        },
    }
}

#[cfg(test)]
mod tests;
