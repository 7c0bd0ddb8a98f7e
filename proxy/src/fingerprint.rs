//! Fingerprints: short names of long things, equal for equal things and, as far as chance allows, for no others. Pure.

use ring::digest::{SHA256, digest};

/// The first bytes of SHA-256, 32 at most.
pub(crate) fn fingerprint<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const { assert!(N <= 32, "SHA-256 has 32 bytes") };
    let hash = digest(&SHA256, bytes);
    std::array::from_fn(|index| hash.as_ref()[index])
}
