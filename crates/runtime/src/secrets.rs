//! The secrets of a cluster that nobody was asked for: made once by whichever
//! process comes first, on a directory that all of them share.
//!
//! Promises: a reader sees all secrets or none, since they are written into a
//! private directory that is then renamed into place; of several processes
//! that start at once one wins and the others read what it made; nothing is
//! ever overwritten. The directory is 0750 and the files 0440, so that who is
//! to read them shares their group.
#![allow(
    clippy::disallowed_methods,
    reason = "they are read before a process has its disks, and never by what the simulation runs"
)]

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory inside the shared one that holds the files.
pub const SECRETS_SUBDIRECTORY: &str = "cluster";
/// The shortest admin token that is taken: 16 characters of a random choice
/// are beyond guessing, and a word is shorter.
pub const MIN_ADMIN_TOKEN_CHARACTERS: usize = 16;
/// Random bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;
/// How often a waiter looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The file of the credential that services show each other.
pub(crate) const CLUSTER_SECRET: &str = "cluster-secret";
/// The file of one that is accepted beside it, while it is exchanged.
pub(crate) const CLUSTER_SECRET_PREVIOUS: &str = "cluster-secret-previous";
const ADMIN_TOKEN: &str = "admin-token";
pub(crate) const RABBITMQ_PASSWORD: &str = "rabbitmq-password";
/// The file of who shows that password; without it, user `holdfast` does.
pub(crate) const RABBITMQ_USER_FILE: &str = "rabbitmq-user";
pub(crate) const REDIS_PASSWORD: &str = "redis-password";

/// What the services of one cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// With it services prove to each other that they are of the same cluster.
    pub cluster: String,
    /// The first access key.
    pub admin_token: String,
    /// The password of user `holdfast` in RabbitMQ.
    pub rabbitmq_password: String,
    /// The password of Redis.
    pub redis_password: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Reads the secrets in `dir`, making them first where there are none.
    /// An `admin_token` that is given is used in place of the made one.
    ///
    /// # Errors
    /// When the directory cannot be written or the files cannot be read; the
    /// message says what to change.
    pub fn ensure(dir: &Path, admin_token: Option<String>) -> io::Result<Self> {
        let admin_token = admin_token.map(checked_admin_token).transpose()?;
        let mut secrets = match Self::read(dir)? {
            Some(found) => found,
            None => Self::make(dir, admin_token.clone())?,
        };
        if let Some(token) = admin_token {
            secrets.admin_token = token;
        }
        Ok(secrets)
    }

    /// Reads the secrets in `dir`; `None` while nobody has made them.
    ///
    /// # Errors
    /// When they are there and cannot be read, or others than owner and group can.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let place = dir.join(SECRETS_SUBDIRECTORY);
        match fs::metadata(&place) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&place, &error)),
        }
        let read = |name: &str| read_guarded(&place.join(name));
        Ok(Some(Self {
            cluster: read(CLUSTER_SECRET)?,
            admin_token: read(ADMIN_TOKEN)?,
            rabbitmq_password: read(RABBITMQ_PASSWORD)?,
            redis_password: read(REDIS_PASSWORD)?,
        }))
    }

    /// Waits until another process has made the secrets in `dir`, at most `limit`.
    ///
    /// # Errors
    /// `TimedOut` when nobody has; otherwise as [`Secrets::read`].
    pub async fn wait(dir: &Path, limit: Duration) -> io::Result<Self> {
        let look = async {
            loop {
                if let Some(found) = Self::read(dir)? {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, look).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "no secrets in {} after {} s: start a storage node with the same \
                     HOLDFAST_SECRETS_DIR, which makes them",
                    dir.display(),
                    limit.as_secs()
                ),
            ))
        })
    }

    fn make(dir: &Path, admin_token: Option<String>) -> io::Result<Self> {
        let made = Self {
            cluster: random_secret()?,
            admin_token: admin_token.map_or_else(random_secret, Ok)?,
            rabbitmq_password: random_secret()?,
            redis_password: random_secret()?,
        };
        // The shared directory may be a volume's root, whose mode is not ours to set.
        if !dir.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(dir)
                .map_err(|error| unwritable(dir, &error))?;
        }
        let private = made.write_private(dir)?;
        match fs::rename(&private, dir.join(SECRETS_SUBDIRECTORY)) {
            Ok(()) => {
                fs::File::open(dir)?.sync_all()?;
                Ok(made)
            }
            // Another process was faster: a directory that is not empty is never replaced.
            Err(error) => {
                fs::remove_dir_all(&private)?;
                Self::read(dir)?.ok_or_else(|| unwritable(dir, &error))
            }
        }
    }

    /// Writes all secrets durably into a new directory that nobody else looks into.
    fn write_private(&self, dir: &Path) -> io::Result<PathBuf> {
        let private = dir.join(format!(".making-{}", random_hex(8)?));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&private)
            .map_err(|error| unwritable(dir, &error))?;
        for (name, value) in [
            (CLUSTER_SECRET, &self.cluster),
            (ADMIN_TOKEN, &self.admin_token),
            (RABBITMQ_PASSWORD, &self.rabbitmq_password),
            (REDIS_PASSWORD, &self.redis_password),
        ] {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o440)
                .open(private.join(name))?;
            file.write_all(value.as_bytes())?;
            // Whatever the umask has taken away.
            file.set_permissions(fs::Permissions::from_mode(0o440))?;
            file.sync_all()?;
        }
        fs::set_permissions(&private, fs::Permissions::from_mode(0o750))?;
        fs::File::open(&private)?.sync_all()?;
        Ok(private)
    }
}

