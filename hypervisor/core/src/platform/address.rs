//! Registers of a node as physical addresses: cells, and translation through the buses above (Devicetree
//! Specification 0.4, sections 2.3.5, 2.3.6 and 2.3.8).

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::error::{PlatformError, Problem};
use super::tree::Node;
use crate::addr::{Pa, PaRange};

/// Most entries accepted in one `reg` or `ranges`, so that translation takes bounded time.
const MAX_ENTRIES: usize = 256;
/// Widest address or size, in cells: PCI's is 3, and 4 fit in 128 bits.
const MAX_CELLS: u32 = 4;

/// `#address-cells` that a node sets for its children; 2 where it says nothing.
pub(crate) fn address_cells(bus: Node<'_, '_>) -> Result<u32, PlatformError> {
    cell_count(bus, "#address-cells", 2)
}

/// `#size-cells` that a node sets for its children; 1 where it says nothing.
pub(crate) fn size_cells(bus: Node<'_, '_>) -> Result<u32, PlatformError> {
    cell_count(bus, "#size-cells", 1)
}

fn cell_count(bus: Node<'_, '_>, name: &'static str, default: u32) -> Result<u32, PlatformError> {
    let count = bus.cell(name)?.unwrap_or(default);
    if count > MAX_CELLS { Err(bus.error(name, Problem::Cells(count))) } else { Ok(count) }
}

/// A number of `cells` cells from the front of `words`; `words` holds enough of them.
fn take(words: &mut impl Iterator<Item = u32>, cells: u32) -> u128 {
    words.take(cells as usize).fold(0, |value, word| value << 32 | u128::from(word))
}

/// Splits a property into entries of the given cell counts, each entry as numbers.
pub(crate) fn entries<const N: usize>(
    node: Node<'_, '_>,
    name: &'static str,
    cells: [u32; N],
) -> Result<Vec<[u128; N]>, PlatformError> {
    let words = node.cells(name)?;
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let per_entry = cells.iter().sum::<u32>() as usize;
    if per_entry == 0 || !words.len().is_multiple_of(per_entry) {
        let (have, entry) = (words.len() as u64 * 4, per_entry as u64 * 4);
        return Err(node.error(name, Problem::Length { have, entry }));
    }
    if words.len() / per_entry > MAX_ENTRIES {
        return Err(node.error(name, Problem::TooLarge { what: "entries", limit: MAX_ENTRIES as u64 }));
    }
    Ok(words
        .chunks_exact(per_entry)
        .map(|entry| {
            let mut entry = entry.iter().copied();
            cells.map(|count| take(&mut entry, count))
        })
        .collect())
}

/// The entries of `reg` as (address, size) on the node's own bus, not translated. Empty where there is no `reg`.
pub(crate) fn bus_registers(node: Node<'_, '_>) -> Result<Vec<[u128; 2]>, PlatformError> {
    let Some(bus) = node.parent() else { return Ok(Vec::new()) };
    entries(node, "reg", [address_cells(bus)?, size_cells(bus)?])
}

/// The entries of `reg` as physical ranges, in their order. An entry of size 0 stays, empty.
pub(crate) fn registers(node: Node<'_, '_>) -> Result<Vec<PaRange>, PlatformError> {
    let Some(bus) = node.parent() else { return Ok(Vec::new()) };
    bus_registers(node)?
        .into_iter()
        .map(|[address, size]| to_physical(node, "reg", bus, address, size))
        .collect()
}

/// Where the first registers of a node are, if they have `size` bytes or more (physical).
pub(crate) fn block(node: Node<'_, '_>, size: u64) -> Result<Option<Pa>, PlatformError> {
    Ok(registers(node)?.first().filter(|range| range.size() >= size).map(|range| range.start))
}

/// The windows of a bus, as its `ranges` have them, as physical ranges.
pub(crate) fn windows(node: Node<'_, '_>) -> Result<Vec<PaRange>, PlatformError> {
    let Some(above) = node.parent() else { return Ok(Vec::new()) };
    let cells = [address_cells(node)?, address_cells(above)?, size_cells(node)?];
    let windows = entries(node, "ranges", cells)?;
    windows.into_iter().map(|[_, address, size]| to_physical(node, "ranges", above, address, size)).collect()
}

