//! A directory of the machine's file system.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::disk::{Disk, File, Space};

mod buffers;

use buffers::Buffers;

/// A directory of the machine's file system, with an exclusive lock on it for
/// as long as this value lives.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    buffers: Arc<Buffers>,
    _lock: fs::File,
}

impl Directory {
    /// Opens or makes the directory and locks it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds the lock.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        if let Some(above) = root.parent() {
            let above = if above.as_os_str().is_empty() {
                Path::new(".")
            } else {
                above
            };
            fs::File::open(above)?.sync_all()?;
        }
        Ok(Self {
            root,
            buffers: Arc::default(),
            _lock: lock,
        })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if name.is_empty() || name.split('/').all(plain) {
            return Ok(self.root.join(name));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is no plain name"),
        ))
    }
}

impl Disk for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(name)?)?;
        Ok(Arc::new(HostFile {
            file,
            buffers: self.buffers.clone(),
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(name)?)?;
        Ok(Arc::new(HostFile {
            file,
            buffers: self.buffers.clone(),
        }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut made = String::new();
        for part in name.split('/') {
            let above = made.clone();
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(part);
            match fs::create_dir(self.path(&made)?) {
                Ok(()) => self.sync_dir(&above)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(dir)?)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.path(dir)?)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            free: stat.f_bavail * stat.f_frsize,
            total: stat.f_blocks * stat.f_frsize,
        })
    }
}

#[derive(Debug)]
struct HostFile {
    file: fs::File,
    buffers: Arc<Buffers>,
}

impl File for HostFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        if Buffers::fit(len) {
            let read = |room: &mut [u8]| self.file.read_exact_at(room, offset);
            return self.buffers.filled(len, read);
        }
        // Into memory that nobody has cleared first.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more than was asked for.
        bytes.truncate(len);
        Ok(bytes.into())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            &self.file,
            FallocateFlags::empty(),
            offset,
            len,
        )?)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, offset, len)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_file, replace_file};

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        assert_eq!(
            Directory::open(dir.path()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn bytes_are_read_where_they_are_and_not_past_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let file = disk.create("file").unwrap();
        file.write_all_at(&[7; 100], 50).unwrap();
        assert_eq!(file.read_at(0, 150).unwrap().len(), 150);
        assert_eq!(file.read_at(49, 3).unwrap().as_ref(), [0, 7, 7]);
        assert!(file.read_at(150, 0).unwrap().is_empty());
        let past = file.read_at(149, 2).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn names_stay_inside_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        for bad in ["../x", "/etc/passwd", "a//b", "a/../../b"] {
            assert!(disk.create(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_replaced_file_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        disk.create_dir("a/b").unwrap();
        assert!(read_file(&disk, "a/b/c").unwrap().is_none());
        replace_file(&disk, "a/b/c", b"one").unwrap();
        replace_file(&disk, "a/b/c", b"two").unwrap();
        assert_eq!(read_file(&disk, "a/b/c").unwrap().unwrap(), &b"two"[..]);
    }
}
