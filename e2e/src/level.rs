//! How much of a suite runs.

/// How much of a suite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Level {
    /// What each change must pass.
    Core,
    /// All of it.
    Full,
}
