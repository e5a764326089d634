//! Certificates as decisions see them, read from what Secrets hold.

use std::collections::BTreeSet;
use std::fmt;

use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The most certificates that are read of one Secret: a chain, or the
/// authorities of two at once.
const MAX_CERTIFICATES: usize = 16;
/// What stands before a certificate in PEM.
const LABEL: &str = "CERTIFICATE";

/// The SHA-256 of a certificate, as processes report it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate's bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// As processes write it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0).chars().take(8).collect::<String>())
    }
}

/// A certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    /// What tells it from all others.
    pub fingerprint: Fingerprint,
    /// The DNS names that it is for.
    pub names: BTreeSet<String>,
    /// From when it holds, in seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

impl Certificate {
    /// From its bytes; `None` where they are no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = match parsed.subject_alternative_name() {
            Ok(Some(extension)) => extension
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
                .collect(),
            _ => BTreeSet::new(),
        };
        Some(Self {
            der: der.to_vec(),
            fingerprint: Fingerprint::of(der),
            names,
            from: parsed.validity().not_before.timestamp(),
            until: parsed.validity().not_after.timestamp(),
        })
    }

    /// All that a text holds; what is no certificate is left out.
    pub fn all(pem: &[u8]) -> Vec<Self> {
        Pem::iter_from_buffer(pem)
            .filter_map(Result::ok)
            .filter(|block| block.label == LABEL)
            .filter_map(|block| Self::of(&block.contents))
            .take(MAX_CERTIFICATES)
            .collect()
    }

    /// Its bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `authority` has signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let own = X509Certificate::from_der(&self.der);
        let theirs = X509Certificate::from_der(&authority.der);
        match (own, theirs) {
            (Ok((_, own)), Ok((_, theirs))) => {
                own.issuer() == theirs.subject()
                    && own.verify_signature(Some(theirs.public_key())).is_ok()
            }
            _ => false,
        }
    }

    /// When two thirds of its time are over.
    pub fn renew_at(&self) -> i64 {
        self.from + (self.until - self.from) / 3 * 2
    }

    /// Whether `key` is its private key, as far as keys of our own kind can be read.
    pub fn has_key(&self, key: &str) -> bool {
        let Ok(key) = KeyPair::from_pem(key) else {
            return false;
        };
        X509Certificate::from_der(&self.der)
            .is_ok_and(|(_, own)| own.public_key().raw == key.subject_public_key_info())
    }
}

/// Certificates as text.
pub fn to_pem<'c>(certificates: impl IntoIterator<Item = &'c Certificate>) -> String {
    use base64::Engine;
    let mut text = String::new();
    for certificate in certificates {
        let encoded = base64::engine::general_purpose::STANDARD.encode(&certificate.der);
        text += "-----BEGIN CERTIFICATE-----\n";
        for (place, letter) in encoded.chars().enumerate() {
            // Lines of 64 letters (RFC 7468).
            if place > 0 && place % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text += "\n-----END CERTIFICATE-----\n";
    }
    text
}

/// A certificate with what leads from it to its authority, and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate, then those between it and its authority.
    pub chain: Vec<Certificate>,
    /// As it is written.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

impl Leaf {
    /// Of what a Secret holds; `None` where there is no certificate or no key.
    pub fn read(chain: Option<String>, key: Option<String>) -> Option<Self> {
        let (chain_pem, key_pem) = (chain?, key?);
        let chain = Certificate::all(chain_pem.as_bytes());
        (!chain.is_empty() && !key_pem.trim().is_empty()).then_some(Self {
            chain,
            chain_pem,
            key_pem,
        })
    }

    /// The certificate itself.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// Whether one of `authorities` has signed it, or what leads to it.
    pub fn is_of(&self, authorities: &[Certificate]) -> bool {
        let signed = |one: &Certificate| authorities.iter().any(|other| one.is_signed_by(other));
        self.chain.iter().any(signed)
    }
}
