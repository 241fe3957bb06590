//! How often the node started: the bytes of `boot`.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0      4  boot epoch
//!      4     16  incarnation, as in `identity`
//! ```

use crate::node::two_copies::FactKind;

/// The file of the boot epoch.
pub(super) const BOOT: FactKind = FactKind { name: "boot", magic: *b"CertBoot", version: 1 };

/// The bytes of a boot epoch; the incarnation shows whose it is.
pub(super) fn encode_boot(epoch: u32, incarnation: u128) -> Vec<u8> {
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    bytes
}

/// The epoch and the incarnation that `bytes` hold; `None` when their number is wrong.
pub(super) fn decode_boot(bytes: &[u8]) -> Option<(u32, u128)> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let epoch = u32::from_le_bytes(bytes[..4].try_into().ok()?);
    Some((epoch, u128::from_le_bytes(bytes[4..].try_into().ok()?)))
}
