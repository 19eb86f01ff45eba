//! Free address space for dom0: where Linux may map pages of other domains and its grant table.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::addr::{Pa, PaRange};
use crate::platform::tree::Tree;
use crate::platform::{Platform, PlatformError, address_cells, merge, size_cells, sorted, subtract};

const BLOCK: u64 = 2 << 20;
/// Smallest extended region worth naming: Linux takes such space in sections of 128 MiB, and half of one may join
/// with nothing.
const MIN_EXTENDED: u64 = 128 << 20;
/// Most extended regions named.
const MAX_EXTENDED: usize = 16;

/// Holes in dom0's intermediate physical space, which is 1:1 with the physical one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestSpace {
    /// Where dom0 maps its grant table.
    pub grant_table: PaRange,
    /// Where dom0 maps other domains' pages; may be empty.
    pub extended: Vec<PaRange>,
}

/// Chooses the grant-table window (`grant_size` bytes, rounded up to 2 MiB) and the extended regions among addresses that
/// neither RAM nor any described device uses, below 2 to the power of `ipa_bits`. `None` where there is no hole for the
/// window.
pub fn free_address_space(
    tree: &Tree<'_>,
    platform: &Platform,
    ipa_bits: u32,
    grant_size: u64,
) -> Result<Option<GuestSpace>, PlatformError> {
    let root = tree.root();
    // `/hypervisor` gives the regions in the root's cells.
    let bits = if address_cells(root)? < 2 { ipa_bits.min(32) } else { ipa_bits };
    let limit = 1_u64.checked_shl(bits).unwrap_or(u64::MAX) & !(BLOCK - 1);
    let largest = if size_cells(root)? < 2 { (1 << 32) - BLOCK } else { limit };
    let mut used = platform.ram.clone();
    used.extend(&platform.occupied);
    used.extend(platform.reserved.iter().map(|reserved| reserved.range));
    // Page 0 stays free, so that a null pointer never means something.
    used.push(PaRange { start: Pa(0), end: Pa(BLOCK) });
    let block_outer = |range: &PaRange| PaRange {
        start: Pa(range.start.0 & !(BLOCK - 1)),
        end: Pa(range.end.0.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)),
    };
    let used: Vec<PaRange> = used.iter().map(block_outer).collect();
    let holes = subtract(&[PaRange { start: Pa(0), end: Pa(limit) }], &merge(used));
    let window = grant_size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
    let Some(hole) = holes.iter().find(|hole| hole.size() >= window) else { return Ok(None) };
    let grant_table = PaRange { start: hole.start, end: hole.start.offset(window) };
    let mut extended = subtract(&holes, &[grant_table]);
    extended.retain(|hole| hole.size() >= MIN_EXTENDED);
    for hole in &mut extended {
        hole.end = Pa(hole.end.0.min(hole.start.0.saturating_add(largest)));
    }
    let by_size = sorted(extended.iter().map(|hole| (Reverse(hole.size()), *hole)).collect());
    let extended = sorted(by_size.into_iter().take(MAX_EXTENDED).map(|(_, hole)| hole).collect());
    Ok(Some(GuestSpace { grant_table, extended }))
}
