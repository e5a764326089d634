//! From a stripe of an object to the columns that its fragments get.

use bytes::Bytes;
use holdfast_metadata::protocol::BLOCK_BYTES;
use holdfast_model::Redundancy;

use super::fragment::Column;
use crate::blocks::encode_block;
use crate::error::ClusterError;

/// The columns of a stripe, one for each fragment. With copies each is the
/// stripe itself, whose bytes and checksums they share.
pub(super) fn stripe_columns(
    redundancy: Redundancy,
    stripe: Bytes,
) -> Result<Vec<Column>, ClusterError> {
    check_supported(redundancy)?;
    let column: Column = column_blocks(stripe).into();
    Ok(vec![column; redundancy.fragments()])
}

/// Whether this version can make and read such fragments.
pub(crate) fn check_supported(redundancy: Redundancy) -> Result<(), ClusterError> {
    if redundancy.data == 1 {
        Ok(())
    } else {
        Err(ClusterError::Internal(format!(
            "erasure coding ({} + {}) is not supported yet: this version keeps copies",
            redundancy.data, redundancy.parity
        )))
    }
}

fn column_blocks(mut bytes: Bytes) -> Vec<Bytes> {
    let mut blocks = Vec::with_capacity(2 * bytes.len().div_ceil(BLOCK_BYTES));
    while !bytes.is_empty() {
        let block = bytes.split_to(bytes.len().min(BLOCK_BYTES));
        blocks.extend(encode_block(block));
    }
    blocks
}
