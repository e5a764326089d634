//! Who may: `Authorization: Bearer` and nothing else.
//!
//! A request that shows any credential is checked, on every route, also where
//! none is needed: a wrong one is refused and never ignored.

use axum::http::{HeaderMap, header};
use holdfast_model::{AccessKeyId, ClusterState, Role};

use crate::error::ApiError;
use crate::secret::token_hash;

/// The longest token taken, in bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// Who is calling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The access key.
    pub id: AccessKeyId,
    /// What it may do.
    pub role: Role,
}

impl Caller {
    /// Whether the caller may see and delete what that owner has.
    pub fn may_see(&self, owner: AccessKeyId) -> bool {
        self.role == Role::Admin || self.id == owner
    }
}

/// The token of the request, if it shows one.
pub fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::UnknownScheme);
    }
    let text = value.to_str().map_err(|_| ApiError::UnknownScheme)?;
    let (scheme, token) = text.split_once(' ').ok_or(ApiError::UnknownScheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::UnknownScheme);
    }
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(ApiError::UnknownCredential);
    }
    Ok(Some(token))
}

/// Who that token belongs to.
pub fn identify(state: &ClusterState, token: &str) -> Result<Caller, ApiError> {
    // Found by the hash of a token with at least 128 random bits: what the
    // time of the comparison tells is of no use (see `secret::token_hash`).
    let key = state
        .access_key(&token_hash(token))
        .ok_or(ApiError::UnknownCredential)?;
    Ok(Caller {
        id: key.id,
        role: key.role,
    })
}

/// The caller, who must be one.
pub fn need_caller(caller: Option<Caller>) -> Result<Caller, ApiError> {
    caller.ok_or(ApiError::MissingCredential)
}

/// The caller, who must be an admin.
pub fn need_admin(caller: Option<Caller>) -> Result<Caller, ApiError> {
    match need_caller(caller)? {
        admin if admin.role == Role::Admin => Ok(admin),
        _ => Err(ApiError::NotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(values: &[&str]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        bearer_token(&headers)
            .map(|token| token.map(str::to_owned))
            .map_err(|error| error.row().code)
    }

    #[test]
    fn only_one_bearer_token_is_taken() {
        assert_eq!(token_of(&[]), Ok(None));
        assert_eq!(token_of(&["Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(token_of(&["bearer abc"]), Ok(Some("abc".into())));
        for bad in [
            "Basic YTpi",
            "Digest x",
            "abc",
            "Bearer",
            "AWS4-HMAC-SHA256 x",
        ] {
            assert_eq!(token_of(&[bad]), Err("unknown_scheme"), "{bad}");
        }
        assert_eq!(token_of(&["Bearer "]), Err("unknown_credential"));
        assert_eq!(token_of(&["Bearer a", "Bearer b"]), Err("unknown_scheme"));
    }

    #[test]
    fn a_user_is_no_admin() {
        let user = Caller {
            id: AccessKeyId::from_bytes([1; 16]),
            role: Role::User,
        };
        assert!(need_admin(Some(user)).is_err());
        assert!(need_admin(None).is_err());
        assert!(!user.may_see(AccessKeyId::from_bytes([2; 16])));
        assert!(user.may_see(user.id));
    }
}
