//! Why a command failed, its exit code, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A failure. The exit codes are part of the command's interface.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The transfer broke, again and again.
    #[error("the transfer broke: {0}")]
    Broken(String),
    /// The gateway refused, with a problem document.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// The sentence.
        detail: String,
    },
    /// There is no key.
    #[error("this needs an access key, and there is none in {}", tried.join(" or in "))]
    NoKey {
        /// Where it was looked for.
        tried: Vec<String>,
    },
    /// A file of this machine.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file would be replaced.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The answer is not one.
    #[error("the answer of {url} cannot be understood: {reason}")]
    Malformed {
        /// Whose.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Unhealthy.
    #[error("{0}")]
    Unhealthy(String),
    /// The cluster in this process cannot run; the sentence says what to change.
    #[error("{0}")]
    Dev(String),
    /// A backup was not restored; the sentence says why.
    #[error("{0}")]
    Restore(String),
    /// A resource means nothing; each line says what to change.
    #[error("{}: {}", path.display(), sentences.join("\n  "))]
    Resource {
        /// The file it is in.
        path: PathBuf,
        /// What to change.
        sentences: Vec<String>,
    },
    /// Some of several things failed; each was told.
    #[error("{failed} of {all} failed")]
    Some {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
    },
}

impl Failure {
    /// 1 failed, 2 used wrongly, 3 not reached, 4 not allowed, 5 not there, 6 come again later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Exists(_) => 2,
            Self::Unreachable { .. } | Self::Broken(_) => 3,
            Self::NoKey { .. } => 4,
            Self::Refused { status, .. } => match status {
                400..=400 | 413 | 415 | 422 => 2,
                401 | 403 => 4,
                404 | 410 => 5,
                429 | 503 => 6,
                _ => 1,
            },
            _ => 1,
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => {
                "Is it running? `holdfast dev` starts one here; --url or HOLDFAST_URL names another."
            }
            Self::Broken(_) => "Run the same command again: it goes on where it stopped.",
            Self::NoKey { .. } => {
                "Give it with --key or HOLDFAST_KEY; `docker compose exec gateway holdfast key` prints it."
            }
            Self::Exists(_) => "Name another one; `holdfast get` replaces it with --force.",
            Self::Refused { status, code, .. } => match (*status, code.as_str()) {
                (_, "password_needed" | "wrong_password") => {
                    "Give the file's password with --password or HOLDFAST_PASSWORD."
                }
                (_, "ticket_ended") => {
                    "Delete the .part file to begin anew; that counts as another download."
                }
                (_, "too_many_passwords") => {
                    "Wait as long as it says: the file takes no password until then."
                }
                (_, "wrong_delete_token") => {
                    "Give the token that the upload answered with --delete-token, or use the key of the file's owner."
                }
                (_, "outcome_unknown") => {
                    "It may have been done: look with `holdfast ls` before doing it again."
                }
                (401, _) => "Give another key with --key or HOLDFAST_KEY.",
                (403, _) => "Use the key of the file's owner, or an admin key.",
                (_, "no_such_node") => "`holdfast admin nodes` shows the nodes and their ids.",
                (_, "no_such_access_key") => "`holdfast admin keys ls` shows the access keys.",
                (404, _) => "`holdfast ls` shows the files that this key sees.",
                (429 | 503, _) => "Try again in a moment; `holdfast status` shows what is wrong.",
                (507, _) => "The disks are full: delete files, or add a storage node.",
                _ => return None,
            },
            _ => return None,
        })
    }

    /// For `map_err` on calls about a file.
    pub fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

#[cfg(test)]
mod tests {
    /// The codes that the gateway can answer, as its table has them.
    const GATEWAY: &str = include_str!("../../services/gateway/src/error/table.rs");
    const GUIDE: &str = include_str!("../../docs/guide.md");
    const OWN: &str = include_str!("failure.rs");

    fn assert_known(code: &str, place: &str) {
        let table = GATEWAY.split("#[cfg(test)]").next().unwrap();
        let row = format!("\"{code}\",");
        assert!(
            table.contains(&row),
            "{place} names {code}, which is never answered"
        );
    }

    /// Every second part of what quotes cut a text into.
    fn quoted(text: &str, quote: char) -> impl Iterator<Item = &str> {
        let is_code = |part: &&str| part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        text.split(quote).skip(1).step_by(2).filter(is_code)
    }

    #[test]
    fn every_code_with_advice_is_one_that_the_gateway_answers() {
        let arms = OWN.split("code.as_str()) {").nth(1).unwrap();
        let arms = arms.split("return None").next().unwrap();
        let codes: Vec<&str> = quoted(arms, '"').collect();
        assert!(codes.contains(&"wrong_password"), "{codes:?}");
        codes
            .iter()
            .for_each(|code| assert_known(code, "failure.rs"));
    }

    #[test]
    fn every_code_in_the_guide_is_one_that_the_gateway_answers() {
        let table = GUIDE.split("## Errors worth handling").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let mut count = 0;
        for row in table.lines().filter(|line| line.starts_with("| ")) {
            for code in row
                .split('|')
                .nth(2)
                .into_iter()
                .flat_map(|cell| quoted(cell, '`'))
            {
                assert_known(code, "the guide");
                count += 1;
            }
        }
        assert!(count > 10, "{count} codes were found");
    }
}
