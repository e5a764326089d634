//! Puts a backup into the data directories of a cluster that is stopped. It
//! asks no gateway: it holds the directories itself.
//!
//! Promises: without the lock of every directory nothing is read or written
//! there; the old metadata is kept, and where is said.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_node::restore::{RestoreParts, Restored, restore};
use holdfast_runtime::Disk;
use holdfast_runtime::host::disk::Directory;
use serde_json::json;

use crate::arguments::Restore;
use crate::dev;
use crate::failure::Failure;
use crate::show::{Output, say};

/// Restores into the directories that are named, or else those of `holdfast dev`.
pub async fn run(order: Restore, data: PathBuf, output: Output) -> Result<(), Failure> {
    let work = move || restore_into(&order, &data);
    let (done, kept_as) = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::Restore(error.to_string()))??;
    if output.json {
        output.value(&as_json(&done, &kept_as));
    } else {
        describe(&done, &kept_as);
    }
    Ok(())
}

fn restore_into(order: &Restore, data: &Path) -> Result<(Restored, String), Failure> {
    // Opened before anything is held, so that a mistyped name is told first.
    drop(open(&order.file).map_err(Failure::file(&order.file))?);
    let (_whole, paths) = if order.node_data.is_empty() {
        let (lock, paths) = dev::hold_stopped(data)?;
        (Some(lock), paths)
    } else {
        (None, order.node_data.clone())
    };
    let held = paths.iter().map(|path| hold(path));
    let directories = held.collect::<Result<Vec<_>, Failure>>()?;
    let kept_as = kept_as(SystemTime::now());
    let done = restore(RestoreParts {
        backup: &|| open(&order.file),
        directories,
        kept_as: kept_as.clone(),
        log: holdfast_node::LogSettings::default(),
        force: order.force,
    })
    .map_err(|error| Failure::Restore(error.to_string()))?;
    Ok((done, kept_as))
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(File::open(file)?))
}

/// Holds a node's directory; one that is not there is not made.
fn hold(path: &Path) -> Result<(String, Arc<dyn Disk>), Failure> {
    fs::read_dir(path).map_err(Failure::file(path))?;
    let directory = Directory::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Failure::Restore(format!(
            "a running process holds {}: stop all nodes, gateways and workers first",
            path.display()
        )),
        _ => Failure::file(path)(error),
    })?;
    Ok((path.display().to_string(), Arc::new(directory)))
}

/// The name under which the old files are kept: the time in UTC, to the
/// millisecond, so that two runs do not meet.
fn kept_as(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "before-restore-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z",
        since.subsec_millis()
    )
}

/// Year, month and day of a count of days since 1970-01-01, as Howard Hinnant
/// computes them (`days_from_civil`, "chrono-Compatible Low-Level Date
/// Algorithms"): years begin in March, so that the leap day comes last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn describe(done: &Restored, kept_as: &str) {
    say!("restored {} rows of cluster {}:", done.rows, done.cluster);
    for (directory, groups) in &done.directories {
        say!("  {directory}  {groups} groups");
    }
    say!("the metadata from before is in {kept_as} inside each of them");
    for directory in &done.unread_logs {
        eprintln!("the old log in {directory} could not be read; that changes nothing here");
    }
    if !done.absent.is_empty() {
        eprintln!("not restored, and never to be started with what they hold:");
        for (node, address) in &done.absent {
            eprintln!("  {node}  {address}");
        }
        eprintln!("restore them from the same file too, or give them empty data directories");
    }
}

fn as_json(done: &Restored, kept_as: &str) -> serde_json::Value {
    let directories = done.directories.iter();
    let absent = done.absent.iter();
    json!({
        "cluster": done.cluster.to_string(),
        "rows": done.rows,
        "kept_as": kept_as,
        "directories": directories
            .map(|(path, groups)| json!({ "path": path, "groups": groups }))
            .collect::<Vec<_>>(),
        "absent": absent
            .map(|(node, address)| json!({ "node": node.to_string(), "address": address }))
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn old_files_are_kept_under_the_time() {
        let at = |millis| kept_as(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(784_111_777_123), "before-restore-19941106T084937.123Z");
        assert_eq!(at(951_782_400_000), "before-restore-20000229T000000.000Z");
        assert_eq!(at(1_709_251_199_999), "before-restore-20240229T235959.999Z");
        assert_eq!(at(0), "before-restore-19700101T000000.000Z");
    }

    #[test]
    fn a_directory_in_use_or_missing_is_refused_with_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let held = Directory::open(dir.path()).unwrap();
        let refused = hold(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("stop all nodes"), "{refused}");
        drop(held);
        let missing = dir.path().join("missing");
        assert!(hold(&missing).is_err());
        assert!(!missing.exists(), "a mistyped directory was made");
    }
}
