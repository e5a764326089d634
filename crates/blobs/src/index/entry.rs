//! A fragment's row in the index's files: 52 bytes, which begin with its name
//! so that rows sort as names do.

use holdfast_model::{FragmentId, Generation, GroupId, UploadId};

use crate::index::Location;

/// Bytes of a row.
pub(crate) const ENTRY_BYTES: usize = 52;
/// Bytes of the name that it begins with.
pub(crate) const NAME_BYTES: usize = 23;

/// What a row says of its fragment.
mod state {
    pub(super) const WHOLE: u8 = 0;
    pub(super) const CORRUPT: u8 = 1;
    /// It is not here any more; in the journal alone.
    pub(super) const GONE: u8 = 2;
}

/// The name alone.
pub(crate) fn encode_name(id: &FragmentId) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    let parts = id.group.0.to_be_bytes().into_iter();
    let parts = parts
        .chain(*id.upload.as_bytes())
        .chain(id.chunk.to_be_bytes())
        .chain([id.index]);
    for (to, from) in name.iter_mut().zip(parts) {
        *to = from;
    }
    name
}

/// Appends a row.
pub(crate) fn encode_entry(id: &FragmentId, at: Option<&Location>, to: &mut Vec<u8>) {
    to.extend_from_slice(&encode_name(id));
    let gone = Location::default();
    let (state, at) = match at {
        Some(at) if at.corrupt => (state::CORRUPT, at),
        Some(at) => (state::WHOLE, at),
        None => (state::GONE, &gone),
    };
    to.push(state);
    for number in [at.segment, at.offset, at.max_bytes, at.bytes, at.checksum] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    to.extend_from_slice(&at.generation.0.to_le_bytes());
}

/// Reads a row; `None` for what is none.
pub(crate) fn decode_entry(row: &[u8]) -> Option<(FragmentId, Option<Location>)> {
    let mut rest = row;
    let id = decode_id(&mut rest)?;
    let [state] = take(&mut rest)?;
    let mut number = || take(&mut rest).map(u32::from_le_bytes);
    let at = Location {
        segment: number()?,
        offset: number()?,
        max_bytes: number()?,
        bytes: number()?,
        checksum: number()?,
        corrupt: state == state::CORRUPT,
        generation: Generation(u64::from_le_bytes(take(&mut rest)?)),
    };
    match state {
        state::WHOLE | state::CORRUPT => Some((id, Some(at))),
        state::GONE => Some((id, None)),
        _ => None,
    }
}

/// The name alone, from the front of a row.
pub(crate) fn decode_id(row: &mut &[u8]) -> Option<FragmentId> {
    Some(FragmentId {
        group: GroupId(u16::from_be_bytes(take(row)?)),
        upload: UploadId::from_bytes(take(row)?),
        chunk: u32::from_be_bytes(take(row)?),
        index: u8::from_be_bytes(take(row)?),
    })
}

fn take<const N: usize>(row: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = row.split_first_chunk::<N>()?;
    *row = rest;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (FragmentId, Location) {
        let id = FragmentId {
            group: GroupId(0x0102),
            upload: UploadId::from_bytes([3; 16]),
            chunk: 0x0405_0607,
            index: 8,
        };
        let at = Location {
            segment: 9,
            offset: 4096,
            max_bytes: 10,
            bytes: 11,
            checksum: 12,
            corrupt: true,
            generation: Generation(13),
        };
        (id, at)
    }

    #[test]
    fn rows_are_what_earlier_releases_wrote() {
        let (id, at) = sample();
        let mut row = Vec::new();
        encode_entry(&id, Some(&at), &mut row);
        encode_entry(&id, None, &mut row);
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = "01020303030303030303030303030303030304050607 08".replace(' ', "");
        let rest = "01090000000010000 00a0000000b0000000c0000000d00000000000000".replace(' ', "");
        let gone = format!("02{}", "00".repeat(28));
        assert_eq!(hex, format!("{name}{rest}{name}{gone}"));
        assert_eq!(decode_entry(&row[..ENTRY_BYTES]), Some((id, Some(at))));
        assert_eq!(decode_entry(&row[ENTRY_BYTES..]), Some((id, None)));
    }

    #[test]
    fn rows_sort_as_names_do() {
        let (id, at) = sample();
        let mut names = vec![id];
        names.push(FragmentId { index: 9, ..id });
        names.push(FragmentId { chunk: 1, ..id });
        let group = GroupId(0xff);
        names.push(FragmentId { group, ..id });
        let upload = UploadId::from_bytes([4; 16]);
        names.push(FragmentId { upload, ..id });
        let row = |id: &FragmentId| {
            let mut row = Vec::new();
            encode_entry(id, Some(&at), &mut row);
            row
        };
        for one in &names {
            for other in &names {
                assert_eq!(one.cmp(other), row(one).cmp(&row(other)));
            }
        }
    }
}
