//! Certificates and the credential of a cluster, in files that are exchanged
//! as Kubernetes exchanges a Secret's volume: a link to a whole directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use holdfast_runtime::host::tls::{Authorities, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, of this machine.
    fn issue(&self) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(["127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Believes these authorities alone.
pub fn believing(all: &[&Authority]) -> Result<Trust> {
    Ok(Trust::only(Authorities::from_pem(joined(all).as_bytes())?))
}

fn joined(all: &[&Authority]) -> String {
    all.iter().map(|authority| authority.pem()).collect()
}

/// The files.
pub struct Secured {
    dir: TempDir,
    versions: AtomicU32,
}

impl Secured {
    /// Files of which there are none yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
            versions: AtomicU32::new(0),
        })
    }

    /// One of its directories.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate from `issuer` in the directory `name`, beside the
    /// authorities that are believed.
    pub fn certify(&self, name: &str, issuer: &Authority, believed: &[&Authority]) -> Result<()> {
        let (chain, key) = issuer.issue()?;
        let authorities = joined(believed);
        self.exchange(
            name,
            &[
                ("tls.crt", &chain),
                ("tls.key", &key),
                ("ca.crt", &authorities),
            ],
        )
    }

    /// The same certificate, and other authorities that are believed.
    pub fn believe(&self, name: &str, believed: &[&Authority]) -> Result<()> {
        let place = self.place(name);
        let read = |file: &str| fs::read_to_string(place.join(file));
        let (chain, key) = (read("tls.crt")?, read("tls.key")?);
        let authorities = joined(believed);
        self.exchange(
            name,
            &[
                ("tls.crt", &chain),
                ("tls.key", &key),
                ("ca.crt", &authorities),
            ],
        )
    }

    /// The credential, and the one that is accepted beside it.
    pub fn credential(&self, current: &str, previous: &str) -> Result<()> {
        self.exchange(
            "credential",
            &[("current", current), ("previous", previous)],
        )
    }

    fn exchange(&self, name: &str, files: &[(&str, &str)]) -> Result<()> {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let whole = self.place(&format!("..{version}"));
        fs::create_dir(&whole)?;
        for (file, content) in files {
            fs::write(whole.join(file), content)?;
        }
        let link = self.place(&format!("..link{version}"));
        symlink(&whole, &link)?;
        Ok(fs::rename(link, self.place(name))?)
    }

    /// What tells processes where all of it is.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let at = |path: &Path| path.display().to_string();
        let credential = self.place("credential");
        vec![
            ("HOLDFAST_TLS_DIR", at(&self.place("internal"))),
            (
                "HOLDFAST_CLUSTER_SECRET_FILE",
                at(&credential.join("current")),
            ),
            (
                "HOLDFAST_CLUSTER_SECRET_PREVIOUS_FILE",
                at(&credential.join("previous")),
            ),
        ]
    }
}