/// Whether addresses on this bus reach the CPU: the bus and all above it have `ranges`, or it is the root.
pub(crate) fn is_memory_mapped(bus: Node<'_, '_>) -> bool {
    let mut at = bus;
    while let Some(parent) = at.parent() {
        if !at.has("ranges") {
            return false;
        }
        at = parent;
    }
    true
}

/// Translates `address`, given on `bus`, to a physical range of `size` bytes. `node` and `property` are for the error.
pub(crate) fn to_physical(
    node: Node<'_, '_>,
    property: &'static str,
    bus: Node<'_, '_>,
    address: u128,
    size: u128,
) -> Result<PaRange, PlatformError> {
    let mut address = address;
    let mut bus = bus;
    while let Some(parent) = bus.parent() {
        let lost = || node.error(property, Problem::Untranslatable(address as u64));
        let ranges = bus.property("ranges").ok_or_else(lost)?;
        if !ranges.is_empty() {
            let cells = [address_cells(bus)?, address_cells(parent)?, size_cells(bus)?];
            address = entries(bus, "ranges", cells)?
                .into_iter()
                .find_map(|[child, above, length]| {
                    let offset = address.checked_sub(child)?;
                    // The first byte decides, as in Linux: some trees have registers that go on in the next window.
                    (offset < length).then(|| above.checked_add(offset))?
                })
                .ok_or_else(lost)?;
        }
        bus = parent;
    }
    let overflow = || node.error(property, Problem::Overflow);
    let start = u64::try_from(address).map_err(|_| overflow())?;
    let size = u64::try_from(size).map_err(|_| overflow())?;
    PaRange::new(Pa(start), size).ok_or_else(overflow)
}

/// Sorts by a heap, which is a tenth of the code of the library's sort; lists here are short.
pub(crate) fn sorted<T: Ord>(items: Vec<T>) -> Vec<T> {
    BinaryHeap::from(items).into_sorted_vec()
}

/// Sorts ranges and joins those that touch or overlap; empty ones are dropped.
pub fn merge(mut ranges: Vec<PaRange>) -> Vec<PaRange> {
    ranges.retain(|range| !range.is_empty());
    let mut merged: Vec<PaRange> = Vec::with_capacity(ranges.len());
    for range in sorted(ranges) {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `ranges` lies in no range of `holes`. Both may be unsorted; the result is sorted and merged.
pub fn subtract(ranges: &[PaRange], holes: &[PaRange]) -> Vec<PaRange> {
    let holes = merge(holes.to_vec());
    let mut left = Vec::new();
    for range in merge(ranges.to_vec()) {
        let mut start = range.start;
        // Holes that end before the range cannot cut it.
        let first = holes.partition_point(|hole| hole.end <= range.start);
        for hole in holes.iter().skip(first).take_while(|hole| hole.start < range.end) {
            if start < hole.start {
                left.push(PaRange { start, end: hole.start });
            }
            start = start.max(hole.end);
        }
        if start < range.end {
            left.push(PaRange { start, end: range.end });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn range(start: u64, end: u64) -> PaRange {
        PaRange { start: Pa(start), end: Pa(end) }
    }

    #[test]
    fn merging_joins_neighbours() {
        let merged = merge(vec![range(8, 9), range(0, 4), range(4, 6), range(5, 7), range(3, 3)]);
        assert_eq!(merged, [range(0, 7), range(8, 9)]);
    }

    #[test]
    fn subtracting_cuts_holes() {
        let left = subtract(&[range(0, 10), range(20, 30)], &[range(3, 4), range(8, 22), range(29, 40)]);
        assert_eq!(left, [range(0, 3), range(4, 8), range(22, 29)]);
        assert_eq!(subtract(&[range(0, 10)], &[range(0, 10)]), []);
        assert_eq!(subtract(&[range(5, 10)], &[range(0, 5), range(10, 12)]), [range(5, 10)]);
    }
}