/// The secret in the environment variable `name`, or in the file that
/// `{name}_FILE` names; `None` when neither is set. White space around it is
/// no part of it.
///
/// # Errors
/// When both are set, the file cannot be read, or the secret is empty.
pub fn read_secret(name: &str) -> io::Result<Option<String>> {
    let file_name = format!("{name}_FILE");
    let value = match (std::env::var(name).ok(), std::env::var(&file_name).ok()) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(invalid(format!(
                "{name} and {file_name} are both set: unset one of them"
            )));
        }
        (Some(value), None) => value,
        (None, Some(path)) => fs::read_to_string(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot read {path}, which {file_name} names: {error}"),
            )
        })?,
    };
    match value.trim() {
        "" => Err(invalid(format!(
            "{name} is empty: give it a value, or unset it"
        ))),
        value => Ok(Some(value.to_owned())),
    }
}

/// Checks an admin token that somebody chose.
///
/// # Errors
/// When it is too short, or cannot be sent in a header.
pub fn checked_admin_token(token: String) -> io::Result<String> {
    if token.chars().count() < MIN_ADMIN_TOKEN_CHARACTERS {
        return Err(invalid(format!(
            "the admin token has fewer than {MIN_ADMIN_TOKEN_CHARACTERS} characters: set \
             HOLDFAST_ADMIN_TOKEN to a longer one, or leave it out and one is made"
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(
            "the admin token must be printable ASCII without spaces, to be sent in a header".into(),
        ));
    }
    Ok(token)
}

fn read_guarded(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)
        .map_err(|error| unreadable(path, &error))?
        .mode();
    if mode & 0o007 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is open to everybody (mode {:04o}): take that away with chmod o-rwx",
                path.display(),
                mode & 0o7777
            ),
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    match text.trim() {
        "" => Err(invalid(format!("{} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> io::Error {
    let group = path
        .ancestors()
        .find_map(|place| fs::metadata(place).ok())
        .map_or_else(|| "unknown".to_owned(), |found| found.gid().to_string());
    io::Error::new(
        error.kind(),
        format!(
            "cannot read {}: {error}; this process has user id {}, and the secrets belong to \
             group {group}: run it in that group (group_add under compose)",
            path.display(),
            rustix::process::getuid().as_raw(),
        ),
    )
}

fn unwritable(dir: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot make the cluster's secrets in {}: {error}; let user id {} write there, or \
             name another directory in HOLDFAST_SECRETS_DIR",
            dir.display(),
            rustix::process::getuid().as_raw(),
        ),
    )
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn random_secret() -> io::Result<String> {
    random_hex(SECRET_BYTES)
}

fn random_hex(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn secrets_are_made_once_and_read_by_the_group_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Secrets::read(dir.path()).unwrap(), None);
        let made = Secrets::ensure(dir.path(), None).unwrap();
        assert_eq!(made.cluster.len(), 2 * SECRET_BYTES);
        assert_ne!(made.cluster, made.admin_token);
        assert_eq!(Secrets::ensure(dir.path(), None).unwrap(), made);

        let place = dir.path().join(SECRETS_SUBDIRECTORY);
        assert_eq!(mode(&place), 0o750);
        for entry in fs::read_dir(&place).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o440);
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "something was left"
        );
    }

    #[test]
    fn of_many_that_start_at_once_all_have_the_same_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let barrier = std::sync::Barrier::new(16);
        let all: Vec<_> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        Secrets::ensure(dir.path(), None).unwrap()
                    })
                })
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        assert!(all.iter().all(|secrets| secrets == &all[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_given_admin_token_is_used_and_a_short_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let token = "a token that has".replace(' ', "-");
        let made = Secrets::ensure(dir.path(), Some(token.clone())).unwrap();
        assert_eq!(made.admin_token, token);
        assert_eq!(Secrets::ensure(dir.path(), None).unwrap(), made);
        let error = Secrets::ensure(dir.path(), Some("short".into())).unwrap_err();
        assert!(error.to_string().contains("HOLDFAST_ADMIN_TOKEN"));
    }

    /// A projected volume of Kubernetes: what is mounted are links through
    /// `..data`, which is exchanged as a whole; files are 0440 and of the pod's group.
    #[test]
    fn secrets_of_a_projected_volume_are_read_and_nothing_is_made() {
        let made = tempfile::tempdir().unwrap();
        let secrets = Secrets::ensure(made.path(), None).unwrap();
        let volume = tempfile::tempdir().unwrap();
        let version = volume.path().join("..2026_01_01_00_00_00.1");
        fs::create_dir(&version).unwrap();
        let kept = version.join(SECRETS_SUBDIRECTORY);
        fs::rename(made.path().join(SECRETS_SUBDIRECTORY), &kept).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o2755)).unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, volume.path().join(name)).unwrap();
        };
        link("..2026_01_01_00_00_00.1", "..data");
        link("..data/cluster", SECRETS_SUBDIRECTORY);
        assert_eq!(Secrets::read(volume.path()).unwrap(), Some(secrets.clone()));
        assert_eq!(Secrets::ensure(volume.path(), None).unwrap(), secrets);
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 3);
    }

    #[test]
    fn secrets_that_everybody_can_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        Secrets::ensure(dir.path(), None).unwrap();
        let file = dir.path().join(SECRETS_SUBDIRECTORY).join(ADMIN_TOKEN);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        let error = Secrets::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("chmod o-rwx"), "{error}");
    }

    #[tokio::test]
    async fn waiting_ends_with_the_secrets_or_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Duration::ZERO;
        let error = Secrets::wait(dir.path(), limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let made = Secrets::ensure(dir.path(), None).unwrap();
        assert_eq!(Secrets::wait(dir.path(), limit).await.unwrap(), made);
    }

    #[test]
    fn a_secret_that_is_not_set_is_none() {
        assert_eq!(read_secret("HOLDFAST_TEST_NEVER_SET").unwrap(), None);
        // Cargo sets this one for every test.
        assert!(read_secret("CARGO_PKG_NAME").unwrap().is_some());
    }
}
