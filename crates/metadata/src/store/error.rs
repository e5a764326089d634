//! Why the store did not do what was asked.

use std::io;

/// Why the store did not do what was asked. After any of these the store is
/// not to be used again: what a failed write left behind is unknown.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened or made.
    #[error("opening the state store {name}")]
    OpenFile {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds no usable store.
    #[error("reading the state store {name}")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A transaction could not be begun.
    #[error("beginning a transaction of the state store")]
    Begin(#[source] Box<redb::Error>),
    /// A row could not be read.
    #[error("reading rows of the state store")]
    Read(#[source] Box<redb::Error>),
    /// A row could not be written.
    #[error("writing rows of the state store")]
    Write(#[source] Box<redb::Error>),
    /// The outcome of the commit is unknown.
    #[error("committing to the state store")]
    Commit(#[source] Box<redb::Error>),
    /// Rows could not be moved to the front of the file.
    #[error("compacting the state store")]
    Compact(#[source] Box<redb::CompactionError>),
    /// The file does not tell its length.
    #[error("asking for the length of the state store")]
    Length(#[source] io::Error),
    /// A row is not what was written.
    #[error("a row of the state store makes no sense: {0}")]
    Corrupt(String),
}

pub(super) fn begin_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Begin(Box::new(error.into()))
}

pub(super) fn read_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Read(Box::new(error.into()))
}

pub(super) fn write_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Write(Box::new(error.into()))
}

pub(super) fn commit_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Commit(Box::new(error.into()))
}
