//! What is derived from the cluster's secret: the same on every gateway, known
//! to nobody else. With it a repeated upload gets the same id and the same
//! tokens again, though they are stored nowhere.

use hmac::{Hmac, KeyInit, Mac};
use holdfast_model::AccessKeyId;
use sha2::{Digest, Sha256};

/// The derivation key.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Derives the gateways' own key, so that what is made of it tells nothing
    /// of the cluster's secret.
    pub fn new(cluster_secret: &str) -> Self {
        Self(mac(
            cluster_secret.as_bytes(),
            &[b"holdfast gateway derivation v1"],
        ))
    }

    /// 32 bytes for a purpose and its inputs.
    pub fn derive(&self, purpose: &str, inputs: &[&[u8]]) -> [u8; 32] {
        let mut all = vec![purpose.as_bytes()];
        all.extend_from_slice(inputs);
        mac(&self.0, &all)
    }

    /// 16 bytes for an identity of an upload that may be repeated.
    pub fn derive_id(&self, purpose: &str, owner: AccessKeyId, key: &str) -> [u8; 16] {
        let full = self.derive(purpose, &[owner.as_bytes(), key.as_bytes()]);
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(full) {
            *to = from;
        }
        id
    }
}

/// HMAC-SHA256 (RFC 2104) of the inputs, each preceded by its length, so that
/// no two lists of inputs are the same bytes.
fn mac(key: &[u8], inputs: &[&[u8]]) -> [u8; 32] {
    // SHA-256 first: HMAC takes keys of any length, this makes that plain.
    let key: [u8; 32] = Sha256::digest(key).into();
    let mut mac = match Hmac::<Sha256>::new_from_slice(&key) {
        Ok(mac) => mac,
        // HMAC takes keys of any length.
        Err(_) => return key,
    };
    for input in inputs {
        mac.update(&(input.len() as u64).to_be_bytes());
        mac.update(input);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 of a token, as it is stored.
///
/// Tokens carry at least 128 random bits, so comparing their hashes needs no
/// constant time: what a comparison leaks is a prefix of a hash that nobody can
/// choose a token for.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_derives_the_same_and_others_do_not() {
        let secret = Secret::new("s");
        let owner = AccessKeyId::from_bytes([1; 16]);
        let other = AccessKeyId::from_bytes([2; 16]);
        let id = secret.derive_id("file", owner, "k");
        assert_eq!(id, Secret::new("s").derive_id("file", owner, "k"));
        assert_ne!(id, secret.derive_id("file", other, "k"));
        assert_ne!(id, secret.derive_id("token", owner, "k"));
        assert_ne!(id, Secret::new("t").derive_id("file", owner, "k"));
        assert_ne!(
            secret.derive("p", &[b"ab", b"c"]),
            secret.derive("p", &[b"a", b"bc"])
        );
    }
}
