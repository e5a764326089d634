//! What ends a process at once, and what that says of its disk.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a process cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fatal {
    /// The disk has failed: what it holds is not to be trusted again.
    DiskFailed(String),
    /// The disk is an older copy, or has lost what it promised, and others know:
    /// what it holds is not to be trusted again, and another copy may be.
    Outdated(String),
    /// The disk has no room left for what may not be refused. Nothing that it
    /// holds is wrong; with room, the process starts again.
    NoRoom(String),
    /// The others refuse this process: a person has to decide.
    Refused(String),
    /// Our own state makes no sense.
    Broken(String),
}

/// Told why the process ends, and ends it.
pub type OnFatal = Arc<dyn Fn(Fatal) + Send + Sync>;

impl Fatal {
    /// What an error of a disk comes to.
    pub fn of_disk(what: &str, error: &(dyn Error + 'static)) -> Self {
        let text = told(what, error);
        let mut no_room = false;
        let mut next = Some(error);
        while let Some(current) = next {
            no_room |= current.downcast_ref().is_some_and(is_no_room);
            next = current.source();
        }
        // Libraries that keep the error to themselves still show it.
        if no_room || text.contains("os error 28") {
            Self::NoRoom(text)
        } else {
            Self::DiskFailed(text)
        }
    }

    /// What an error comes to that no disk has a part in: who runs the same
    /// program on another disk has it too.
    pub fn broken(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self::Broken(told(what, error))
    }
}

/// Whether a call failed for want of room: then nothing that the disk holds is
/// wrong.
pub fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// An error with all that it comes from.
fn told(what: &str, error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{what}: {error}");
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFailed(why) => write!(f, "the disk has failed: {why}"),
            Self::NoRoom(why) => write!(
                f,
                "the disk has no room for metadata: {why}; make room and start again"
            ),
            Self::Outdated(why) | Self::Refused(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_failed_disk() {
        let full = io::Error::from_raw_os_error(28);
        assert!(matches!(Fatal::of_disk("the log", &full), Fatal::NoRoom(_)));
        let bad = io::Error::from_raw_os_error(5);
        assert!(matches!(
            Fatal::of_disk("the log", &bad),
            Fatal::DiskFailed(_)
        ));
    }
}
