//! A value made of files, and made again when they change.
//!
//! Kubernetes swaps a directory of links, so contents are compared, not names
//! or times. Files that are being written when they are read are read again
//! the next time.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The largest file that is read: a hundred certificates, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a part of the value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file that must be there.
    File(PathBuf),
    /// A file that may be missing.
    Optional(PathBuf),
    /// A setting, which does not change while the process runs.
    Given(Vec<u8>),
}

/// What the sources hold, in their order; nothing where a file is missing that may be.
pub type Contents = Vec<Option<Vec<u8>>>;

type Make<T> = Box<dyn Fn(&Contents) -> Result<T, String> + Send + Sync>;

/// A value that follows its sources.
pub struct Watched<T> {
    /// What it is, in logs and metrics.
    what: &'static str,
    sources: Vec<Source>,
    make: Make<T>,
    /// What was found last, whether it could be used or not.
    seen: Mutex<Result<Contents, String>>,
    /// Never held while anything else is done.
    now: RwLock<Arc<T>>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watched({})", self.what)
    }
}

impl<T> Watched<T> {
    /// Reads the sources for the first time.
    ///
    /// # Errors
    /// What is wrong with them; no content of theirs.
    pub fn open(
        what: &'static str,
        sources: Vec<Source>,
        make: impl Fn(&Contents) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read(&sources)?;
        let value = make(&contents)?;
        Ok(Self {
            what,
            sources,
            make: Box::new(make),
            seen: Mutex::new(Ok(contents)),
            now: RwLock::new(Arc::new(value)),
        })
    }

    /// One that never changes by itself.
    pub fn fixed(what: &'static str, value: T) -> Self {
        Self {
            what,
            sources: Vec::new(),
            make: Box::new(|_| Err("it has no sources".into())),
            seen: Mutex::new(Ok(Vec::new())),
            now: RwLock::new(Arc::new(value)),
        }
    }

    /// What is in use.
    pub fn now(&self) -> Arc<T> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// Looks at the sources, and takes what they hold if it is new and can be
    /// used. Says so, and counts it, when it cannot. Blocks on the disk.
    pub fn look(&self) {
        let found = read(&self.sources);
        let mut seen = held(&self.seen);
        if found == *seen || read(&self.sources) != found {
            return;
        }
        let made = found.clone().and_then(|contents| (self.make)(&contents));
        *seen = found;
        match made {
            Ok(value) => {
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(what = self.what, "what has changed is in use");
            }
            Err(reason) => {
                tracing::warn!(
                    what = self.what,
                    reason,
                    "what has changed cannot be used: what was there stays in use"
                );
                let what = self.what;
                metrics::counter!("holdfast_tls_reload_failures_total", "use" => what).increment(1);
            }
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(sources: &[Source]) -> Result<Contents, String> {
    sources
        .iter()
        .map(|source| match source {
            Source::Given(value) => Ok(Some(value.clone())),
            Source::File(path) => match read_file(path) {
                Ok(content) => Ok(Some(content)),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
            Source::Optional(path) => match read_file(path) {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        })
        .collect()
}

fn read_file(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut file = File::open(path)?.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn number(contents: &Contents) -> Result<u32, String> {
        let text = contents[0].as_deref().unwrap_or(b"0");
        let text = str::from_utf8(text).unwrap();
        text.parse().map_err(|_| "no number".to_owned())
    }

    #[test]
    fn what_cannot_be_used_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        fs::write(&file, "1").unwrap();
        let watched = Watched::open("test", vec![Source::File(file.clone())], number).unwrap();
        let after = |content: &str| {
            fs::write(&file, content).unwrap();
            watched.look();
            *watched.now()
        };
        assert_eq!(after("2"), 2);
        assert_eq!(after("x"), 2);
        fs::remove_file(&file).unwrap();
        watched.look();
        assert_eq!(*watched.now(), 2);
        assert_eq!(after("3"), 3);
    }

    /// As Kubernetes exchanges what a Secret's volume shows.
    #[test]
    fn an_exchanged_link_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for (version, content) in [("..1", "1"), ("..2", "2")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("n"), content).unwrap();
        }
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/n", dir.path().join("n")).unwrap();
        let source = Source::File(dir.path().join("n"));
        let watched = Watched::open("test", vec![source], number).unwrap();
        symlink("..2", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        watched.look();
        assert_eq!(*watched.now(), 2);
    }

    #[test]
    fn a_missing_file_is_none_where_it_may_be_and_refused_where_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        assert!(Watched::open("test", vec![Source::File(path.clone())], number).is_err());
        let watched = Watched::open("test", vec![Source::Optional(path.clone())], number).unwrap();
        assert_eq!(*watched.now(), 0);
        fs::write(&path, "7").unwrap();
        watched.look();
        assert_eq!(*watched.now(), 7);
        fs::remove_file(&path).unwrap();
        watched.look();
        assert_eq!(*watched.now(), 0);
    }
}
