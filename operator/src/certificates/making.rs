//! Makes certificates: of a key, a random number and a time, and of nothing else.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;

use super::reading::{Certificate, Leaf};
use super::{AUTHORITY_DAYS, BACKDATED_SECONDS, DAY_SECONDS, LEAF_DAYS};

/// Random bytes of a certificate's number.
pub const SERIAL_BYTES: usize = 16;
/// Characters of an authority's number in its name: enough to tell two apart.
const NAME_CHARACTERS: usize = 8;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MakingError {
    /// The library refuses.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A time is none.
    #[error("a certificate cannot hold until {0} s after 1970")]
    Time(i64),
    /// There is no authority to make it with.
    #[error("there is no authority to make a certificate with")]
    NoAuthority,
}

/// What differs from one certificate to the next.
pub struct Chance {
    /// The new key.
    pub key: KeyPair,
    /// The new number.
    pub serial: [u8; SERIAL_BYTES],
}

/// Makes an authority of a cluster, which signs itself.
///
/// # Errors
/// [`MakingError`].
pub fn make_authority(cluster: &str, chance: &Chance, now: i64) -> Result<Leaf, MakingError> {
    let number: String = hex::encode(chance.serial)
        .chars()
        .take(NAME_CHARACTERS)
        .collect();
    // Two authorities of one cluster differ by name: a chain leads to one of them.
    let mut parameters = begin(&format!("Holdfast {cluster} {number}"), chance);
    parameters.not_before = time(now - BACKDATED_SECONDS)?;
    parameters.not_after = time(now + AUTHORITY_DAYS * DAY_SECONDS)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = parameters.self_signed(&chance.key)?;
    finish(made.der(), made.pem(), &chance.key)
}

/// Makes a certificate for these names, signed by `authority`.
///
/// # Errors
/// [`MakingError`].
pub fn make_leaf(
    name: &str,
    dns_names: &[String],
    authority: &Leaf,
    chance: &Chance,
    now: i64,
) -> Result<Leaf, MakingError> {
    let signer = authority.certificate().ok_or(MakingError::NoAuthority)?;
    let key = KeyPair::from_pem(&authority.key_pem)?;
    let issuer = Issuer::from_ca_cert_der(&signer.der().into(), key)?;
    let mut parameters = begin(name, chance);
    let until = (now + LEAF_DAYS * DAY_SECONDS).min(signer.until);
    parameters.not_before = time((now - BACKDATED_SECONDS).max(signer.from))?;
    parameters.not_after = time(until)?;
    parameters.subject_alt_names = CertificateParams::new(dns_names)?.subject_alt_names;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.use_authority_key_identifier_extension = true;
    let made = parameters.signed_by(&chance.key, &issuer)?;
    finish(made.der(), made.pem(), &chance.key)
}

fn begin(name: &str, chance: &Chance) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    parameters.serial_number = Some(SerialNumber::from_slice(&chance.serial));
    parameters
}

fn time(seconds: i64) -> Result<OffsetDateTime, MakingError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| MakingError::Time(seconds))
}

fn finish(der: &[u8], chain_pem: String, key: &KeyPair) -> Result<Leaf, MakingError> {
    let certificate = Certificate::of(der).ok_or(MakingError::Certificate(
        rcgen::Error::CouldNotParseCertificate,
    ))?;
    Ok(Leaf {
        chain: vec![certificate],
        chain_pem,
        key_pem: key.serialize_pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn chance(number: u8) -> Chance {
        Chance {
            key: KeyPair::generate().unwrap(),
            serial: [number; SERIAL_BYTES],
        }
    }

    #[test]
    fn an_authority_signs_certificates_of_90_days_that_are_renewed_after_60() {
        let authority = make_authority("files/demo", &chance(1), NOW).unwrap();
        let names = [
            "demo-gateway".to_owned(),
            "*.demo-nodes.files.svc".to_owned(),
        ];
        let leaf = make_leaf("demo-node", &names, &authority, &chance(2), NOW).unwrap();
        let (signer, own) = (
            authority.certificate().unwrap(),
            leaf.certificate().unwrap(),
        );
        assert!(own.is_signed_by(signer) && signer.is_signed_by(signer));
        assert!(!signer.is_signed_by(own));
        assert_eq!(own.names, names.into());
        assert_eq!(signer.until, NOW + 3_650 * DAY_SECONDS);
        assert_eq!(own.until, NOW + 90 * DAY_SECONDS);
        let sixty_days = NOW + 60 * DAY_SECONDS;
        assert!((own.renew_at() - sixty_days).abs() < BACKDATED_SECONDS);
        assert!(own.has_key(&leaf.key_pem) && !own.has_key(&authority.key_pem));
    }

    #[test]
    fn no_certificate_holds_longer_than_its_authority() {
        let authority = make_authority("files/demo", &chance(1), NOW).unwrap();
        let end = authority.certificate().unwrap().until;
        let late = end - 10 * DAY_SECONDS;
        let leaf = make_leaf("demo-node", &["a".into()], &authority, &chance(2), late).unwrap();
        assert_eq!(leaf.certificate().unwrap().until, end);
    }

    #[test]
    fn two_authorities_of_a_cluster_are_told_apart_by_name() {
        let one = make_authority("files/demo", &chance(1), NOW).unwrap();
        let other = make_authority("files/demo", &chance(2), NOW).unwrap();
        let leaf = make_leaf("demo-node", &["a".into()], &one, &chance(3), NOW).unwrap();
        assert!(leaf.is_of(&one.chain) && !leaf.is_of(&other.chain));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let authority = make_authority("files/demo", &chance(1), NOW).unwrap();
        let both = [authority.chain.clone(), authority.chain.clone()].concat();
        let text = super::super::reading::to_pem(&both);
        assert_eq!(Certificate::all(text.as_bytes()), both);
        assert_eq!(
            Certificate::all(authority.chain_pem.as_bytes()),
            authority.chain
        );
        let read = Leaf::read(
            Some(authority.chain_pem.clone()),
            Some(authority.key_pem.clone()),
        );
        assert_eq!(read, Some(authority));
    }
}
