//! Where things lie in a guest's address space: its memory, its devices (`arch-arm.h`), and in its memory kernel, RAM
//! disk and device tree.
//!
//! ```text
//!   0x0300_0000 GIC   0x2200_0000 UART   0x3800_0000 grant table   0x3900_0000 magic pages
//!   0x4000_0000 RAM, 3 GiB at most       0x2_0000_0000 the rest of it
//!
//!   RAM: | (a zImage unpacks itself here) | kernel | RAM disk | device tree | free ...
//! ```

use alloc::vec::Vec;

use vambrace_abi::arch_arm::*;

use super::error::GuestError;
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::image::{KernelImage, Kind};
use crate::platform::subtract;

/// What a 64-bit kernel wants to be aligned to, and what a device tree must not cross.
const BLOCK: u64 = 2 << 20;
/// A zImage takes the start of the 128 MiB that it runs in for the start of memory (arch/arm/boot/compressed/head.S).
const ZIMAGE_WINDOW: u64 = 128 << 20;
/// What a 32-bit kernel maps of its memory from the start, at the least: its tree and its RAM disk lie there.
const LOW_MEMORY: u64 = 512 << 20;
/// Where a zImage is put.
const ZIMAGE_ALIGN: u64 = 64 << 10;

/// A range of a guest's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bank {
    /// First byte.
    pub(super) at: Ipa,
    /// Length in bytes.
    pub(super) size: u64,
}

impl Bank {
    fn end(self) -> u64 {
        self.at.0.saturating_add(self.size)
    }

    /// The same numbers as if they were physical.
    pub(super) fn as_range(self) -> PaRange {
        PaRange { start: Pa(self.at.0), end: Pa(self.end()) }
    }
}

/// What every guest has besides memory, by the layout: what it is, its first byte in the guest's address space, and its
/// length in bytes. A GICv2 lies within the place of a GICv3's distributor.
pub const DEVICES: [(&str, u64, u64); 5] = [
    ("interrupt controller", GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICD_SIZE),
    ("redistributors", GUEST_GICV3_GICR0_BASE, GUEST_GICV3_GICR0_SIZE),
    ("UART", GUEST_PL011_BASE, GUEST_PL011_SIZE),
    ("grant table", GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE),
    ("magic pages", GUEST_MAGIC_BASE, GUEST_MAGIC_SIZE),
];

/// Refuses a range of a guest's address space that lies on its devices.
pub(super) fn check_clear(what: &'static str, bank: Bank) -> Result<(), GuestError> {
    let range = bank.as_range();
    for (_, start, size) in DEVICES {
        if PaRange::new(Pa(start), size).is_some_and(|device| device.overlaps(range)) {
            return Err(GuestError::Place { what, range, why: "lies on a device that every guest has" });
        }
    }
    Ok(())
}

/// Where the memory of a guest with `memory` bytes lies: first bytes in its address space, and lengths in bytes. `None`
/// where there is no place for so much.
pub fn memory(memory: u64) -> Option<impl Iterator<Item = (u64, u64)>> {
    let first = memory.min(GUEST_RAM0_SIZE);
    let second = memory - first;
    let places = [(GUEST_RAM0_BASE, first), (GUEST_RAM1_BASE, second)];
    (second <= GUEST_RAM1_SIZE).then(|| places.into_iter().filter(|(_, size)| *size > 0))
}

/// The banks of a guest with `memory` bytes.
pub(super) fn banks(memory: u64) -> Result<Vec<Bank>, GuestError> {
    let places = self::memory(memory).ok_or(GuestError::OutOfMemory)?;
    Ok(places.map(|(at, size)| Bank { at: Ipa(at), size }).collect())
}

/// Smallest hole worth naming, as in dom0's tree.
const MIN_EXTENDED: u64 = 128 << 20;

/// Holes in a guest's two places for memory where it may map other domains' pages, without what is `taken`, below 2 to
/// the power of `ipa_bits`.
pub(super) fn extended_regions(taken: &[Bank], ipa_bits: u8) -> Vec<Bank> {
    let end = 1_u64.checked_shl(ipa_bits.into()).unwrap_or(u64::MAX);
    let place = |at: u64, size: u64| PaRange { start: Pa(at), end: Pa(end.min(at + size)) };
    let all = [place(GUEST_RAM0_BASE, GUEST_RAM0_SIZE), place(GUEST_RAM1_BASE, GUEST_RAM1_SIZE)];
    let block = |bank: &Bank| PaRange {
        start: Pa(bank.at.0 & !(BLOCK - 1)),
        end: Pa(bank.end().checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)),
    };
    let taken: Vec<PaRange> = taken.iter().map(block).collect();
    let holes = subtract(&all, &taken).into_iter().filter(|hole| hole.size() >= MIN_EXTENDED);
    holes.map(|hole| Bank { at: Ipa(hole.start.0), size: hole.size() }).collect()
}

/// Where a guest finds what it is started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Places {
    pub(super) kernel: Ipa,
    pub(super) ramdisk: Ipa,
    pub(super) tree: Ipa,
}

