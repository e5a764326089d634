//! The address of a server that is not ours (RabbitMQ, Redis), with the name
//! and the password to show there. A password in the shared directory is
//! followed while the process runs, so that it can be exchanged: the server
//! takes the new one beside the old one before any process shows it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::credential::fingerprint;
use crate::host::tls::watched::{Contents, Source, Watched};

/// An address with what is shown there, as it is at the time. Copies are the same.
#[derive(Clone)]
pub struct ServerUrl(Arc<Watched<Shown>>);

struct Shown {
    url: Arc<str>,
    fingerprint: Option<String>,
}

/// A password in files, for an address that has none.
#[derive(Clone, Debug)]
pub struct LoginFiles {
    /// Who shows it, where neither the address nor a file says.
    pub user: &'static str,
    /// The file with the name of who shows it; it may be missing.
    pub user_file: Option<PathBuf>,
    /// The file with the password.
    pub password_file: PathBuf,
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerUrl(..)")
    }
}

impl ServerUrl {
    /// One that does not change.
    pub fn fixed(url: &str) -> Self {
        let shown = Shown {
            url: url.into(),
            fingerprint: None,
        };
        Self(Arc::new(Watched::fixed("server", shown)))
    }

    /// The address `url` with a password from files, called `what` in logs.
    ///
    /// # Errors
    /// What is wrong with the files; no content of theirs.
    pub fn follow(what: &'static str, url: &str, login: LoginFiles) -> Result<Self, String> {
        let LoginFiles {
            user,
            user_file,
            password_file,
        } = login;
        let mut sources = vec![Source::File(password_file)];
        sources.extend(user_file.map(Source::Optional));
        let url = url.to_owned();
        let make = move |contents: &Contents| {
            let mut texts = contents.iter().map(|content| {
                let text = str::from_utf8(content.as_deref().unwrap_or_default());
                text.map(str::trim).map_err(|_| "it is no text".to_owned())
            });
            let password = texts.next().transpose()?.unwrap_or_default();
            if password.is_empty() {
                return Err("the password is empty".into());
            }
            let named = texts.next().transpose()?.filter(|name| !name.is_empty());
            let bare = match named {
                Some(_) => without_user(&url),
                None => url.clone(),
            };
            Ok(Shown {
                url: with_password(&bare, named.unwrap_or(user), Some(password)).into(),
                fingerprint: Some(fingerprint(password)),
            })
        };
        Ok(Self(Arc::new(Watched::open(what, sources, make)?)))
    }

    /// The address as it is now.
    pub fn now(&self) -> Arc<str> {
        self.0.now().url.clone()
    }

    /// The beginning of the SHA-256 of the password, where it is followed.
    pub fn fingerprint(&self) -> Option<String> {
        self.0.now().fingerprint.clone()
    }

    /// Looks whether it has changed. Blocks on the disk.
    pub fn look(&self) {
        self.0.look();
    }
}

/// Whether an address names a password itself.
pub fn has_password(url: &str) -> bool {
    let (_, user, _) = parts(url);
    user.and_then(|user| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty())
}

/// Puts a password into an address that has none, and `user` where it names
/// nobody. One that has a password keeps it.
pub fn with_password(url: &str, user: &str, password: Option<&str>) -> String {
    let (Some(password), Some((scheme, _))) = (password, url.split_once("://")) else {
        return url.to_owned();
    };
    if has_password(url) {
        return url.to_owned();
    }
    let (_, named, behind) = parts(url);
    let user = named.map_or(user, |named| named.trim_end_matches(':'));
    let password = percent_encoded(password);
    format!("{scheme}://{user}:{password}@{behind}")
}

fn without_user(url: &str) -> String {
    let (scheme, _, behind) = parts(url);
    format!("{scheme}{behind}")
}

/// The scheme with what follows it; who is named before the host; the rest.
fn parts(url: &str) -> (&str, Option<&str>, &str) {
    let begin = url.find("://").map_or(0, |place| place + 3);
    let (scheme, rest) = url.split_at(begin);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => {
            let (user, behind) = rest.split_at(at);
            (scheme, Some(user), behind.get(1..).unwrap_or_default())
        }
        None => (scheme, None, rest),
    }
}

/// RFC 3986: all but unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files are the test's own")]
mod tests {
    use super::*;

    #[test]
    fn who_comes_with_a_password_is_followed_and_what_cannot_be_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (password, user) = (dir.path().join("password"), dir.path().join("user"));
        std::fs::write(&password, "old\n").unwrap();
        let login = LoginFiles {
            user: "holdfast",
            user_file: Some(user.clone()),
            password_file: password.clone(),
        };
        let url = ServerUrl::follow("queue", "amqps://holdfast@mq:5671/%2f", login).unwrap();
        assert_eq!(&*url.now(), "amqps://holdfast:old@mq:5671/%2f");
        let first = url.fingerprint().unwrap();
        std::fs::write(&password, "n/w").unwrap();
        std::fs::write(&user, "holdfast-2\n").unwrap();
        url.look();
        assert_eq!(&*url.now(), "amqps://holdfast-2:n%2Fw@mq:5671/%2f");
        assert_ne!(url.fingerprint().unwrap(), first);
        std::fs::write(&password, "").unwrap();
        url.look();
        assert_eq!(&*url.now(), "amqps://holdfast-2:n%2Fw@mq:5671/%2f");
        let shown = format!("{url:?}");
        assert!(!shown.contains("n/w") && !shown.contains("mq"), "{shown}");
    }

    #[test]
    fn an_address_may_have_a_password_of_its_own() {
        for (url, has) in [
            ("redis://h", false),
            ("redis://u@h/x:y@z", false),
            ("redis://u:@h", false),
            ("redis://:p@h", true),
            ("amqp://u:p@h:1/%2f", true),
            ("nonsense", false),
        ] {
            assert_eq!(has_password(url), has, "{url}");
        }
        assert_eq!(without_user("amqp://u@h:1/a@b"), "amqp://h:1/a@b");
    }

    #[test]
    fn a_shared_password_goes_where_there_is_none() {
        let with = |url| with_password(url, "holdfast", Some("pw"));
        for (given, made) in [
            ("amqp://mq:5672/%2f", "amqp://holdfast:pw@mq:5672/%2f"),
            ("amqp://me@h", "amqp://me:pw@h"),
            ("amqp://me@h:1/%2f", "amqp://me:pw@h:1/%2f"),
            ("amqp://me:@h", "amqp://me:pw@h"),
            ("amqp://h", "amqp://holdfast:pw@h"),
            ("amqp://h/a@b:c", "amqp://holdfast:pw@h/a@b:c"),
            ("amqp://h?x=a@b:c", "amqp://holdfast:pw@h?x=a@b:c"),
            ("amqp://[::1]:5672", "amqp://holdfast:pw@[::1]:5672"),
            ("amqp://me:own@h/%2f", "amqp://me:own@h/%2f"),
            ("no address", "no address"),
        ] {
            assert_eq!(with(given), made);
        }
        let redis = |url, password| with_password(url, "", password);
        assert_eq!(redis("redis://c:6379", Some("pw")), "redis://:pw@c:6379");
        assert_eq!(redis("redis://:own@c", Some("pw")), "redis://:own@c");
        assert_eq!(
            redis("redis://c", Some("p@/:é")),
            "redis://:p%40%2F%3A%C3%A9@c"
        );
        assert_eq!(redis("redis://c", None), "redis://c");
        assert_eq!(
            with_password("amqp://me@h", "holdfast", None),
            "amqp://me@h"
        );
    }
}
