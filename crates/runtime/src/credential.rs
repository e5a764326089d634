//! The cluster's credential, by which its processes know each other, in two
//! slots: what is shown, and one more that is accepted too. With them it is
//! exchanged while all runs: the new one is first accepted everywhere, then
//! shown, then the old one is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::host::tls::watched::{Contents, Source, Watched};
use crate::secrets::{CLUSTER_SECRET, CLUSTER_SECRET_PREVIOUS, SECRETS_SUBDIRECTORY};
use crate::settings::{SettingsError, checked_cluster_secret};

/// Hex digits of a fingerprint: enough to tell two apart, too few to matter.
const FINGERPRINT_DIGITS: usize = 16;

/// What is shown and what is accepted, as it is at the time.
#[derive(Clone, Debug)]
pub struct Credential(Arc<Watched<Slots>>);

struct Slots {
    current: Arc<str>,
    previous: Option<Arc<str>>,
}

impl Credential {
    /// One that does not change.
    pub fn fixed(current: &str) -> Self {
        Self::of(Slots {
            current: current.into(),
            previous: None,
        })
    }

    fn of(slots: Slots) -> Self {
        Self(Arc::new(Watched::fixed("credential", slots)))
    }

    /// Where the environment or the shared directory says it is. Files are
    /// followed while the process runs.
    ///
    /// # Errors
    /// A sentence that says what to change, when there is none or two places
    /// name it.
    pub fn find(secrets_dir: Option<&Path>) -> Result<Self, SettingsError> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let current = named("HOLDFAST_CLUSTER_SECRET");
        let file = named("HOLDFAST_CLUSTER_SECRET_FILE").map(PathBuf::from);
        let previous = named("HOLDFAST_CLUSTER_SECRET_PREVIOUS_FILE").map(PathBuf::from);
        let sources = match (current, file, secrets_dir) {
            (Some(value), None, None) => (Source::Given(value.into_encoded_bytes()), previous),
            (None, Some(path), None) => (Source::File(path), previous),
            (None, None, Some(dir)) if previous.is_none() => {
                let dir = dir.join(SECRETS_SUBDIRECTORY);
                let previous = dir.join(CLUSTER_SECRET_PREVIOUS);
                (Source::File(dir.join(CLUSTER_SECRET)), Some(previous))
            }
            _ => {
                return Err(SettingsError(
                    "set one of HOLDFAST_SECRETS_DIR, HOLDFAST_CLUSTER_SECRET and HOLDFAST_CLUSTER_SECRET_FILE; HOLDFAST_CLUSTER_SECRET_PREVIOUS_FILE goes beside the latter two alone".into(),
                ));
            }
        };
        let mut all = vec![sources.0];
        all.extend(sources.1.map(Source::Optional));
        let watched = Watched::open("credential", all, slots)
            .map_err(|error| SettingsError(format!("the cluster's credential: {error}")))?;
        Ok(Self(Arc::new(watched)))
    }

    /// What is shown to others.
    pub fn current(&self) -> Arc<str> {
        self.0.now().current.clone()
    }

    /// What else is accepted.
    pub fn previous(&self) -> Option<Arc<str>> {
        self.0.now().previous.clone()
    }

    /// Whether what somebody shows is accepted. Takes as long for one that is
    /// almost right as for one that is not.
    pub fn admits(&self, shown: &[u8]) -> bool {
        let slots = self.0.now();
        let current = shown.ct_eq(slots.current.as_bytes());
        let previous = match &slots.previous {
            Some(previous) => shown.ct_eq(previous.as_bytes()),
            None => Choice::from(0),
        };
        (current | previous).into()
    }

    /// The beginning of the SHA-256 of each that is accepted, the one that is
    /// shown first.
    pub fn fingerprints(&self) -> Vec<String> {
        let slots = self.0.now();
        let all = std::iter::once(&slots.current).chain(&slots.previous);
        all.map(|secret| fingerprint(secret)).collect()
    }

    /// Looks whether it has changed. Blocks on the disk.
    pub fn look(&self) {
        self.0.look();
    }
}

/// The beginning of the SHA-256 of a secret, in hex.
pub fn fingerprint(secret: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(secret.as_bytes()));
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

fn slots(contents: &Contents) -> Result<Slots, String> {
    let mut found = contents.iter().map(|content| {
        let text = str::from_utf8(content.as_deref().unwrap_or_default());
        text.map(str::trim).map_err(|_| "it is no text".to_owned())
    });
    let secret = |text: &str| {
        let checked = checked_cluster_secret(text.to_owned());
        checked.map(Arc::from).map_err(|error| error.0)
    };
    let current = secret(found.next().transpose()?.unwrap_or_default())?;
    let previous = match found.next().transpose()? {
        None | Some("") => None,
        Some(text) => Some(secret(text)?),
    };
    Ok(Slots { current, previous })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files are the test's own")]
mod tests {
    use super::*;

    const OLD: &str = "the old one of the cluster";
    const NEW: &str = "the new one of the cluster";

    #[test]
    fn both_are_accepted_and_the_current_one_is_shown() {
        let both = Credential::of(Slots {
            current: NEW.into(),
            previous: Some(OLD.into()),
        });
        assert_eq!(&*both.current(), NEW);
        assert!(both.admits(NEW.as_bytes()) && both.admits(OLD.as_bytes()));
        let one = Credential::fixed(NEW);
        for wrong in [
            "",
            OLD,
            "the new one of the cluste",
            "the new one of the clusters",
        ] {
            assert!(!one.admits(wrong.as_bytes()), "{wrong:?}");
        }
        assert_eq!(one.fingerprints(), both.fingerprints()[..1]);
        assert_eq!(both.fingerprints()[1].len(), FINGERPRINT_DIGITS);
    }

    #[test]
    fn files_are_followed_and_an_empty_previous_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(SECRETS_SUBDIRECTORY);
        std::fs::create_dir(&place).unwrap();
        let write = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        write(CLUSTER_SECRET, OLD);
        let credential = Credential::find(Some(dir.path())).unwrap();
        assert_eq!(credential.previous(), None);
        write(CLUSTER_SECRET, &format!("{NEW}\n"));
        write(CLUSTER_SECRET_PREVIOUS, OLD);
        credential.look();
        assert_eq!(&*credential.current(), NEW);
        assert!(credential.admits(OLD.as_bytes()));
        write(CLUSTER_SECRET, "short");
        credential.look();
        assert_eq!(
            &*credential.current(),
            NEW,
            "one that is too short was taken"
        );
        write(CLUSTER_SECRET, NEW);
        write(CLUSTER_SECRET_PREVIOUS, "\n");
        credential.look();
        assert!(!credential.admits(OLD.as_bytes()));
    }
}
