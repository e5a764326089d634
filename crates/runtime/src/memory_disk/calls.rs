//! The disk's calls, as the code under test makes them.

use std::io;
use std::sync::{Arc, MutexGuard};

use super::MemoryDisk;
use super::inode::{Inode, PAGE_BYTES};
use super::state::{NameChange, State, apply, not_found};
use crate::disk::{Disk, File, Space, parent};

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (number, power) = {
            let state = self.state();
            (*state.names.get(name).ok_or_else(not_found)?, state.power)
        };
        Ok(self.handle(number, power))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (number, power) = {
            let mut state = self.state();
            state.change()?;
            if !state.dirs.contains(parent(name)) {
                return Err(not_found());
            }
            if state.names.contains_key(name) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let number = state.next_file;
            state.next_file += 1;
            state.files.insert(number, Inode::default());
            state.names.insert(name.to_owned(), number);
            state
                .pending_names
                .push(NameChange::Add(name.to_owned(), number));
            (number, state.power)
        };
        Ok(self.handle(number, power))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let mut dir = name;
        while !dir.is_empty() {
            state.dirs.insert(dir.to_owned());
            dir = parent(dir);
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(not_found());
        }
        let base = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
        let names = state.names.keys().chain(&state.dirs);
        let inside = names.filter(|name| !name.is_empty() && parent(name) == dir);
        let mut names: Vec<String> = inside.map(base).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply(&mut state.names, &change);
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(not_found());
        }
        state.change()?;
        let change = NameChange::Remove(name.to_owned());
        apply(&mut state.names, &change);
        state.pending_names.push(change);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.fails_sync() {
            return Err(not_taken());
        }
        let (here, elsewhere): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition(|change| match change {
                NameChange::Add(name, _) | NameChange::Remove(name) => parent(name) == dir,
                NameChange::Rename(from, to) => parent(from) == dir || parent(to) == dir,
            });
        state.pending_names = elsewhere;
        for change in &here {
            apply(&mut state.durable_names, change);
        }
        state.drop_unnamed();
        Ok(())
    }

    fn reached(&self, point: &'static str) {
        let mut state = self.state();
        *state.reached.entry(point).or_default() += 1;
        match &mut state.cut_at {
            Some((wanted, 0)) if wanted == point => {
                state.cut_at = None;
                state.writes_until_cut = Some(0);
            }
            Some((wanted, passes)) if wanted == point => *passes -= 1,
            _ => {}
        }
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        Ok(Space {
            free: state.free,
            total: state.total,
        })
    }
}

pub(super) struct MemoryFile {
    pub disk: MemoryDisk,
    pub number: u64,
    pub power: u64,
}

impl MemoryFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.power == self.power {
            Ok(state)
        } else {
            Err(io::Error::other("opened before the power was cut"))
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.file(self.number)?.len)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let inode = state.file(self.number)?;
        if offset + buffer.len() as u64 > inode.len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        inode.read(buffer, offset);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let len = data.len() as u64;
        state.allocate(self.number, offset, len)?;
        let inode = state.file(self.number)?;
        inode.remember(offset, len);
        inode.put(data, offset);
        inode.len = inode.len.max(offset + len);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let old = state.file(self.number)?.len;
        if len < old {
            let inode = state.file(self.number)?;
            inode.remember(len, old - len);
            inode.clear(len, old - len);
            state.release(self.number, len, old - len)?;
        }
        state.file(self.number)?.len = len;
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.allocate(self.number, offset, len)?;
        let inode = state.file(self.number)?;
        inode.len = inode.len.max(offset + len);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let inode = state.file(self.number)?;
        let len = len.min(inode.len.saturating_sub(offset));
        // Sectors that hold zeros already change nothing at a power cut.
        let first = offset / PAGE_BYTES;
        let last = (offset + len).div_ceil(PAGE_BYTES);
        let pages: Vec<u64> = inode.pages.range(first..last).map(|(p, _)| *p).collect();
        for page in pages {
            let start = (page * PAGE_BYTES).max(offset);
            let end = ((page + 1) * PAGE_BYTES).min(offset + len);
            inode.remember(start, end - start);
            inode.clear(start, end - start);
        }
        state.release(self.number, offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.syncs += 1;
        let fail = std::mem::take(&mut state.fail_next_sync) | state.fails_sync();
        // Without a name, what the file holds is gone at a power cut anyhow.
        let Some(inode) = state.files.get_mut(&self.number) else {
            return Ok(());
        };
        if fail {
            for (sector, old) in std::mem::take(&mut inode.before) {
                inode.lost.entry(sector).or_insert(old);
            }
            return Err(not_taken());
        }
        inode.before.clear();
        inode.durable_len = inode.len;
        Ok(())
    }
}

fn not_taken() -> io::Error {
    io::Error::other("the disk did not take what was written")
}
