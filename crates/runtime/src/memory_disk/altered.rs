//! A disk in memory with something between it and who uses it.

use std::io;
use std::sync::Arc;

use super::MemoryDisk;
use crate::disk::{Disk, File, Space};

type AtPoint = Box<dyn Fn(&'static str) + Send + Sync>;
type Files = Box<dyn Fn(Arc<dyn File>) -> Arc<dyn File> + Send + Sync>;

/// A disk in memory that somebody else has a hand in: where its named points
/// are reached, and in its files.
pub struct AlteredDisk {
    disk: MemoryDisk,
    at_point: AtPoint,
    files: Files,
}

impl AlteredDisk {
    /// The disk as it is.
    pub fn new(disk: MemoryDisk) -> Self {
        Self {
            disk,
            at_point: Box::new(|_| {}),
            files: Box::new(|file| file),
        }
    }

    /// Calls `at_point` at each named point, in the thread that reaches it.
    #[must_use]
    pub fn told(mut self, at_point: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        self.at_point = Box::new(at_point);
        self
    }

    /// Puts what `files` makes of each file in its place.
    #[must_use]
    pub fn with_files(
        mut self,
        files: impl Fn(Arc<dyn File>) -> Arc<dyn File> + Send + Sync + 'static,
    ) -> Self {
        self.files = Box::new(files);
        self
    }
}

impl Disk for AlteredDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(name).map(&self.files)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(name).map(&self.files)
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.create_dir(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn reached(&self, point: &'static str) {
        self.disk.reached(point);
        (self.at_point)(point);
    }
}
