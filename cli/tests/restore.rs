//! A backup taken while uploads run, and restored into a cluster whose
//! metadata is gone, over the real command and real processes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the test drives processes of this machine, and a helper that fails ends it"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long a cluster may take to get ready on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Kept in the metadata.
const INLINE_BYTES: usize = 700;
/// Kept as chunks, several of them.
const CHUNKED_BYTES: usize = 9 << 20;

/// A `holdfast dev` that is killed when it goes out of scope.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    dir: tempfile::TempDir,
    port: u16,
}

impl Bench {
    fn new() -> Self {
        let [port, first, second, third] = free_ports();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        // Ports of its own: those that `holdfast dev` finds free may be found
        // free by another test at the same moment.
        let notes = serde_json::json!({ "node_ports": [first, second, third], "founded_with": 3 });
        std::fs::write(data.join("dev.json"), notes.to_string()).unwrap();
        Self { dir, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .env_clear()
            .args(["--data".as_ref(), self.path("data").as_os_str()])
            .args([
                "--url",
                &format!("http://127.0.0.1:{}", self.port),
                "--json",
            ])
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Starts the cluster and waits until it says that it is ready.
    fn start(&self) -> Dev {
        let mut child = self
            .command(&["dev", "--port", &self.port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let dev = Dev(child);
        let (told, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.starts_with("Holdfast is ready") {
                    let _ = told.send(());
                }
            }
        });
        ready
            .recv_timeout(READY_LIMIT)
            .expect("the cluster does not get ready");
        dev
    }

    /// Uploads bytes that follow from `seed`; returns the file's id.
    fn put(&self, seed: u64, bytes: usize) -> String {
        let path = self.path(&format!("up-{seed}"));
        std::fs::write(&path, content(seed, bytes)).unwrap();
        let made = self.good(&["put", "--limit", "0", path.to_str().unwrap()]);
        made["file_id"].as_str().unwrap().to_owned()
    }

    fn get(&self, id: &str) -> Output {
        self.run(&["get", id, "-o", "-"])
    }

    fn assert_there(&self, id: &str, seed: u64, bytes: usize) {
        let output = self.get(id);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "file {seed}: {told}");
        assert!(
            output.stdout == content(seed, bytes),
            "file {seed} has other bytes"
        );
    }
}

/// Ports that nothing listens on, of this process and test alone, and below
/// those that outgoing connections get.
fn free_ports() -> [u16; 4] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 400) as u16 * 20;
    let mut all = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    [(); 4].map(|()| all.next().unwrap())
}

/// Bytes that no compression makes smaller, by splitmix64.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

fn remove_metadata(node: &Path, what: &[&str]) {
    for name in what {
        let path = node.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Uploads until told to stop, so that a backup has something to be beside.
fn upload_beside(bench: &Bench, stop: &AtomicBool) {
    for seed in 1_000.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        bench.put(seed, if seed % 2 == 0 { INLINE_BYTES } else { 2 << 20 });
    }
}

#[test]
fn what_was_acknowledged_before_a_backup_comes_back_with_it() {
    let bench = Bench::new();
    let file = bench.path("holdfast.backup");
    let file = file.to_str().unwrap();
    let sizes = [
        INLINE_BYTES,
        CHUNKED_BYTES,
        1,
        INLINE_BYTES * 3,
        CHUNKED_BYTES + 1,
    ];
    let running = bench.start();
    let before: Vec<_> = (0u64..)
        .zip(sizes)
        .map(|(seed, bytes)| (bench.put(seed, bytes), seed, bytes))
        .collect();

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| upload_beside(&bench, &stop));
        bench.good(&["admin", "backup", file]);
        stop.store(true, Ordering::Relaxed);
    });
    let later = bench.put(77, INLINE_BYTES);

    let refused = bench.run(&["admin", "restore", file]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("stop it first"),
        "{told}"
    );
    drop(running);

    let data = bench.path("data");
    remove_metadata(&data.join("node1"), &["state", "raft"]);
    remove_metadata(&data.join("node2"), &["raft"]);
    let done = bench.good(&["admin", "restore", file]);
    assert_eq!(done["directories"].as_array().unwrap().len(), 3, "{done}");
    assert_eq!(done["absent"].as_array().unwrap().len(), 0, "{done}");
    let kept = data.join("node3").join(done["kept_as"].as_str().unwrap());
    assert!(kept.join("state").is_file() && kept.join("raft").is_dir());

    // Twice: the second start reads what the first has written on.
    for start in 0..2u64 {
        let _running = bench.start();
        for (id, seed, bytes) in &before {
            bench.assert_there(id, *seed, *bytes);
        }
        assert_eq!(
            bench.get(&later).status.code(),
            Some(5),
            "it came after the backup"
        );
        let new = bench.put(90 + start, CHUNKED_BYTES);
        bench.assert_there(&new, 90 + start, CHUNKED_BYTES);
    }
}

#[test]
fn a_backup_that_is_cut_is_refused_and_the_data_stays() {
    let bench = Bench::new();
    let file = bench.path("holdfast.backup");
    let running = bench.start();
    let id = bench.put(1, CHUNKED_BYTES);
    bench.good(&["admin", "backup", file.to_str().unwrap()]);
    drop(running);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = bench.run(&["admin", "restore", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("backup"),
        "{told}"
    );
    let _running = bench.start();
    bench.assert_there(&id, 1, CHUNKED_BYTES);
}