/// Places kernel, RAM disk and tree (lengths in bytes; 0 for no RAM disk) in the first bank.
pub(super) fn place(bank: Bank, kernel: &KernelImage, ramdisk: u64, tree: u64) -> Result<Places, GuestError> {
    let up = |value: u64, align: u64| value.checked_next_multiple_of(align);
    let no_kernel = GuestError::TooSmall("kernel", kernel.memory_size);
    let (start, limit) = match kernel.kind {
        Kind::Arm64 => {
            let start = up(bank.at.0, BLOCK).and_then(|base| base.checked_add(kernel.text_offset));
            (start, bank.end())
        }
        Kind::Zimage { span } => {
            let aligned = up(bank.at.0, ZIMAGE_WINDOW).filter(|base| *base < bank.end());
            let base = aligned.or_else(|| up(bank.at.0, BLOCK));
            let start = base.and_then(|base| up(base.checked_add(span)?, ZIMAGE_ALIGN));
            let end = base.map_or(0, |base| base.saturating_add(LOW_MEMORY)).min(bank.end());
            (start, end.min(u64::from(u32::MAX)))
        }
    };
    let Some(start) = start else { return Err(no_kernel) };
    let kernel_end = start.checked_add(kernel.memory_size).filter(|end| *end <= limit).ok_or(no_kernel)?;
    let fit = |what, from: u64, size: u64, align: u64| {
        let at = up(from, align).filter(|at| at.checked_add(size).is_some_and(|end| end <= limit));
        at.ok_or(GuestError::TooSmall(what, size))
    };
    let ramdisk_at = fit("RAM disk", kernel_end, ramdisk, PAGE_SIZE)?;
    // A multiple of its own size, rounded up to a power of two, crosses no larger boundary.
    let align = tree.max(PAGE_SIZE).checked_next_power_of_two().unwrap_or(BLOCK);
    let tree_at = fit("device tree", ramdisk_at.saturating_add(ramdisk), tree, align)?;
    Ok(Places { kernel: Ipa(start), ramdisk: Ipa(ramdisk_at), tree: Ipa(tree_at) })
}

/// Whether two banks share a byte.
pub(super) fn overlap(a: Bank, b: Bank) -> bool {
    a.as_range().overlaps(b.as_range())
}

/// `size` in whole pages.
pub(super) const fn page_count(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Packing;

    const MIB: u64 = 1 << 20;

    fn kernel(kind: Kind, memory_size: u64) -> KernelImage {
        let packing = Packing::Plain { offset: 0 };
        KernelImage { kind, packing, text_offset: 0x8_0000, memory_size, file_size: memory_size }
    }

    #[test]
    fn memory_goes_above_when_the_first_bank_is_full() {
        assert_eq!(banks(MIB).unwrap(), [Bank { at: Ipa(0x4000_0000), size: MIB }]);
        let both = banks(4 << 30).unwrap();
        assert_eq!(both[1], Bank { at: Ipa(0x2_0000_0000), size: 1 << 30 });
        assert!(banks(u64::MAX).is_err());
    }

    #[test]
    fn holes_are_whole_blocks_beside_memory() {
        let taken = [
            Bank { at: Ipa(0x4000_0000), size: 100 * MIB + 4096 },
            Bank { at: Ipa(0xc000_0000), size: 4096 },
        ];
        let holes = extended_regions(&taken, 36);
        assert_eq!(holes[0], Bank { at: Ipa(0x4660_0000), size: 0xc000_0000 - 0x4660_0000 });
        assert_eq!(holes[1], Bank { at: Ipa(0xc020_0000), size: 0x1_0000_0000 - 0xc020_0000 });
        assert_eq!(holes[2], Bank { at: Ipa(0x2_0000_0000), size: (1 << 36) - 0x2_0000_0000 });
        assert_eq!(extended_regions(&taken, 32).len(), 2);
    }

    #[test]
    fn an_image_is_followed_by_ramdisk_and_tree() {
        let bank = Bank { at: Ipa(0x4000_0000), size: 64 * MIB };
        let image = kernel(Kind::Arm64, 30 * MIB);
        let places = place(bank, &image, 3 * MIB + 5, 0x1_0000).unwrap();
        assert_eq!(places.kernel, Ipa(0x4008_0000));
        assert_eq!((places.ramdisk, places.tree), (Ipa(0x41e8_0000), Ipa(0x4219_0000)));
        for (ramdisk, what) in [(34 * MIB, "RAM disk"), (u64::MAX, "RAM disk"), (33 * MIB, "device tree")] {
            let failed = place(bank, &image, ramdisk, 2 * MIB);
            assert!(matches!(failed, Err(GuestError::TooSmall(at, _)) if at == what), "{ramdisk} {failed:?}");
        }
        let large = kernel(Kind::Arm64, u64::MAX);
        assert!(matches!(place(bank, &large, 0, 0), Err(GuestError::TooSmall("kernel", _))));
    }

    #[test]
    fn a_zimage_lies_behind_what_it_unpacks() {
        let bank = Bank { at: Ipa(0x4000_0000), size: 128 * MIB };
        let span = 20 * MIB + 3;
        let mut zimage = kernel(Kind::Zimage { span }, 12 * MIB);
        zimage.text_offset = 0;
        let places = place(bank, &zimage, MIB, 0x1_0000).unwrap();
        assert_eq!(places.kernel, Ipa(0x4141_0000));
        assert!(places.ramdisk.0 >= 0x4141_0000 + 12 * MIB && places.tree.0 > places.ramdisk.0);
        // More than a 32-bit kernel maps at first is of no use.
        let large = Bank { size: 2 << 30, ..bank };
        assert!(matches!(place(large, &zimage, 600 * MIB, 0), Err(GuestError::TooSmall("RAM disk", _))));
    }

    #[test]
    fn devices_keep_their_places() {
        let at = |at, size| check_clear("x", Bank { at: Ipa(at), size });
        assert!(at(0x4000_0000, 1 << 30).is_ok() && at(0x1000_0000, 0x1000_0000).is_ok());
        assert!(at(GUEST_GICC_BASE + GUEST_GICC_SIZE - 0x1000, 0x1000).is_err(), "a GICv2's CPU interface");
        for (_, start, size) in DEVICES {
            assert!(at(start, 0x1000).is_err() && at(start + size - 0x1000, 0x1000).is_err());
            assert!(at(0, u64::MAX).is_err());
        }
    }
}
