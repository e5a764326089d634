//! Buffers of long reads, used again. A buffer of this size that is made for
//! each read costs more than the read: the allocator gives its pages back to
//! the system, which clears them again one by one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The longest read that gets one: a stripe of a fragment.
const BUFFER_BYTES: usize = 256 << 10;
/// Shorter reads are left to the allocator, which keeps such pieces.
const READ_AT_LEAST: usize = 64 << 10;
/// Buffers kept while nobody reads: 4 MiB.
const MAX_IDLE: usize = 16;

/// The buffers of a disk. How many there are at a time is bounded by who reads.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Each of [`BUFFER_BYTES`].
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A buffer with something in it; goes back when the last reference does.
struct Filled {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut idle = self.home.idle();
        if idle.len() < MAX_IDLE {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    fn idle(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a read of so many bytes gets a buffer.
    pub(super) fn fit(len: usize) -> bool {
        (READ_AT_LEAST..=BUFFER_BYTES).contains(&len)
    }

    /// `len` bytes, which `read` fills.
    pub(super) fn filled(
        self: &Arc<Self>,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        let kept = self.idle().pop();
        let mut filled = Filled {
            bytes: kept.unwrap_or_else(|| vec![0; BUFFER_BYTES]),
            len,
            home: self.clone(),
        };
        let room = filled.bytes.get_mut(..len);
        read(room.ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(Bytes::from_owner(filled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_holds_a_part_of_it_and_few_are_kept() {
        let buffers = Arc::new(Buffers::default());
        let read = |byte| {
            let filled = buffers.filled(100_000, |room| {
                room.fill(byte);
                Ok(())
            });
            filled.unwrap()
        };
        let mut first = read(1);
        let part = first.split_to(10);
        drop(first);
        assert_eq!(buffers.idle().len(), 0);
        let second = read(2);
        assert_eq!(part.as_ref(), [1; 10]);
        drop(part);
        assert_eq!(buffers.idle().len(), 1);
        drop(second);
        let many: Vec<Bytes> = (0..40).map(read).collect();
        assert_eq!(buffers.idle().len(), 0);
        for (byte, bytes) in (0..).zip(&many) {
            assert_eq!(bytes.len(), 100_000);
            assert!(bytes.iter().all(|found| *found == byte));
        }
        drop(many);
        assert_eq!(buffers.idle().len(), MAX_IDLE);
        let failed = buffers.filled(100_000, |_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert_eq!(buffers.idle().len(), MAX_IDLE);
    }
}
