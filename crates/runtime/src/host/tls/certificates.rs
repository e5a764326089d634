//! What PEM files hold, checked before it is used: a chain with its key, and
//! the certificates of authorities.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::{TlsError, provider, unusable};

/// A certificate with what leads to its authority, and its key.
#[derive(Debug)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    fingerprint: String,
    not_after: i64,
}

impl Pair {
    /// Reads both, and checks that they belong together.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("tls.crt", chain)?;
        let first = chain.first().ok_or_else(|| none("tls.crt"))?;
        let fingerprint = fingerprint(first);
        let not_after = not_after("tls.crt", first)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable("tls.key", error))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| unusable("tls.crt with tls.key", error))?;
        Ok(Self {
            key: Arc::new(key),
            fingerprint,
            not_after,
        })
    }

    /// What rustls signs with.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// SHA-256 of the certificate, in hex.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// The authorities whose certificates are believed; during a rotation the old
/// and the new one.
#[derive(Debug)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
    fingerprints: Vec<String>,
    not_after: i64,
    pem: String,
}

impl Authorities {
    /// Reads one or more.
    ///
    /// # Errors
    /// When there is none, or one of them is no authority's certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let certificates = certificates("ca.crt", pem)?;
        let mut roots = RootCertStore::empty();
        let mut ends = Vec::new();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| unusable("ca.crt", error))?;
            ends.push(not_after("ca.crt", certificate)?);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| unusable("ca.crt", error))?;
        let pem = String::from_utf8(pem.to_vec()).map_err(|error| unusable("ca.crt", error))?;
        Ok(Self {
            fingerprints: certificates.iter().map(fingerprint).collect(),
            not_after: ends.into_iter().min().ok_or_else(|| none("ca.crt"))?,
            certificates,
            verifier,
            pem,
        })
    }

    /// Verifies servers by them alone.
    pub(super) fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        self.verifier.clone()
    }

    /// Their certificates.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// SHA-256 of each certificate, in hex, in the order of the file.
    pub fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }

    /// When the first of them ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// As they were read.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = read.map_err(|error| unusable(what, error))?;
    match all.is_empty() {
        true => Err(none(what)),
        false => Ok(all),
    }
}

fn none(what: &'static str) -> TlsError {
    unusable(what, "it holds no certificate")
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate))
}

fn not_after(what: &'static str, certificate: &CertificateDer<'_>) -> Result<i64, TlsError> {
    let (_, read) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| unusable(what, error))?;
    Ok(read.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tls::tests::Authority;

    #[test]
    fn a_pair_is_taken_only_when_both_belong_together() {
        let authority = Authority::new();
        let (one, other) = (authority.issue("localhost"), authority.issue("localhost"));
        let pair = |chain: &str, key: &str| Pair::from_pem(chain.as_bytes(), key.as_bytes());
        let taken = pair(&one.chain, &one.key).unwrap();
        assert_eq!(taken.fingerprint().len(), 64);
        assert!(taken.not_after() > 1_700_000_000);
        let half = &one.chain[..one.chain.len() / 2];
        for (chain, key) in [
            (one.chain.as_str(), other.key.as_str()),
            (half, &one.key),
            (&one.chain, &one.key[..40]),
            ("", &one.key),
            (&one.chain, ""),
        ] {
            assert!(pair(chain, key).is_err(), "{chain}{key}");
        }
    }

    #[test]
    fn authorities_are_one_or_more_and_never_none() {
        let (old, new) = (Authority::new(), Authority::new());
        let both = format!("{}{}", old.pem(), new.pem());
        let read = |pem: &str| Authorities::from_pem(pem.as_bytes());
        let (one, two) = (read(&old.pem()).unwrap(), read(&both).unwrap());
        assert_eq!(two.fingerprints()[0], one.fingerprints()[0]);
        assert_eq!(two.fingerprints().len(), 2);
        assert_ne!(two.fingerprints()[0], two.fingerprints()[1]);
        for bad in ["", "nonsense", &both[..both.len() - 60]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
