//! Passwords of files: argon2id, 19 MiB each, eight at once, and few tries a
//! file.
//!
//! A password that was right is remembered for a while as a keyed hash in this
//! process alone, so that the ranges of one download do not each cost 19 MiB
//! and a try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use holdfast_cache::{Allowance, Cache, Rate};
use holdfast_runtime::clock::within;
use holdfast_runtime::{Env, TasksExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Memory of one hash in KiB: OWASP's first choice for argon2id is 19 MiB, t=2, p=1.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// Hashes made at once: 152 MiB.
const MAX_AT_ONCE: usize = 8;
/// Tries at a file's password: ten a minute, ten at once.
const TRIES: Rate = Rate {
    per_second: 10.0 / 60.0,
    burst: 10,
};
/// The longest password, in bytes: more only costs time.
pub const MAX_PASSWORD_BYTES: usize = 1_024;
/// Passwords that were right, remembered at most.
const MAX_REMEMBERED: usize = 1_024;
/// For how long.
const REMEMBER: Duration = Duration::from_secs(5 * 60);
/// How long a new file's password waits for its turn.
const HASH_WAIT: Duration = Duration::from_secs(30);
/// When to come again while others are being hashed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes and checks hashes of passwords.
pub struct Passwords {
    env: Env,
    cache: Arc<dyn Cache>,
    at_once: Arc<Semaphore>,
    /// Keyed hashes of (stored hash, password), with the time they are good
    /// until. A lock, since it is held for a look-up only.
    right: Mutex<BTreeMap<[u8; 32], Duration>>,
    key: [u8; 32],
}

impl Passwords {
    /// Nothing is remembered yet.
    pub fn new(env: Env, cache: Arc<dyn Cache>) -> Self {
        let mut key = [0; 32];
        env.entropy.fill(&mut key);
        Self {
            env,
            cache,
            at_once: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            right: Mutex::new(BTreeMap::new()),
            key,
        }
    }

    /// The hash of a new password, in PHC form.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        check_length(password)?;
        let mut salt = [0; SALT_BYTES];
        self.env.entropy.fill(&mut salt);
        // An upload that has come whole waits its turn; it is not sent away.
        let turn = self.at_once.clone().acquire_owned();
        let permit = within(self.env.clock.as_ref(), HASH_WAIT, turn)
            .await
            .and_then(Result::ok)
            .ok_or(ApiError::Busy)?;
        let hash = self.run(permit, password, salt.to_vec()).await?;
        Ok(to_phc(&salt, &hash))
    }

    /// Checks a password against a file's stored hash.
    ///
    /// # Errors
    /// [`ApiError::WrongPassword`], or that no more tries are taken now.
    pub async fn verify(&self, file: &str, stored: &str, password: &str) -> Result<(), ApiError> {
        check_length(password)?;
        let memory = self.remembered_as(stored, password);
        if self.remembers(&memory) {
            return Ok(());
        }
        let bucket = format!("password:{file}");
        if let Allowance::Refused { retry_after } = self.cache.allow(&bucket, TRIES).await {
            return Err(ApiError::TooManyPasswords { retry_after });
        }
        let (salt, expected) = from_phc(stored)
            .ok_or_else(|| ApiError::Internal("a stored password hash cannot be read".into()))?;
        let permit =
            self.at_once
                .clone()
                .try_acquire_owned()
                .map_err(|_| ApiError::TooManyPasswords {
                    retry_after: RETRY_AFTER,
                })?;
        let hash = self.run(permit, password, salt).await?;
        if !same(&hash, &expected) {
            return Err(ApiError::WrongPassword);
        }
        self.remember(memory);
        Ok(())
    }

    async fn run(
        &self,
        permit: OwnedSemaphorePermit,
        password: &str,
        salt: Vec<u8>,
    ) -> Result<[u8; HASH_BYTES], ApiError> {
        let password = password.to_owned();
        let work = move || {
            // Held until the memory is free, also when the client has gone.
            let _permit = permit;
            argon2id(password.as_bytes(), &salt)
        };
        self.env
            .tasks
            .blocking(work)
            .await
            .ok_or(ApiError::Busy)?
            .map_err(|error| ApiError::Internal(format!("argon2: {error}")))
    }

    fn remembered_as(&self, stored: &str, password: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.key)
            .chain_update((stored.len() as u64).to_be_bytes())
            .chain_update(stored)
            .chain_update(password)
            .finalize()
            .into()
    }

    fn remembers(&self, memory: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right
            .get(memory)
            .is_some_and(|until| *until > self.env.clock.monotonic())
    }

    fn remember(&self, memory: [u8; 32]) {
        let now = self.env.clock.monotonic();
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MAX_REMEMBERED {
            right.retain(|_, until| *until > now);
        }
        if right.len() >= MAX_REMEMBERED {
            right.pop_first();
        }
        right.insert(memory, now + REMEMBER);
    }
}

fn check_length(password: &str) -> Result<(), ApiError> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(ApiError::BadParameter(format!(
            "a password has at most {MAX_PASSWORD_BYTES} bytes"
        )));
    }
    Ok(())
}

fn argon2id(password: &[u8], salt: &[u8]) -> Result<[u8; HASH_BYTES], argon2::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES))?;
    let mut hash = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut hash)?;
    Ok(hash)
}

/// What every stored hash begins with. Its parameters are part of it: a hash
/// of others is not read, so nobody can store one that costs gigabytes.
fn phc_head() -> String {
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$")
}

fn to_phc(salt: &[u8], hash: &[u8]) -> String {
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("{}{salt}${hash}", phc_head())
}

fn from_phc(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (salt, hash) = text.strip_prefix(&phc_head())?.split_once('$')?;
    let salt = STANDARD_NO_PAD.decode(salt).ok()?;
    let hash = STANDARD_NO_PAD.decode(hash).ok()?;
    (salt.len() == SALT_BYTES && hash.len() == HASH_BYTES).then_some((salt, hash))
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_and_tells_passwords_apart() {
        let salt = [7; SALT_BYTES];
        let hash = argon2id(b"correct horse", &salt).unwrap();
        let phc = to_phc(&salt, &hash);
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let (salt, expected) = from_phc(&phc).unwrap();
        assert!(same(&argon2id(b"correct horse", &salt).unwrap(), &expected));
        assert!(!same(&argon2id(b"wrong horse", &salt).unwrap(), &expected));
    }

    #[test]
    fn a_hash_with_other_costs_is_not_read() {
        let phc = to_phc(&[7; SALT_BYTES], &[8; HASH_BYTES]);
        assert!(from_phc(&phc).is_some());
        assert!(from_phc(&phc.replace("m=19456", "m=4194304")).is_none());
        assert!(from_phc("").is_none());
    }
}
