//! Why a reconcile did not come to its end.

/// Why a reconcile did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server did not answer, or refused.
    #[error("{attempted}: {source}")]
    Api {
        /// What was attempted.
        attempted: String,
        /// What came of it.
        source: Box<kube::Error>,
    },
    /// The right to do something is missing.
    #[error(
        "{attempted}: {message}; the operator's ClusterRole lacks a right: upgrade its chart together with it"
    )]
    Forbidden {
        /// What was attempted.
        attempted: String,
        /// What the API server says.
        message: String,
    },
    /// The API server refuses what the operator may do: a quota, an admission
    /// policy, a namespace that is going.
    #[error("{attempted}: Kubernetes refuses it: {message}")]
    Denied {
        /// What was attempted.
        attempted: String,
        /// What the API server says.
        message: String,
    },
    /// A resource is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// The client for the cluster's nodes cannot be made.
    #[error("a client for the storage nodes: {0}")]
    Transport(String),
}

impl OperatorError {
    /// Whether it will be the same when it is tried again: a person must do
    /// something.
    pub fn lasts(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }

    /// A label for metrics, and a reason for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { .. } => "ApiServer",
            Self::Forbidden { .. } => "Forbidden",
            Self::Denied { .. } => "Denied",
            Self::Malformed(_) => "Malformed",
            Self::Transport(_) => "Transport",
        }
    }
}

/// Says what was attempted when the API server did not do it.
pub trait Attempt<T> {
    /// Adds it.
    ///
    /// # Errors
    /// The same, with what was attempted.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, OperatorError>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, OperatorError> {
        self.map_err(|source| match source {
            kube::Error::Api(status) if status.code == 403 => {
                let (attempted, message) = (what(), status.message.clone());
                match is_about_rights(&message) {
                    true => OperatorError::Forbidden { attempted, message },
                    false => OperatorError::Denied { attempted, message },
                }
            }
            source => OperatorError::Api {
                attempted: what(),
                source: Box::new(source),
            },
        })
    }
}

/// Whether a 403 says that a right is missing. Quotas, admission and a namespace
/// that is going answer with the same code; only the authorizer names the verb
/// and the kind: `User "..." cannot patch resource "statefulsets" in API group`.
fn is_about_rights(message: &str) -> bool {
    message.contains("\" cannot ") && message.contains(" resource \"")
}

/// Why the API server refuses an object or a change for what it says: 422, a
/// quota, an admission policy. Trying again comes to the same until somebody
/// changes something.
pub fn refusal(error: &OperatorError) -> Option<(&'static str, String)> {
    match error {
        OperatorError::Denied { message, .. } => Some((error.reason(), message.clone())),
        OperatorError::Api { source, .. } => match source.as_ref() {
            kube::Error::Api(status) if status.code == 422 => {
                Some(("Refused", status.message.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether something has changed since it was read.
pub fn is_late(error: &OperatorError) -> bool {
    matches!(error, OperatorError::Api { source, .. } if is_conflict(source))
}

/// Whether the API server says that there is no such thing.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API server says that it has changed meanwhile.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> OperatorError {
        let status = Status {
            code,
            message: message.into(),
            ..Status::default()
        };
        let result: Result<(), _> = Err(kube::Error::Api(status.boxed()));
        result.attempt(|| "applying".into()).unwrap_err()
    }

    #[test]
    fn a_quota_is_told_as_one_and_not_as_a_missing_right() {
        let rights = r#"statefulsets.apps "demo-node" is forbidden: User "system:serviceaccount:holdfast-system:holdfast-operator" cannot patch resource "statefulsets" in API group "apps" in the namespace "files""#;
        let missing = answered(403, rights);
        assert!(matches!(missing, OperatorError::Forbidden { .. }));
        assert_eq!(refusal(&missing), None);
        for message in [
            r#"services "demo-gateway" is forbidden: exceeded quota: small, requested: services=1, used: services=5, limited: services=5"#,
            r#"admission webhook "policy.example.com" denied the request: no StatefulSets on Sundays"#,
            r#"secrets "demo-admin" is forbidden: unable to create new content in namespace files because it is being terminated"#,
        ] {
            let denied = answered(403, message);
            assert!(!denied.to_string().contains("ClusterRole"), "{denied}");
            assert_eq!(refusal(&denied), Some(("Denied", message.into())));
            assert!(denied.lasts());
        }
        let unprocessable = answered(422, "spec: field is immutable");
        assert_eq!(refusal(&unprocessable).map(|one| one.0), Some("Refused"));
        assert_eq!(refusal(&answered(500, "later")), None);
    }
}
