//! What a node says of a disk that hangs, and that an idle one moves.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;
use holdfast_runtime::disk::Space;
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Clock, disk::File, still};

use super::*;
use crate::node::join::tests::{adopt, start};

/// A clock that a test turns by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

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

/// A disk that counts the syncs of its top, and has one wait where it is told.
struct Top {
    disk: MemoryDisk,
    syncs: Arc<AtomicUsize>,
    /// Told when the next sync waits, and tells it to go on.
    hangs: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Top {
    fn new() -> Self {
        Self {
            disk: MemoryDisk::new(1 << 30, 1),
            syncs: Arc::default(),
            hangs: Mutex::default(),
        }
    }
}

impl Disk for Top {
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
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let hangs = self.hangs.lock().unwrap().take();
        if let Some((waits, go_on)) = hangs {
            waits.send(()).unwrap();
            go_on.recv().unwrap();
        }
        self.disk.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a thread that stands still")]
async fn a_disk_that_hangs_and_a_loop_that_stands_are_told_after_thirty_seconds() {
    let ((waits, waiting), (go, go_on)) = (mpsc::channel(), mpsc::channel());
    let hand = Hand::default();
    let top = Arc::new(Top::new());
    let mut env = still::env(1);
    env.clock = Arc::new(hand.clone());
    let node = start(env, top.clone(), Arc::new(|fatal| panic!("{fatal:?}"))).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    *top.hangs.lock().unwrap() = Some((waits, go_on));
    let asking = node.disk();
    let alive = alive(node);
    let asking = std::thread::spawn(move || asking.sync_dir(""));
    waiting.recv().unwrap();
    hand.0.fetch_add(30, Ordering::SeqCst);
    assert_eq!(alive(), Ok(()));
    hand.0.fetch_add(1, Ordering::SeqCst);
    let still = "the disk (to sync .) has not moved for 31 s";
    assert_eq!(alive(), Err(still.into()));
    go.send(()).unwrap();
    asking.join().unwrap().unwrap();
    // No time passes for a sleeper by this clock, so that no loop comes round.
    let still = "the engine of fragments has not moved for 31 s";
    assert_eq!(alive(), Err(still.into()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_nothing_to_do_is_alive() {
    let mut env = still::env(1);
    env.clock = still::paused_clock();
    let memory: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    adopt(memory.as_ref(), &env);
    let node = start(env, memory, Arc::new(|fatal| panic!("{fatal:?}"))).await;
    let alive = alive(node);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(alive(), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "a task beside the test")]
async fn a_disk_is_asked_every_five_seconds_until_the_end() {
    let mut env = still::env(1);
    env.clock = still::paused_clock();
    let (top, shutdown) = (Top::new(), Shutdown::default());
    let syncs = top.syncs.clone();
    let asking = tokio::spawn(keep_asking(env, Arc::new(top), shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(syncs.load(Ordering::SeqCst), 12);
    shutdown.begin();
    asking.await.unwrap();
}
