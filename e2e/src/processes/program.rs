//! A child process, its output, and its end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::until;

/// Lines of a program's output that an error shows.
const SHOWN_LINES: usize = 30;

/// The path of one of our own programs, beside the running one; a test lies in
/// `deps` of the directory that holds them.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut dir = own.parent().context("this program has no directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("this program has no directory")?;
    }
    let path = dir.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: run `cargo build -p holdfast-node -p holdfast-gateway -p holdfast-worker` first (`cargo xtask test` does)",
            path.display()
        );
    }
    Ok(path)
}

/// The path of one of our own programs, a release ahead: `e2e/ahead`.
pub fn next_release(name: &str) -> Result<PathBuf> {
    let plain = binary(name)?;
    let directory = plain.parent().context("this program has no directory")?;
    let path = directory.join("next").join(name);
    if !path.exists() {
        bail!(
            "{} is missing: run `cargo xtask test` first, which builds it and links it there",
            path.display()
        );
    }
    Ok(path)
}

/// A process of ours; it is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts it in a process group of its own, so that what it starts can be
    /// ended with it and nothing else; its output is added to the file `output`.
    pub fn start(name: &str, command: &mut Command, output: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(output)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}, {:?}", command.get_program()))?;
        Ok(Self {
            name: name.into(),
            child,
            output: output.into(),
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, with which it ends in an orderly way.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it stands still and holds what it has.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? << 10)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// What it ended with, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        until(&format!("the end of {name}"), limit, async || {
            self.child.try_wait()?.context("it runs")
        })
        .await
        .with_context(|| self.last_lines())
    }

    /// All that it has said.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// The end of what it has said, for an error.
    pub fn last_lines(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().collect();
        let shown = lines.len().saturating_sub(SHOWN_LINES);
        format!("--- {}\n{}\n", self.name, lines[shown..].join("\n"))
    }

    fn signal(&self, signal: Signal) {
        // Not when it was waited for: its id may be another's by now.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}
