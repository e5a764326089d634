//! The files of the index, by name: `index-00000001` is a base and
//! `index-00000001.journal` its journal. A base has its name only when both are
//! durable; one that was given up is called `.idle`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use holdfast_runtime::{Disk, File};

use crate::index::base::Base;
use crate::index::delta::Delta;
use crate::index::journal::{ExtentPayload, Journal, Told, read_journal};
use crate::index::{IndexError, Place, Totals};
use crate::segment::DIRECTORY;

const PREFIX: &str = "index-";

pub(crate) fn base_name(number: u64) -> String {
    format!("{DIRECTORY}/{PREFIX}{number:08}")
}

pub(crate) fn journal_name(number: u64) -> String {
    format!("{}.journal", base_name(number))
}

pub(crate) fn new_name(number: u64) -> String {
    format!("{}.new", base_name(number))
}

pub(crate) fn idle_name(number: u64) -> String {
    format!("{}.idle", base_name(number))
}

/// What is in the directory.
pub(crate) struct IndexFiles {
    /// Without the directory.
    names: Vec<String>,
}

/// An index that was read.
pub(crate) struct Saved {
    pub base: Base,
    pub journal: Journal,
    pub told: Told,
    /// What the journal says has changed.
    pub delta: Delta,
    /// Of both.
    pub totals: Totals,
}

impl IndexFiles {
    pub(crate) fn list(disk: &dyn Disk) -> io::Result<Self> {
        let mut names = disk.list(DIRECTORY)?;
        names.retain(|name| name.starts_with(PREFIX));
        Ok(Self { names })
    }

    /// The highest number that was ever used here.
    pub(crate) fn highest(&self) -> u64 {
        let numbers = self.names.iter().filter_map(|name| number_of(name));
        numbers.max().unwrap_or(0)
    }

    /// Reads the newest index; `None` without one.
    pub(crate) fn load(&self, disk: &dyn Disk) -> Result<Option<Saved>, IndexError> {
        let bases = self.names.iter().filter(|name| !name.contains('.'));
        let Some(number) = bases.filter_map(|name| number_of(name)).max() else {
            return Ok(None);
        };
        let bad = |what| IndexError::Damaged { number, what };
        let file = disk.open(&journal_name(number))?;
        let (told, journal) = read_journal(file, None)?;
        if told.damaged {
            return Err(bad("its journal"));
        }
        let delta: Delta = told.changes.iter().copied().collect();
        let mut totals = Totals::default();
        let file: Arc<dyn File> = disk.open(&base_name(number))?;
        let base = Base::load(file, number, |id, at| {
            if delta.get(&id).is_none() {
                totals.add(&id, &at);
            }
        })?;
        if told.line.is_none() || !journal.is_of(base.id) {
            return Err(bad("its journal is another's, or says nothing"));
        }
        for (id, at) in delta.iter() {
            if let Some(at) = at {
                totals.add(&id, &at);
            }
        }
        Ok(Some(Saved {
            base,
            journal,
            told,
            delta,
            totals,
        }))
    }

    /// Extents of which some journal says that they were deleted. True however
    /// old it is: an extent's place is given out once.
    pub(crate) fn condemned(&self, disk: &dyn Disk) -> BTreeSet<Place> {
        let mut places = BTreeSet::new();
        for name in self.names.iter().filter(|name| name.ends_with(".journal")) {
            let file = disk.open(&format!("{DIRECTORY}/{name}"));
            let told = file
                .map_err(IndexError::from)
                .and_then(|file| read_journal(file, None));
            match told {
                Ok((told, _)) => places.extend(told.all_frees.iter().map(ExtentPayload::place)),
                Err(error) => tracing::error!(%error, name, "a journal cannot be read"),
            }
        }
        places
    }

    /// Removes all files but those of one number. One that stays only takes
    /// room until the next start.
    pub(crate) fn remove_but(&self, disk: &dyn Disk, number: Option<u64>) {
        let mut removed = false;
        for name in &self.names {
            let keep = number.is_some_and(|n| {
                [base_name(n), journal_name(n)]
                    .iter()
                    .any(|k| k.ends_with(name))
            });
            if !keep {
                removed = true;
                if let Err(error) = disk.remove(&format!("{DIRECTORY}/{name}")) {
                    tracing::warn!(%error, name, "cannot remove a file of an old index");
                }
            }
        }
        if removed && let Err(error) = disk.sync_dir(DIRECTORY) {
            tracing::warn!(%error, "cannot sync the removal of an old index");
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.split('.').next()?.parse().ok()
}
