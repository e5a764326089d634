//! Opening: what the files hold becomes the groups' logs. A torn record ends the
//! newest file; what is bad anywhere else is corruption.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_blobs::record::{RecordError, decode_record};
use holdfast_model::GroupId;
use holdfast_runtime::File;

use super::again::note_resets;
use super::{Inner, LogFiles, OpenFile, SECTOR_BYTES, aligned, corrupt, lock, name};
use crate::log::group::{GroupLog, Place};
use crate::log::{CHECKPOINT_RECORD, Checkpoint, LogEnd, LogError, ROUND_RECORD, Round};

impl LogFiles {
    /// Reads the files of these numbers, which rise.
    pub(super) fn scan(
        self: &Arc<Self>,
        numbers: &[u64],
    ) -> Result<BTreeMap<GroupId, GroupLog>, LogError> {
        let mut groups = BTreeMap::new();
        let mut inner = lock(&self.inner);
        for number in numbers {
            let file = self.disk.open(&name(*number))?;
            let content = file.read_at(0, file.len()? as usize)?;
            let mut scan = Scan {
                log: self,
                groups: &mut groups,
                inner: &mut inner,
                number: *number,
            };
            // A file gets its name after its checkpoint was synced.
            if !scan.file(file, &content)? {
                return Err(corrupt(*number, 0, "the file has no checkpoint"));
            }
        }
        Ok(groups)
    }
}

/// Reads files into groups.
struct Scan<'a> {
    log: &'a Arc<LogFiles>,
    groups: &'a mut BTreeMap<GroupId, GroupLog>,
    inner: &'a mut Inner,
    number: u64,
}

impl Scan<'_> {
    /// Replays a file; false when it does not even hold its checkpoint.
    fn file(&mut self, file: Arc<dyn File>, content: &[u8]) -> Result<bool, LogError> {
        let mut offset = 0;
        let mut begun = false;
        while let Some(rest) = content
            .get(offset as usize..)
            .filter(|rest| !rest.is_empty())
        {
            let record = match decode_record(rest) {
                Ok(Some(record)) if record.file == self.number => record,
                Err(error @ RecordError::Version(_)) => {
                    return Err(corrupt(self.number, offset, &error.to_string()));
                }
                // Zeros, the file's earlier life, or a torn record: the end.
                Ok(_) | Err(_) => break,
            };
            if begun && record.sequence != self.inner.sequence + 1 {
                return Err(corrupt(self.number, offset, "a round is missing before it"));
            }
            if begun {
                self.round(record.payload, record.kind, offset)?;
            } else {
                if self.inner.sequence != 0 && record.sequence != self.inner.sequence + 1 {
                    return Err(corrupt(
                        self.number,
                        offset,
                        "rounds are missing before the file",
                    ));
                }
                let begun_at = self.checkpoint(record.payload, record.kind, offset)?;
                self.inner.files.push_back(OpenFile {
                    number: self.number,
                    file: file.clone(),
                    begun_at,
                });
                begun = true;
            }
            self.inner.sequence = record.sequence;
            offset = aligned(offset + record.bytes as u64);
        }
        if let Some(later) = later_record(self.number, content, offset, self.inner.sequence) {
            return Err(corrupt(
                self.number,
                offset,
                &format!("whole records follow at {later}"),
            ));
        }
        self.inner.offset = offset;
        Ok(begun)
    }

    fn checkpoint(
        &mut self,
        payload: &[u8],
        kind: u16,
        offset: u64,
    ) -> Result<BTreeMap<GroupId, LogEnd>, LogError> {
        if kind != CHECKPOINT_RECORD {
            return Err(corrupt(
                self.number,
                offset,
                "the file does not begin with a checkpoint",
            ));
        }
        let checkpoint: Checkpoint = minicbor::decode(payload)
            .map_err(|error| corrupt(self.number, offset, &error.to_string()))?;
        let first_file = self.inner.files.is_empty();
        for (group, (hard, end)) in &checkpoint.groups {
            let files = self.log.clone();
            let log = self
                .groups
                .entry(*group)
                .or_insert_with(|| GroupLog::new(*group, files, *end));
            if first_file {
                log.set_hard(*hard);
            }
        }
        // A group that is not named has left the disk before.
        self.groups
            .retain(|group, _| checkpoint.groups.contains_key(group));
        Ok(checkpoint
            .groups
            .iter()
            .map(|(group, (_, end))| (*group, *end))
            .collect())
    }

    fn round(&mut self, payload: &[u8], kind: u16, offset: u64) -> Result<(), LogError> {
        if kind != ROUND_RECORD {
            return Err(corrupt(self.number, offset, "a checkpoint in the middle"));
        }
        let round: Round = minicbor::decode(payload)
            .map_err(|error| corrupt(self.number, offset, &error.to_string()))?;
        let place = Place {
            file: self.number,
            offset,
        };
        for part in &round.groups {
            if part.removed {
                self.groups.remove(&part.group);
                continue;
            }
            let files = self.log.clone();
            self.groups
                .entry(part.group)
                .or_insert_with(|| GroupLog::new(part.group, files, LogEnd::default()))
                .replay(part, place);
        }
        note_resets(self.inner, &round);
        Ok(())
    }
}

/// Whether a whole record of this file lies beyond `offset`: then what is bad
/// there is no torn end.
fn later_record(number: u64, content: &[u8], offset: u64, sequence: u64) -> Option<u64> {
    let mut at = aligned(offset + 1);
    while let Some(rest) = content.get(at as usize..).filter(|rest| !rest.is_empty()) {
        if let Ok(Some(record)) = decode_record(rest)
            && record.file == number
            && record.sequence > sequence
        {
            return Some(at);
        }
        at += SECTOR_BYTES;
    }
    None
}
