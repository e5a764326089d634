//! A disk in memory, for tests and the simulation, that is as unkind as a real
//! one may be: a power cut keeps or loses each unsynced sector by a seeded
//! choice, and of the unsynced changes of names a prefix; a failed sync loses
//! what it should have written although later ones succeed.
//!
//! Handles opened before a power cut are dead after it.

mod altered;
mod calls;
mod inode;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::altered::AlteredDisk;
use self::calls::MemoryFile;
use self::state::{State, apply, not_found};
use crate::disk::{File, parent};

/// A disk in memory. Copies are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

impl MemoryDisk {
    /// An empty disk of `total` bytes. `seed` decides what a power cut keeps.
    pub fn new(total: u64, seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(total, seed))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere still wants to look at its disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same on it; handles are of the old one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut state = self.state().clone();
        state.on_cut = None;
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Cuts the power and gives it back: what was not synced survives sector by
    /// sector as the seed has it, and handles opened before are dead.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.power += 1;
        state.writes_until_cut = None;
        state.cut_at = None;
        state.fail_next_sync = false;
        let mut files = std::mem::take(&mut state.files);
        for inode in files.values_mut() {
            for (sector, old) in std::mem::take(&mut inode.before) {
                if state.random().is_multiple_of(2) {
                    inode.put_back(sector, &old);
                }
            }
            for (sector, old) in std::mem::take(&mut inode.lost) {
                inode.put_back(sector, &old);
            }
            if inode.len != inode.durable_len && state.random().is_multiple_of(2) {
                inode.len = inode.durable_len;
            }
            inode.durable_len = inode.len;
        }
        state.files = files;
        let pending = std::mem::take(&mut state.pending_names);
        let kept = state.random() % (pending.len() as u64 + 1);
        for change in pending.iter().take(kept as usize) {
            apply(&mut state.durable_names, change);
        }
        state.names = state.durable_names.clone();
        state.drop_unnamed();
    }

    /// What would be left of a directory at worst if the power went now, as
    /// another disk: nothing that was not synced.
    #[must_use]
    pub fn durable(&self, dir: &str) -> Self {
        let state = self.state();
        let mut left = State::new(state.total, state.random);
        left.dirs.clone_from(&state.dirs);
        left.next_file = state.next_file;
        for (name, number) in &state.durable_names {
            if parent(name) != dir {
                continue;
            }
            if let Some(inode) = state.files.get(number) {
                left.files.insert(*number, inode.durable());
                left.names.insert(name.clone(), *number);
            }
        }
        left.durable_names.clone_from(&left.names);
        Self {
            state: Arc::new(Mutex::new(left)),
        }
    }

    /// Ends the process that has files open: handles opened before are dead,
    /// and what was written stays, synced or not.
    pub fn end_process(&self) {
        let mut state = self.state();
        state.power += 1;
        state.writes_until_cut = None;
    }

    /// Lets `changes` more writes, syncs and changes of names through; then all
    /// fail, until [`MemoryDisk::power_cut`].
    pub fn cut_after(&self, changes: u64) {
        self.state().writes_until_cut = Some(changes);
    }

    /// Cuts the power at a named point, after passing it `passes` times: from
    /// there on all changes fail, until [`MemoryDisk::power_cut`].
    pub fn cut_at(&self, point: &str, passes: u64) {
        self.state().cut_at = Some((point.to_owned(), passes));
    }

    /// Tells `told` of each change that finds the power cut: the machine has none
    /// either. It must not use the disk.
    pub fn when_cut(&self, told: impl Fn() + Send + Sync + 'static) {
        self.state().on_cut = Some(Arc::new(told));
    }

    /// Whether changes fail since the power was cut.
    pub fn is_cut(&self) -> bool {
        self.state().writes_until_cut == Some(0)
    }

    /// How often each named point was reached.
    pub fn points(&self) -> BTreeMap<&'static str, u64> {
        self.state().reached.clone()
    }

    /// Fails the next sync of a file; what it should have made durable is lost
    /// at the next power cut, whatever later syncs say.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// Lets `syncs` more syncs of files and directories through; then all fail,
    /// as [`MemoryDisk::fail_next_sync`] has one fail, until [`MemoryDisk::mend`].
    pub fn fail_syncs_after(&self, syncs: u64) {
        self.state().syncs_until_failing = Some(syncs);
    }

    /// Refuses every change and sync, as a file system that has turned
    /// read-only, until [`MemoryDisk::mend`]. What is there can be read.
    pub fn refuse_changes(&self) {
        self.state().refuses = true;
    }

    /// Takes changes and syncs again. What failed syncs have lost stays lost.
    pub fn mend(&self) {
        let mut state = self.state();
        state.refuses = false;
        state.syncs_until_failing = None;
    }

    /// How many syncs of files have been asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Sets the bytes that are free.
    pub fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// Flips one bit of a file on the medium.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn flip_bit(&self, name: &str, bit: u64) -> io::Result<()> {
        let mut byte = self.peek(name, bit / 8, 1)?;
        if let Some(byte) = byte.first_mut() {
            *byte ^= 1 << (bit % 8);
        }
        self.poke(name, bit / 8, &byte)
    }

    /// Bytes of a file, zeros past its end.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn peek(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let number = state.names.get(name).ok_or_else(not_found)?;
        let inode = state.files.get(number).ok_or_else(not_found)?;
        let mut bytes = vec![0; len];
        inode.read(&mut bytes, offset);
        Ok(bytes)
    }

    /// Changes a file on the medium, behind everybody's back and durably.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn poke(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let number = *state.names.get(name).ok_or_else(not_found)?;
        state.file(number)?.put(data, offset);
        Ok(())
    }

    /// Makes a whole file read as zeros, behind everybody's back and durably.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn zero(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let number = *state.names.get(name).ok_or_else(not_found)?;
        let inode = state.file(number)?;
        inode.pages.clear();
        inode.before.clear();
        Ok(())
    }

    /// Another disk with what this one holds, as a snapshot of a volume has it:
    /// what was not synced is there by chance.
    pub fn copy(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        state.random ^= seed;
        let copy = Self {
            state: Arc::new(Mutex::new(state)),
        };
        copy.state().on_cut = None;
        copy.mend();
        copy.power_cut();
        copy
    }

    fn handle(&self, number: u64, power: u64) -> Arc<dyn File> {
        Arc::new(MemoryFile {
            disk: self.clone(),
            number,
            power,
        })
    }
}
