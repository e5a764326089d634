//! How the controller works, with limits that keep a slip of the pen from
//! harming the cluster.

use std::time::Duration;

/// How long a node may be silent before its fragments are made again: longer
/// than a reboot or an image pull, shorter than a night.
pub const DEFAULT_DOWN_GRACE: Duration = Duration::from_secs(10 * 60);
/// The shortest grace: below it an election or a pause of a machine looks like a death.
pub const MIN_DOWN_GRACE: Duration = Duration::from_secs(5);
/// How long a node must have answered before it takes data again.
pub const DEFAULT_RETURN_STEADY: Duration = Duration::from_secs(5);
/// How often each group is counted.
pub const DEFAULT_CENSUS_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time between two censuses of a group: where much is wrong, each
/// reads all its rows.
pub const MIN_CENSUS_INTERVAL: Duration = Duration::from_secs(1);
/// Within how long a census goes through what agrees by its digests as well: a
/// safety net, at the cost of some rows a minute.
pub const DEFAULT_CENSUS_WALK_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long after a new generation the floor follows: as long as an upload's
/// intent holds without being renewed.
pub const DEFAULT_FLOOR_DELAY: Duration = Duration::from_secs(60 * 60);
/// The shortest such delay. Any is safe, but a short one fails slow uploads.
pub const MIN_FLOOR_DELAY: Duration = Duration::from_secs(1);
/// How long a fragment must have been seen without a reference before it is
/// deleted: longer than the 10 minutes for which readers of a replaced version
/// still find its fragments.
pub const DEFAULT_ORPHAN_GRACE: Duration = Duration::from_secs(15 * 60);
/// Bytes a second that repair may copy from one node's controller at most: what
/// a fast disk or network gives. It yields to clients by itself (`pace.rs`).
pub const DEFAULT_REPAIR_BYTES_PER_SECOND: u64 = 1 << 30;
/// Bytes a second that scrubbing may read: a disk of 4 TB in twelve days.
pub const DEFAULT_SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;
/// Bytes a second that compaction may move on the own disk: a tenth of what a
/// modest disk writes.
pub const DEFAULT_COMPACTION_BYTES_PER_SECOND: u64 = 16 << 20;
/// How long compaction of the own disk rests when no segment is nearly empty.
pub const DEFAULT_COMPACTION_PAUSE: Duration = Duration::from_secs(30);
/// The shortest such rest: each look goes through all segments.
pub const MIN_COMPACTION_PAUSE: Duration = Duration::from_secs(1);
/// The slowest any may be: a fragment of 8 MiB must still end some day.
pub const MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// How old a census may be that lets a node be taken away.
pub const DEFAULT_PERMIT_CENSUS_AGE: Duration = Duration::from_secs(2 * 60);

/// How the controller works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerSettings {
    /// How long a node may be silent before it counts as down.
    pub down_grace: Duration,
    /// How long a node that was down must answer before it takes data again.
    pub return_steady: Duration,
    /// How often each group is counted.
    pub census_interval: Duration,
    /// Within how long it goes through each range of uploads that agrees with
    /// the disks by its digests.
    pub census_walk_interval: Duration,
    /// How long after a new generation the floor may follow.
    pub floor_delay: Duration,
    /// How long a fragment must have been seen without a reference before it
    /// is deleted.
    pub orphan_grace: Duration,
    /// Bytes a second that repair and drain may copy from this node's controller
    /// at most: less while clients wait, and more for what is on its last copy.
    pub repair_bytes_per_second: u64,
    /// Bytes a second that scrubbing of the own disk may read.
    pub scrub_bytes_per_second: u64,
    /// Bytes a second that compaction of the own disk may move.
    pub compaction_bytes_per_second: u64,
    /// How long compaction rests when there was nothing to do.
    pub compaction_pause: Duration,
    /// How old a census may be that lets a node be taken away.
    pub permit_census_age: Duration,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            down_grace: DEFAULT_DOWN_GRACE,
            return_steady: DEFAULT_RETURN_STEADY,
            census_interval: DEFAULT_CENSUS_INTERVAL,
            census_walk_interval: DEFAULT_CENSUS_WALK_INTERVAL,
            floor_delay: DEFAULT_FLOOR_DELAY,
            orphan_grace: DEFAULT_ORPHAN_GRACE,
            repair_bytes_per_second: DEFAULT_REPAIR_BYTES_PER_SECOND,
            scrub_bytes_per_second: DEFAULT_SCRUB_BYTES_PER_SECOND,
            compaction_bytes_per_second: DEFAULT_COMPACTION_BYTES_PER_SECOND,
            compaction_pause: DEFAULT_COMPACTION_PAUSE,
            permit_census_age: DEFAULT_PERMIT_CENSUS_AGE,
        }
    }
}

/// A setting that would harm.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting} must be at least {least}")]
pub struct SettingsError {
    setting: &'static str,
    least: String,
}

impl ControllerSettings {
    /// Checks every setting against its limit.
    ///
    /// # Errors
    /// The first that lies below it.
    pub fn check(&self) -> Result<(), SettingsError> {
        let times = [
            ("down_grace", self.down_grace, MIN_DOWN_GRACE),
            ("census_interval", self.census_interval, MIN_CENSUS_INTERVAL),
            (
                "census_walk_interval",
                self.census_walk_interval,
                MIN_CENSUS_INTERVAL,
            ),
            ("floor_delay", self.floor_delay, MIN_FLOOR_DELAY),
            (
                "compaction_pause",
                self.compaction_pause,
                MIN_COMPACTION_PAUSE,
            ),
        ];
        for (setting, value, least) in times {
            if value < least {
                let least = format!("{least:?}");
                return Err(SettingsError { setting, least });
            }
        }
        let rates = [
            ("repair_bytes_per_second", self.repair_bytes_per_second),
            ("scrub_bytes_per_second", self.scrub_bytes_per_second),
            (
                "compaction_bytes_per_second",
                self.compaction_bytes_per_second,
            ),
        ];
        for (setting, value) in rates {
            if value < MIN_BYTES_PER_SECOND {
                let least = format!("{MIN_BYTES_PER_SECOND} bytes a second");
                return Err(SettingsError { setting, least });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_limits_and_a_slip_is_named() {
        let mut settings = ControllerSettings::default();
        assert_eq!(settings.check(), Ok(()));
        settings.scrub_bytes_per_second = 4;
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with("scrub_bytes_per_second"), "{error}");
        settings.down_grace = Duration::ZERO;
        let error = settings.check().unwrap_err().to_string();
        assert_eq!(error, "down_grace must be at least 5s");
    }
}
