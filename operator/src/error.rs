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
            kube::Error::Api(status) if status.code == 403 => OperatorError::Forbidden {
                attempted: what(),
                message: status.message.clone(),
            },
            source => OperatorError::Api {
                attempted: what(),
                source: Box::new(source),
            },
        })
    }
}

/// Whether the API server says that there is no such thing.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API server says that it has changed meanwhile.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
