//! Damage to what stands on a disk, behind the node's back.

use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Disk, Entropy};

use crate::trace::Trace;
use crate::world::World;

/// What a record begins with.
const MAGIC: &[u8] = b"HFR!";
const SECTOR: u64 = 512;
const PAGE: u64 = 4 << 10;
/// Bytes at the beginning of an index's base that are read when it is opened.
const BASE_HEAD: u64 = 300;
/// Bits that flip in a base: part of it is holes.
const BASE_FLIPS: usize = 4;

/// Files in a directory of a node's disk, with their lengths.
fn files(disk: &dyn Disk, dir: &str) -> Vec<(String, u64)> {
    let names = disk.list(dir).unwrap_or_default();
    let named = names.into_iter().filter_map(|name| {
        let name = match dir {
            "" => name,
            dir => format!("{dir}/{name}"),
        };
        let len = disk.open(&name).and_then(|file| file.len()).ok()?;
        Some((name, len))
    });
    named.collect()
}

fn flip_one(world: &World, node: usize, name: &str, bit: u64) {
    if let Some(member) = world.members.get(&node) {
        // The file was there a moment ago, and nothing runs meanwhile.
        let _ = member.disk.flip_bit(name, bit);
        world.trace.tell(&format!("bit {bit} of {name} flips"));
    }
}

/// Flips bits of fragments where there is data, since most of a segment is
/// holes; of heads and closing records alone where `heads` is set.
pub fn flip_fragments(world: &World, node: usize, bits: u64, heads: bool) {
    let Some(member) = world.members.get(&node) else {
        return;
    };
    let mut places = Vec::new();
    for (name, len) in files(&member.disk, "blobs") {
        for page in 0..len / PAGE {
            let at = page * PAGE;
            let Ok(bytes) = member.disk.peek(&name, at, PAGE as usize) else {
                continue;
            };
            // The first page is the segment's own record.
            let record = at > 0 && bytes.starts_with(MAGIC);
            if (heads && record) || (!heads && bytes.iter().any(|byte| *byte != 0)) {
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
                places.push((name.clone(), at, used));
            }
        }
    }
    for _ in 0..bits {
        let chosen = world.entropy.below(places.len() as u64) as usize;
        if let Some((name, at, used)) = places.get(chosen) {
            let bit = world.entropy.below(used * 8);
            flip_one(world, node, name, at * 8 + bit);
        }
    }
}

/// Makes one file of fragments read as zeros.
pub fn zero_file(world: &World, node: usize) {
    let Some(member) = world.members.get(&node) else {
        return;
    };
    let files = files(&member.disk, "blobs");
    let chosen = world.entropy.below(files.len() as u64) as usize;
    if let Some((name, _)) = files.get(chosen) {
        let zeroed = member.disk.zero(name);
        world.trace.tell(&format!("{name} is zeros: {zeroed:?}"));
    }
}

/// Makes a new base of a node's fragment index, and flips bits in it once it is
/// durable.
pub fn rot_index(world: &World, node: usize) {
    let Some(member) = world.members.get(&node) else {
        return;
    };
    let Some(running) = member.node.clone() else {
        return;
    };
    let env = running.cluster().env().clone();
    let engine = running.fragments().engine().clone();
    let (disk, trace) = (member.disk.clone(), world.trace.clone());
    let entropy = world.entropy.clone();
    let rot = async move {
        match engine.checkpoint().await {
            Ok(()) => flip_base(&disk, entropy.as_ref(), &trace),
            Err(error) => trace.tell(&format!("an index is not saved: {error}")),
        }
    };
    env.tasks.spawn("rot-index", Box::pin(rot));
}

/// Flips bits in the newest base of the fragment index, behind its head.
fn flip_base(disk: &MemoryDisk, entropy: &dyn Entropy, trace: &Trace) {
    let bases = files(disk, "blobs").into_iter().filter(|(name, _)| {
        let number = name.strip_prefix("blobs/index-");
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let Some((name, len)) = bases.max() else {
        return;
    };
    for _ in 0..BASE_FLIPS {
        let bit = BASE_HEAD * 8 + entropy.below(len.saturating_sub(BASE_HEAD).max(1) * 8);
        // The file was there a moment ago, and nothing runs meanwhile.
        let _ = disk.flip_bit(&name, bit);
        trace.tell(&format!("bit {bit} of {name} flips"));
    }
}

/// Flips bits in records of the Raft log, but for the newest record of all: a
/// bad one there cannot be told from a torn write. Says whether any flipped.
pub fn flip_log(world: &World, node: usize, bits: u64) -> bool {
    let Some(member) = world.members.get(&node) else {
        return false;
    };
    let mut records = Vec::new();
    for (name, len) in files(&member.disk, "raft") {
        let Some(number) = name
            .strip_prefix("raft/")
            .filter(|number| number.len() == 16)
            .and_then(|number| u64::from_str_radix(number, 16).ok())
        else {
            continue;
        };
        for at in (0..len / SECTOR).map(|sector| sector * SECTOR) {
            let Ok(bytes) = member.disk.peek(&name, at, SECTOR as usize) else {
                continue;
            };
            let own = bytes.get(16..24) == Some(&number.to_le_bytes());
            let used = bytes.get(8..12).map_or(0, |len| {
                len.iter()
                    .rev()
                    .fold(0, |n, byte| n << 8 | u64::from(*byte))
            });
            let sequence = bytes.get(24..32).unwrap_or_default().iter().rev();
            let sequence = sequence.fold(0u64, |n, byte| n << 8 | u64::from(*byte));
            if own && bytes.starts_with(MAGIC) {
                records.push((sequence, name.clone(), at, used + 36));
            }
        }
    }
    records.sort();
    records.pop();
    for _ in 0..bits {
        let chosen = world.entropy.below(records.len() as u64) as usize;
        if let Some((_, name, at, used)) = records.get(chosen) {
            let bit = world.entropy.below(used * 8);
            flip_one(world, node, name, at * 8 + bit);
        }
    }
    !records.is_empty()
}

/// Flips bits in the state store where it is not zeros.
pub fn flip_state(world: &World, node: usize, bits: u64) -> bool {
    let Some(member) = world.members.get(&node) else {
        return false;
    };
    let Ok(len) = member.disk.open("state").and_then(|file| file.len()) else {
        return false;
    };
    let used: Vec<u64> = (0..len / PAGE)
        .map(|page| page * PAGE)
        .filter(|at| {
            let bytes = member.disk.peek("state", *at, PAGE as usize);
            bytes.is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
        })
        .collect();
    for _ in 0..bits {
        let chosen = world.entropy.below(used.len() as u64) as usize;
        if let Some(at) = used.get(chosen) {
            let bit = world.entropy.below(PAGE * 8);
            flip_one(world, node, "state", at * 8 + bit);
        }
    }
    !used.is_empty()
}
