//! Where the others were found last: the file `peers`.
//!
//! A node that carries no member of group 0 has no copy of the cluster's state.
//! Started again without a setting that names others, it would know nobody to
//! ask, and answer nobody. The file is a hint: addresses of a layout that may
//! have changed, tried like any others. One that cannot be read is as none.

use std::collections::BTreeSet;
use std::io;

use holdfast_model::ClusterState;
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::{Address, Disk};
use minicbor::{Decode, Encode};

const FILE: &str = "peers";
/// The version of the format that this release writes.
const VERSION: u32 = 1;

#[derive(Encode, Decode)]
#[cbor(array)]
struct Peers {
    #[n(0)]
    version: u32,
    #[n(1)]
    addresses: Vec<String>,
}

/// The addresses of a state's nodes.
pub fn addresses(state: &ClusterState) -> BTreeSet<Address> {
    let nodes = state.layout.nodes.values();
    nodes.map(|node| Address(node.address.clone())).collect()
}

/// Writes them durably. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn save(disk: &dyn Disk, addresses: &BTreeSet<Address>) -> io::Result<()> {
    replace_file(disk, FILE, &encode(addresses))
}

/// Those that were written last. Blocks.
///
/// # Errors
/// When the disk cannot be read.
pub fn find(disk: &dyn Disk) -> io::Result<BTreeSet<Address>> {
    let Some(bytes) = read_file(disk, FILE)? else {
        return Ok(BTreeSet::new());
    };
    Ok(decode(&bytes).unwrap_or_else(|| {
        tracing::warn!("the file peers cannot be read: the others are found by settings alone");
        BTreeSet::new()
    }))
}

fn encode(addresses: &BTreeSet<Address>) -> Vec<u8> {
    let body = holdfast_metadata::protocol::encode(&Peers {
        version: VERSION,
        addresses: addresses.iter().map(|address| address.0.clone()).collect(),
    });
    let mut bytes = crc32c::crc32c(&body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<BTreeSet<Address>> {
    let (check, body) = bytes.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*check) != crc32c::crc32c(body) {
        return None;
    }
    let peers: Peers = minicbor::decode(body).ok()?;
    (peers.version == VERSION).then(|| peers.addresses.into_iter().map(Address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> BTreeSet<Address> {
        ["a:1", "b:2"].map(|text| Address(text.into())).into()
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let golden = b"\x0bF\x1a\x82\x82\x01\x82ca:1cb:2";
        assert_eq!(
            encode(&some()).escape_ascii().to_string(),
            golden.escape_ascii().to_string()
        );
        assert_eq!(decode(&encode(&some())), Some(some()));
    }

    #[test]
    fn what_is_damaged_or_newer_is_as_none() {
        let mut bytes = encode(&some());
        bytes[8] ^= 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(b"abc"), None);
    }
}
