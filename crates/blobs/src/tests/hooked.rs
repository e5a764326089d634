//! A disk that calls a test at each of the engine's named points, in the thread
//! that passes it.

use std::io;
use std::sync::Arc;

use holdfast_runtime::Disk;
use holdfast_runtime::disk::{File, Space};
use holdfast_runtime::memory_disk::MemoryDisk;

pub(super) struct Hooked {
    pub disk: MemoryDisk,
    pub at: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl Disk for Hooked {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(name)
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
        (self.at)(point);
    }
}
