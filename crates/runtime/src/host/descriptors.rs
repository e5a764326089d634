//! How many files and sockets this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit on open files as far as it may be raised without further
/// rights, and returns it; `None` where there is none. Shells and service
/// managers start with 1,024 for the sake of programs that still use `select`.
///
/// # Errors
/// When the system refuses; the limit then stays as it was.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(limit.maximum)
}

/// The limit as it is; `None` where there is none.
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let allowed = raise_descriptor_limit().unwrap();
        assert_eq!(descriptor_limit(), allowed);
    }
}
