//! A disk whose calls are counted while they run.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Still;
use crate::Clock;
use crate::disk::{Disk, File, Space};

/// The calls of a disk that have begun and not returned.
pub struct DiskCalls {
    clock: Arc<dyn Clock>,
    /// Held only briefly: never across a call.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// How many have begun.
    begun: u64,
    /// By number, so that the first is the oldest.
    calls: BTreeMap<u64, Call>,
}

struct Call {
    what: &'static str,
    name: Arc<str>,
    at: Duration,
}

impl DiskCalls {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`, a call of the disk, which is open meanwhile.
    pub fn during<T>(&self, what: &'static str, name: &Arc<str>, work: impl FnOnce() -> T) -> T {
        let number = {
            let (at, name) = (self.clock.monotonic(), name.clone());
            let mut open = self.lock();
            open.begun += 1;
            let number = open.begun;
            open.calls.insert(number, Call { what, name, at });
            number
        };
        let done = work();
        self.lock().calls.remove(&number);
        done
    }

    /// For how long the oldest call has been open; zero if none is.
    pub fn open_for(&self) -> Duration {
        let now = self.clock.monotonic();
        let open = self.lock();
        let oldest = open.calls.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, call)| now.saturating_sub(call.at))
    }

    /// The oldest call, if it has been open for longer than
    /// [`STILL_LIMIT`](super::STILL_LIMIT).
    pub fn still(&self) -> Option<Still> {
        let now = self.clock.monotonic();
        let open = self.lock();
        let (_, call) = open.calls.first_key_value()?;
        let name = || format!("the disk (to {} {})", call.what, call.name);
        Still::of(name, call.at, now)
    }
}

/// A disk whose calls are told to [`DiskCalls`]; it does nothing else.
pub struct WatchedDisk {
    disk: Arc<dyn Disk>,
    calls: Arc<DiskCalls>,
}

impl WatchedDisk {
    /// Watches a disk by this clock.
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Self {
        let open = Mutex::default();
        let calls = Arc::new(DiskCalls { clock, open });
        Self { disk, calls }
    }

    /// The calls of this disk and of its files.
    pub fn calls(&self) -> Arc<DiskCalls> {
        self.calls.clone()
    }

    fn during<T>(&self, what: &'static str, name: &str, work: impl FnOnce(&dyn Disk) -> T) -> T {
        let name: Arc<str> = if name.is_empty() { "." } else { name }.into();
        self.calls.during(what, &name, || work(self.disk.as_ref()))
    }

    fn watched(&self, name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(WatchedFile {
            file,
            name: name.into(),
            calls: self.calls.clone(),
        })
    }
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.during("open", name, |disk| disk.open(name))?;
        Ok(self.watched(name, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.during("create", name, |disk| disk.create(name))?;
        Ok(self.watched(name, file))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.during("create", name, |disk| disk.create_dir(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.during("list", dir, |disk| disk.list(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.during("rename", from, |disk| disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.during("remove", name, |disk| disk.remove(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.during("sync", dir, |disk| disk.sync_dir(dir))
    }

    fn space(&self) -> io::Result<Space> {
        self.during("measure", "", |disk| disk.space())
    }

    fn reached(&self, point: &'static str) {
        self.disk.reached(point);
    }
}

/// A file of a [`WatchedDisk`].
struct WatchedFile {
    file: Arc<dyn File>,
    name: Arc<str>,
    calls: Arc<DiskCalls>,
}

impl WatchedFile {
    fn during<T>(&self, what: &'static str, work: impl FnOnce(&dyn File) -> T) -> T {
        let work = || work(self.file.as_ref());
        self.calls.during(what, &self.name, work)
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.during("measure", |file| file.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.during("read", |file| file.read_exact_at(buffer, offset))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.during("read", |file| file.read_at(offset, len))
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.during("write", |file| file.write_all_at(data, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.during("cut", |file| file.set_len(len))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.during("allocate", |file| file.allocate(offset, len))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.during("free", |file| file.punch_hole(offset, len))
    }

    fn sync(&self) -> io::Result<()> {
        self.during("sync", |file| file.sync())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use holdfast_model::Timestamp;

    use super::*;
    use crate::memory_disk::MemoryDisk;

    /// A clock that a test turns by hand.
    #[derive(Clone, Default)]
    pub(in crate::pulse) struct Hand(Arc<AtomicU64>);

    impl Hand {
        pub(in crate::pulse) fn pass(&self, seconds: u64) {
            self.0.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    impl Clock for Hand {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            std::future::pending().boxed()
        }
    }

    /// A file whose syncs tell that they have begun, and then wait to be let go.
    struct Hanging {
        begun: mpsc::Sender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl File for Hanging {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn punch_hole(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            self.begun.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
            Ok(())
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a thread that stands still")]
    fn a_call_that_hangs_is_named_until_it_returns_and_others_go_on_beside_it() {
        let (hand, memory) = (Hand::default(), MemoryDisk::new(1 << 20, 1));
        let disk = WatchedDisk::new(Arc::new(memory), Arc::new(hand.clone()));
        let calls = disk.calls();
        let ((begun, has_begun), (go, go_on)) = (mpsc::channel(), mpsc::channel());
        let go_on = Mutex::new(go_on);
        let file = disk.watched("raft/log-1", Arc::new(Hanging { begun, go_on }));
        let syncing = std::thread::spawn(move || file.sync());
        has_begun.recv().unwrap();
        hand.pass(30);
        assert_eq!(calls.still(), None);
        hand.pass(11);
        let moving = disk.create("other").unwrap();
        moving.write_all_at(b"moves", 0).unwrap();
        let still = calls.still().unwrap().to_string();
        assert_eq!(
            still,
            "the disk (to sync raft/log-1) has not moved for 41 s"
        );
        go.send(()).unwrap();
        syncing.join().unwrap().unwrap();
        assert_eq!(calls.still(), None);
    }

    #[test]
    fn a_watched_disk_does_what_the_disk_does() {
        let (hand, memory) = (Hand::default(), MemoryDisk::new(1 << 20, 1));
        let disk = WatchedDisk::new(Arc::new(memory.clone()), Arc::new(hand.clone()));
        disk.create_dir("dir").unwrap();
        let file = disk.create("dir/a").unwrap();
        file.allocate(0, 8192).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.sync().unwrap();
        disk.rename("dir/a", "dir/b").unwrap();
        disk.sync_dir("dir").unwrap();
        assert_eq!(memory.list("dir").unwrap(), ["b"]);
        assert_eq!(disk.list("dir").unwrap(), ["b"]);
        let there = disk.open("dir/b").unwrap();
        assert_eq!(there.read_at(3, 5).unwrap(), &b"hello"[..]);
        let mut buffer = [0; 2];
        there.read_exact_at(&mut buffer, 6).unwrap();
        assert_eq!(&buffer, b"lo");
        there.punch_hole(0, 4096).unwrap();
        assert_eq!(there.read_at(3, 1).unwrap(), &[0][..]);
        there.set_len(10).unwrap();
        assert_eq!(
            (there.len().unwrap(), there.is_empty().unwrap()),
            (10, false)
        );
        assert_eq!(disk.space().unwrap(), memory.space().unwrap());
        disk.remove("dir/b").unwrap();
        let gone = disk.open("dir/b").err().unwrap();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        // What failed has returned as well.
        hand.pass(60);
        assert_eq!(disk.calls().still(), None);
    }
}
