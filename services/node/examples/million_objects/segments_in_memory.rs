//! A directory whose fragments and their index are in memory, without the zeros
//! at the end of each block: syncs of them cost nothing, and neither does room.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use holdfast_runtime::disk::Space;
use holdfast_runtime::host::disk::Directory;
use holdfast_runtime::{Disk, File};

const BLOCK: u64 = 4 << 10;

pub struct SegmentsInMemory {
    directory: Directory,
    segments: Mutex<BTreeMap<String, Arc<Segment>>>,
}

#[derive(Default)]
struct Segment {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

fn is_segment(name: &str) -> bool {
    name.starts_with("blobs/")
}

impl SegmentsInMemory {
    pub fn over(root: &str) -> Self {
        Self {
            directory: Directory::open(root).unwrap(),
            segments: Mutex::default(),
        }
    }
}

impl Disk for SegmentsInMemory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        match self.segments.lock().unwrap().get(name) {
            Some(segment) => Ok(segment.clone()),
            None => self.directory.open(name),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if !is_segment(name) {
            return self.directory.create(name);
        }
        let segment = Arc::<Segment>::default();
        let mut segments = self.segments.lock().unwrap();
        segments.insert(name.to_owned(), segment.clone());
        Ok(segment)
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.directory.create_dir(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = self.directory.list(dir)?;
        for name in self.segments.lock().unwrap().keys() {
            let (above, name) = name.rsplit_once('/').unwrap_or_default();
            if above == dir {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut segments = self.segments.lock().unwrap();
        match segments.remove(from) {
            Some(segment) => {
                segments.insert(to.to_owned(), segment);
                Ok(())
            }
            None => self.directory.rename(from, to),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.segments.lock().unwrap().remove(name) {
            Some(_) => Ok(()),
            None => self.directory.remove(name),
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.directory.sync_dir(dir)
    }

    fn space(&self) -> io::Result<Space> {
        self.directory.space()
    }
}

impl File for Segment {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.lock().unwrap().len)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.inner.lock().unwrap();
        if offset + buffer.len() as u64 > inner.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let first = offset - offset % BLOCK;
        for (at, block) in inner.blocks.range(first..offset + buffer.len() as u64) {
            for (byte, to) in block.iter().zip(*at..) {
                if let Some(slot) = to
                    .checked_sub(offset)
                    .and_then(|to| buffer.get_mut(to as usize))
                {
                    *slot = *byte;
                }
            }
        }
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        let (mut data, mut offset) = (data, offset);
        inner.len = inner.len.max(offset + data.len() as u64);
        while !data.is_empty() {
            let (at, within) = (offset - offset % BLOCK, (offset % BLOCK) as usize);
            let part = data.len().min(BLOCK as usize - within);
            let mut block = inner.blocks.remove(&at).unwrap_or_default().into_vec();
            block.resize(block.len().max(within + part), 0);
            block[within..within + part].copy_from_slice(&data[..part]);
            let used = block
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            block.truncate(used);
            if used > 0 {
                inner.blocks.insert(at, block.into());
            }
            data = &data[part..];
            offset += part as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.len = len;
        inner.blocks.split_off(&len);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.len = inner.len.max(offset + len);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        let within = inner.blocks.range(offset..offset + len);
        let within: Vec<u64> = within.map(|block| *block.0).collect();
        for at in within {
            inner.blocks.remove(&at);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
