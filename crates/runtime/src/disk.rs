//! Disks: a directory of files, with the calls that durability needs and no
//! others.
//!
//! The calls block; async code runs them through [`crate::Tasks`]. A name is a
//! relative path of plain components separated by `/`.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// A directory on some disk.
pub trait Disk: Send + Sync {
    /// Opens a file for reading and writing; it must exist.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a file that must not exist. Its name is durable after
    /// [`Disk::sync_dir`] of its directory.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a directory and its parents durably. One that exists is no error.
    fn create_dir(&self, name: &str) -> io::Result<()>;

    /// Names in a directory, sorted, without the directory's own.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes free and bytes in all, of the file system.
    fn space(&self) -> io::Result<Space>;

    /// Told at named points between the steps of something that must survive a
    /// crash; nothing on a real disk. A disk of tests may lose its power there.
    fn reached(&self, _point: &'static str) {}
}

/// How much room a file system has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An open file. Positions are bytes from its start.
pub trait File: Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; `UnexpectedEof` past the end.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads `len` bytes at `offset`; `UnexpectedEof` past the end.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(len);
        self.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.freeze())
    }

    /// Writes all of `data` at `offset`, not durably.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends the file with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves room, so that writing in `offset..offset + len` does not fail
    /// for want of space. The file grows; what was not written reads as zeros.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Gives the room in `offset..offset + len` back; it reads as zeros.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes all that was written durable (`fdatasync`). After an error nothing
    /// on this disk can be trusted: end the process, never try again.
    fn sync(&self) -> io::Result<()>;
}

/// Writes a small file so that it is there whole or, after a crash, as before:
/// a temporary file, synced, renamed over the old, the directory synced.
pub fn replace_file(disk: &dyn Disk, name: &str, data: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_all_at(data, 0)?;
    file.sync()?;
    disk.rename(&temporary, name)?;
    disk.sync_dir(parent(name))
}

/// Reads a small file whole; `None` when there is none.
pub fn read_file(disk: &dyn Disk, name: &str) -> io::Result<Option<Bytes>> {
    match disk.open(name) {
        Ok(file) => Ok(Some(file.read_at(0, file.len()? as usize)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory part of a name; empty for one at the top.
pub fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}
