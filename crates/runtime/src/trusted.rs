//! A disk that is trusted until a sync fails.
//!
//! After a failed sync the page cache holds what the disk does not, and calls it
//! written: a second sync succeeds, and so does one of the next process. So the
//! first that fails, of a file or of a directory and whoever asked for it, is
//! the end: it is told at once, and from then on nothing is written, synced or
//! renamed any more. What is on the disk can still be read.
//!
//! A sync that fails for want of room is none of these: nothing is wrong with
//! the disk, and who asked for it decides.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::disk::{Disk, File, Space};
use crate::fatal::is_no_room;

/// Told of the first sync that fails, in the thread that asked for it.
pub type OnLost = Arc<dyn Fn(String) + Send + Sync>;

/// The operating system's number for an error of a device.
const EIO: i32 = 5;

/// Whether a disk is still trusted. Copies are the same.
#[derive(Clone, Default)]
pub struct Trust(Arc<OnceLock<String>>);

impl Trust {
    /// Takes nothing on the disk any more, for this reason. Says whether it was
    /// trusted until now.
    pub fn end(&self, reason: &str) -> bool {
        self.0.set(reason.to_owned()).is_ok()
    }

    fn check(&self) -> io::Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(format!("the disk has failed: {reason}"))),
        }
    }
}

/// What a disk and its files share.
struct Guard {
    trust: Trust,
    told: OnLost,
}

impl Guard {
    fn check(&self) -> io::Result<()> {
        self.trust.check()
    }

    fn synced(&self, name: &str, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result
            && !is_no_room(error)
        {
            self.fail(format!("syncing {name}: {error}"));
        }
        result
    }

    fn fail(&self, reason: String) {
        if self.trust.end(&reason) {
            (self.told)(reason);
        }
    }
}

/// A disk until one of its syncs fails.
pub struct TrustedDisk {
    disk: Arc<dyn Disk>,
    guard: Arc<Guard>,
}

impl TrustedDisk {
    /// Trusts a disk, and tells `told` when that ends.
    pub fn new(disk: Arc<dyn Disk>, told: OnLost) -> Self {
        let trust = Trust::default();
        let guard = Arc::new(Guard { trust, told });
        Self { disk, guard }
    }

    /// Whether it still is.
    pub fn trust(&self) -> Trust {
        self.guard.trust.clone()
    }

    fn file(&self, name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TrustedFile {
            file,
            name: name.into(),
            guard: self.guard.clone(),
        })
    }
}

impl Disk for TrustedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.file(name, self.disk.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.guard.check()?;
        Ok(self.file(name, self.disk.create(name)?))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.guard.check()?;
        let made = self.disk.create_dir(name);
        if let Err(error) = &made
            && error.raw_os_error() == Some(EIO)
        {
            // It syncs what is above; the next time there is nothing to make.
            self.guard.fail(format!("making {name}: {error}"));
        }
        made
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.guard.check()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.guard.check()?;
        self.disk.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.guard.check()?;
        let name = if dir.is_empty() { "." } else { dir };
        self.guard.synced(name, self.disk.sync_dir(dir))
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn reached(&self, point: &'static str) {
        self.disk.reached(point);
    }
}

/// A file of a [`TrustedDisk`].
struct TrustedFile {
    file: Arc<dyn File>,
    name: Box<str>,
    guard: Arc<Guard>,
}

impl File for TrustedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.file.read_at(offset, len)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.allocate(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.punch_hole(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.guard.check()?;
        self.guard.synced(&self.name, self.file.sync())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::disk::{read_file, replace_file};
    use crate::memory_disk::MemoryDisk;

    type Told = Arc<Mutex<Vec<String>>>;

    fn trusted() -> (MemoryDisk, TrustedDisk, Told) {
        let memory = MemoryDisk::new(1 << 20, 1);
        let told = Told::default();
        let heard = told.clone();
        let hear: OnLost = Arc::new(move |reason| heard.lock().unwrap().push(reason));
        let disk = TrustedDisk::new(Arc::new(memory.clone()), hear);
        (memory, disk, told)
    }

    #[test]
    fn the_first_sync_that_fails_is_told_once_and_nothing_is_written_after_it() {
        // Of a file, and of the directory after one of a file.
        for (syncs, name) in [(0, "a.new"), (1, ".")] {
            let (memory, disk, told) = trusted();
            let kept = disk.create("kept").unwrap();
            kept.write_all_at(b"kept", 0).unwrap();
            kept.sync().unwrap();
            memory.fail_syncs_after(syncs);
            assert!(replace_file(&disk, "a", b"x").is_err());
            memory.mend();
            assert!(kept.sync().is_err() && disk.sync_dir("").is_err());
            assert!(kept.write_all_at(b"lost", 0).is_err());
            assert!(disk.create("b").is_err() && disk.rename("kept", "b").is_err());
            assert!(disk.remove("kept").is_err() && kept.set_len(0).is_err());
            assert_eq!(read_file(&disk, "kept").unwrap().unwrap(), &b"kept"[..]);
            let told = told.lock().unwrap();
            assert!(told.len() == 1, "{told:?}");
            assert!(told[0].contains(name), "{told:?}");
        }
    }

    /// Keeps nothing: every sync finds no room.
    struct Full(Arc<dyn File>);

    impl File for Full {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_exact_at(buffer, offset)
        }
        fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_all_at(data, offset)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
            self.0.allocate(offset, len)
        }
        fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
            self.0.punch_hole(offset, len)
        }
        fn sync(&self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_sync_without_room_says_nothing_of_the_disk() {
        use crate::memory_disk::AlteredDisk;
        let (memory, ..) = trusted();
        let full = AlteredDisk::new(memory).with_files(|file| Arc::new(Full(file)));
        let disk = TrustedDisk::new(Arc::new(full), Arc::new(|why| panic!("{why}")));
        let error = replace_file(&disk, "a", b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        disk.create("b").unwrap().write_all_at(b"x", 0).unwrap();
    }
}
