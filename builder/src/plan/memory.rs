//! Where in RAM the boot script puts what it loads.

use crate::error::{Error, Result};
use serde::Serialize;

/// A range of physical memory that is in use while the board boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// What is there.
    pub what: String,
    /// The first physical address.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// Why it is where it is.
    pub why: String,
}

impl Region {
    /// The first address behind the region. Ranges that would pass 2^64 end there.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// Something that needs a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub what: String,
    /// How much memory it takes, in bytes.
    pub size: u64,
    /// The alignment of its place: a power of two.
    pub alignment: u64,
    /// The distance of its first byte from an aligned address, as the arm64 Image's `text_offset`.
    pub offset: u64,
    /// Why it takes that much, or has that alignment.
    pub why: String,
}

/// Places `wanted`, in their order, into the RAM from `base` to `end`, each as low as it goes, around `fixed`.
///
/// The low end keeps the largest free part of RAM in one piece: firmware sits at the very top.
///
/// # Errors
///
/// Fixed regions that overlap or are outside RAM, and something that has no room.
pub fn place(base: u64, end: u64, fixed: &[Region], wanted: &[Wanted]) -> Result<Vec<Region>> {
    let mut regions = fixed.to_vec();
    check(base, end, &regions)?;
    for item in wanted {
        let start = first_fit(base, end, &regions, item).ok_or_else(|| {
            Error::new(format!(
                "no room in RAM for the {}: {} KiB at a multiple of {:#x}, from {base:#x} to {end:#x}",
                item.what,
                item.size.div_ceil(1024),
                item.alignment
            ))
            .help("give the machine more memory with --memory, or make the ramdisk smaller")
        })?;
        regions.push(Region { what: item.what.clone(), start, size: item.size, why: item.why.clone() });
    }
    regions.sort_by_key(|region| region.start);
    // Placed by one piece of code, checked by another.
    check(base, end, &regions)?;
    Ok(regions)
}

/// The lowest place for `item`: it begins at `base` or behind one of `taken`, aligned.
fn first_fit(base: u64, end: u64, taken: &[Region], item: &Wanted) -> Option<u64> {
    taken
        .iter()
        .map(Region::end)
        .chain([base])
        .filter_map(|from| aligned(from, item))
        .filter(|start| {
            let candidate =
                Region { what: String::new(), start: *start, size: item.size, why: String::new() };
            start.checked_add(item.size).is_some_and(|behind| behind <= end)
                && !taken.iter().any(|region| region.overlaps(&candidate))
        })
        .min()
}

/// The first address at or above `from` that is `item.offset` behind a multiple of `item.alignment`.
fn aligned(from: u64, item: &Wanted) -> Option<u64> {
    if !item.alignment.is_power_of_two() {
        return None;
    }
    let below = from.saturating_sub(item.offset);
    below.checked_next_multiple_of(item.alignment)?.checked_add(item.offset)
}

/// Refuses regions that overlap one another or leave RAM.
///
/// # Errors
///
/// The first such region, with what it overlaps.
pub fn check(base: u64, end: u64, regions: &[Region]) -> Result<()> {
    let show = |region: &Region| format!("{} ({:#x} to {:#x})", region.what, region.start, region.end());
    for (index, region) in regions.iter().enumerate() {
        if region.start < base || region.start.checked_add(region.size).is_none_or(|behind| behind > end) {
            return Err(Error::new(format!("{} is outside RAM, {base:#x} to {end:#x}", show(region)))
                .help("give the machine more memory with --memory, or correct the board's description"));
        }
        if let Some(other) = regions.iter().take(index).find(|other| other.overlaps(region)) {
            return Err(Error::new(format!("{} overlaps {}", show(region), show(other)))
                .help("give the machine more memory with --memory, or correct the board's description"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(what: &str, start: u64, size: u64) -> Region {
        Region { what: what.into(), start, size, why: String::new() }
    }

    fn wanted(size: u64, alignment: u64, offset: u64) -> Wanted {
        Wanted { what: "kernel".into(), size, alignment, offset, why: String::new() }
    }

    #[test]
    fn overlapping_fixed_regions_are_refused_by_name() {
        let fixed = [region("script", 0x1000, 0x1000), region("tree", 0x1fff, 1)];
        let error = place(0, 0x10000, &fixed, &[]).unwrap_err();
        assert_eq!(error.what(), "tree (0x1fff to 0x2000) overlaps script (0x1000 to 0x2000)");
    }

    #[test]
    fn regions_outside_ram_are_refused() {
        for outside in [region("x", 0xfff, 2), region("x", 0x10000, 1), region("x", u64::MAX, 2)] {
            assert!(place(0x1000, 0x10000, &[outside], &[]).unwrap_err().what().contains("outside RAM"));
        }
    }

    #[test]
    fn things_go_low_around_what_is_fixed() {
        let fixed = [region("tree", 0x0, 0x1000), region("u-boot", 0xe000, 0x2000)];
        let regions =
            place(0, 0x10000, &fixed, &[wanted(0x1800, 0x1000, 0x80), wanted(0x100, 0x100, 0)]).unwrap();
        let starts: Vec<u64> = regions.iter().map(|region| region.start).collect();
        assert_eq!(starts, [0, 0x1080, 0x2900, 0xe000]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let fixed = [region("u-boot", 0x8000, 0x8000)];
        let error = place(0, 0x10000, &fixed, &[wanted(0x8001, 1, 0)]).unwrap_err();
        assert!(error.what().starts_with("no room in RAM for the kernel"), "{error}");
    }

    proptest! {
        #[test]
        fn a_plan_never_overlaps_and_never_leaves_ram(
            base in 0_u64..1 << 40,
            pages in 1_u64..4096,
            fixed in prop::collection::vec((0_u64..4096, 1_u64..256), 0..4),
            sizes in prop::collection::vec((1_u64..1 << 22, 0_u32..22, 0_u64..1 << 20), 0..6),
        ) {
            let end = base + pages * 4096;
            let fixed: Vec<Region> = fixed.iter().map(|(at, size)| region("fixed", base + at * 4096, size * 4096)).collect();
            let wanted: Vec<Wanted> = sizes.iter().map(|(size, shift, offset)| wanted(*size, 1 << shift, *offset)).collect();
            if let Ok(regions) = place(base, end, &fixed, &wanted) {
                prop_assert_eq!(regions.len(), fixed.len() + wanted.len());
                for (index, a) in regions.iter().enumerate() {
                    prop_assert!(a.start >= base && a.start + a.size <= end);
                    for b in &regions[..index] {
                        prop_assert!(a.start + a.size <= b.start || b.start + b.size <= a.start);
                    }
                }
                for item in &wanted {
                    let placed = regions.iter().any(|region| {
                        region.size == item.size && region.start.wrapping_sub(item.offset) % item.alignment == 0
                    });
                    prop_assert!(placed);
                }
            }
        }

        #[test]
        fn what_overlaps_is_always_refused(start in 0_u64..1000, size in 1_u64..1000, inside in 0_u64..1000) {
            let other = start + inside % size;
            prop_assert!(check(0, 4096, &[region("a", start, size), region("b", other, 1)]).is_err());
        }

        #[test]
        fn no_numbers_make_it_panic(base: u64, end: u64, start: u64, size: u64, alignment: u64, offset: u64) {
            let _ = place(base, end, &[region("a", start, size)], &[wanted(size, alignment, offset)]);
        }
    }
}
