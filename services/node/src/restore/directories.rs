//! The directories that a backup is restored into: whose they are, and whether
//! they are enough.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use holdfast_metadata::store::StoreError;
use holdfast_model::{ClusterId, GroupId, Supported};
use holdfast_runtime::Disk;

use super::RestoreError;
use super::survey::BackedUp;
use crate::identity::Identity;

/// A directory that was found fit.
pub(super) struct Target {
    pub name: String,
    pub disk: Arc<dyn Disk>,
    pub identity: Identity,
}

impl Target {
    pub(super) fn failed(&self) -> impl Fn(io::Error) -> RestoreError {
        let directory = self.name.clone();
        move |source| RestoreError::Disk {
            directory: directory.clone(),
            source,
        }
    }

    pub(super) fn store(&self) -> impl Fn(StoreError) -> RestoreError {
        let directory = self.name.clone();
        move |source| RestoreError::Store {
            directory: directory.clone(),
            source,
        }
    }
}

/// Finds every directory to be of the backup's cluster, and none to be there twice.
pub(super) fn check_directories(
    directories: Vec<(String, Arc<dyn Disk>)>,
    cluster: ClusterId,
) -> Result<Vec<Target>, RestoreError> {
    let mut targets: Vec<Target> = Vec::new();
    for (name, disk) in directories {
        let directory = name.clone();
        let refused = |source| RestoreError::Identity {
            directory: directory.clone(),
            source,
        };
        let identity = Identity::find(disk.as_ref()).map_err(refused)?;
        let identity = identity.ok_or_else(|| RestoreError::NoIdentity {
            directory: directory.clone(),
        })?;
        identity.check_release(&Supported::OWN).map_err(refused)?;
        match identity.cluster {
            Some(found) if found == cluster => {}
            Some(found) => {
                return Err(RestoreError::OtherCluster {
                    directory,
                    found,
                    backup: cluster,
                });
            }
            None => return Err(RestoreError::NoCluster { directory }),
        }
        let same = |other: &&Target| other.identity.disk == identity.disk;
        if let Some(other) = targets.iter().find(same) {
            return Err(RestoreError::SameDisk {
                first: other.name.clone(),
                second: name,
            });
        }
        targets.push(Target {
            name,
            disk,
            identity,
        });
    }
    Ok(targets)
}

/// Finds a majority of every group's members among the directories.
pub(super) fn check_majorities(
    groups: &BTreeMap<GroupId, BackedUp>,
    targets: &[Target],
) -> Result<(), RestoreError> {
    for (group, backed_up) in groups {
        // During a change of members both majorities are needed.
        for voters in [
            &backed_up.members.voters,
            &backed_up.members.voters_outgoing,
        ] {
            let is_given = |voter: &&u64| {
                let mut disks = targets.iter().map(|target| target.identity.disk.raft_id());
                disks.any(|disk| disk == **voter)
            };
            let (given, all) = (voters.iter().filter(is_given).count(), voters.len());
            if all > 0 && given * 2 <= all {
                return Err(RestoreError::TooFew {
                    group: *group,
                    given,
                    all,
                });
            }
        }
    }
    Ok(())
}
