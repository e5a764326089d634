//! A client that mounts a cluster's authorities and reads them again, as clients
//! of a cluster that exchanges them are told to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use holdfast_runtime::host::tls::watched::Source;
use holdfast_runtime::host::tls::{Authorities, Trust, Watched};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::kubernetes::room::Room;

/// How often the Secret is read: an exchange takes minutes.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// Authorities that follow the Secret of a cluster.
pub struct Believed {
    trust: Trust,
    // Goes after the task that writes there.
    _directory: TempDir,
    task: JoinHandle<()>,
}

impl Believed {
    /// Begins to follow.
    pub async fn follow(room: &Room, cluster: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("ca.crt");
        fs::write(&file, room.authorities(cluster).await?)?;
        let authorities = watch(file.clone())?;
        let (room, cluster) = (room.clone(), cluster.to_owned());
        let followed = authorities.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(READ_AGAIN).await;
                // What cannot be read is read the next time.
                if let Ok(pem) = room.authorities(&cluster).await
                    && replace(&file, &pem).is_ok()
                {
                    followed.look();
                }
            }
        });
        Ok(Self {
            trust: Trust::Only(authorities),
            _directory: directory,
            task,
        })
    }

    /// Whom to believe at the time.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl Drop for Believed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watch(file: PathBuf) -> Result<Arc<Watched<Authorities>>> {
    let watched = Watched::open("authority", vec![Source::File(file)], |contents| {
        let pem = contents.first().and_then(Option::as_deref);
        Authorities::from_pem(pem.unwrap_or_default()).map_err(|error| error.to_string())
    });
    Ok(Arc::new(watched.map_err(Error::msg)?))
}

fn replace(file: &Path, pem: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, pem)?;
    fs::rename(&new, file)?;
    Ok(())
}
