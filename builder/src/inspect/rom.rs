//! What boot ROMs load, by its header, and where they look for it on a medium.
//!
//! Allwinner: U-Boot's include/sunxi_image.h. Rockchip: tools/rkcommon.c. i.MX: include/imximage.h. TI: tools/omapimage.h
//! and tools/gpimage-common.c there.

use super::thing::{Cpu, Kind, Thing};
use crate::bytes::{be32_at, has, u16_at, u32_at};

const KIB: u64 = 1024;
/// What an eGON header has at byte 4.
const EGON: &[u8] = b"eGON.BT0";
/// What an eGON header's sum begins with in place of itself.
const STAMP: u32 = 0x5f0a_6c39;
/// No SPL is larger: the chips' own memory is not.
const MOST_SPL: u64 = 1 << 20;

/// A boot ROM, and where it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rom {
    Sunxi,
    Rockchip,
    Imx,
    Ti,
}

impl Rom {
    /// The places where boot ROMs look on a card or eMMC, in bytes.
    pub(super) const PLACES: [(Self, u64); 11] = [
        (Self::Sunxi, 8 * KIB),
        (Self::Sunxi, 128 * KIB),
        (Self::Sunxi, 256 * KIB),
        (Self::Rockchip, 32 * KIB),
        (Self::Imx, KIB),
        (Self::Imx, 32 * KIB),
        (Self::Imx, 33 * KIB),
        (Self::Ti, 0),
        (Self::Ti, 128 * KIB),
        (Self::Ti, 256 * KIB),
        (Self::Ti, 384 * KIB),
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sunxi => "SunXi boot ROM",
            Self::Rockchip => "Rockchip boot ROM",
            Self::Imx => "i.MX boot ROM",
            Self::Ti => "TI boot ROM",
        }
    }

    /// What it would load, if `bytes` begin with that.
    pub(super) fn first_stage(self, bytes: &[u8], size: u64) -> Option<Thing> {
        match self {
            Self::Sunxi => egon(bytes, size),
            Self::Rockchip => rockchip(bytes, size),
            Self::Imx => imx(bytes, size),
            Self::Ti => Mlo::with_table(bytes).map(|mlo| mlo.thing(size)),
        }
    }
}

/// A first stage in a file of its own.
pub(super) fn recognise(bytes: &[u8], size: u64) -> Option<Thing> {
    [Rom::Sunxi, Rom::Rockchip, Rom::Imx, Rom::Ti].into_iter().find_map(|rom| rom.first_stage(bytes, size))
}

/// The first stage for Allwinner's boot ROM that `bytes` begin with, if they do.
pub(crate) fn sunxi_spl(bytes: &[u8]) -> Option<Thing> {
    egon(bytes, bytes.len() as u64)
}

/// Allwinner's SPL: its sum is that of all its words, the sum's own counted as a stamp.
fn egon(bytes: &[u8], size: u64) -> Option<Thing> {
    if !has(bytes, 4, EGON) {
        return None;
    }
    let length = u64::from(u32_at(bytes, 16)?);
    let thing = Thing::new(Kind::Firmware, "SPL for SunXi (eGON)").size(length);
    if !(32..=MOST_SPL).contains(&length) || length % 4 != 0 {
        return Some(thing.size(0).wrong(format!("its header says that it has {length} bytes")));
    }
    let Some(words) = usize::try_from(length).ok().and_then(|length| bytes.get(..length)) else {
        return Some(thing.wrong(format!("it is cut short: {size} bytes of {length}")));
    };
    let sum = words.chunks_exact(4).filter_map(|word| u32_at(word, 0)).fold(0_u32, u32::wrapping_add);
    let stored = u32_at(bytes, 12)?;
    let right = sum.wrapping_sub(stored).wrapping_add(STAMP) == stored;
    Some(if right { thing } else { thing.wrong("its checksum is wrong: the boot ROM passes it by") })
}

/// Rockchip's block of identity: plain in newer chips, else scrambled with a key that everybody has.
fn rockchip(bytes: &[u8], size: u64) -> Option<Thing> {
    const MAGIC: u32 = 0x0ff0_aa55;
    if has(bytes, 0, b"RKNS") {
        // Up to four images: offset in blocks of 512 bytes, and size in the same.
        let images = (0..4).filter_map(|index| u32_at(bytes, 120 + index * 88));
        let end =
            images.map(|image| u64::from(image & 0xffff) + u64::from(image >> 16)).max().unwrap_or(0) * 512;
        let thing = Thing::new(Kind::Firmware, "first stage for Rockchip (RKNS)").cpu(Cpu::Arm64).size(end);
        return Some(if end > size {
            thing.wrong(format!("it is cut short: {size} bytes of {end}"))
        } else {
            thing
        });
    }
    let header = rc4(bytes.get(..512)?);
    if u32_at(&header, 0)? != MAGIC {
        return None;
    }
    let (first, blocks) = (u64::from(u16_at(&header, 12)?), u64::from(u16_at(&header, 506)?));
    let end = (first + u64::from(u16_at(&header, 508)?).max(blocks)) * 512;
    let chip = usize::try_from(first * 512).ok().and_then(|at| bytes.get(at..)?.get(..4));
    let chip =
        chip.filter(|chip| chip.starts_with(b"RK")).map(|chip| String::from_utf8_lossy(chip).into_owned());
    let thing = Thing::new(
        Kind::Firmware,
        format!("first stage for Rockchip ({})", chip.as_deref().unwrap_or("idblock")),
    )
    .size(end);
    Some(if chip.is_none() && end <= bytes.len() as u64 && u32_at(&header, 8) == Some(1) {
        thing.wrong(format!("its code at block {first} has no chip's name: the boot ROM does not start it"))
    } else {
        thing
    })
}

/// RC4 with the key of Rockchip's boot ROMs.
fn rc4(bytes: &[u8]) -> Vec<u8> {
    const KEY: [u8; 16] = [124, 78, 3, 4, 85, 5, 9, 7, 45, 44, 123, 56, 23, 13, 23, 17];
    let mut state: Vec<u8> = (0..=255).collect();
    let mut j = 0_u8;
    for (i, key) in (0..256).zip(KEY.iter().cycle()) {
        j = j.wrapping_add(state[i]).wrapping_add(*key);
        state.swap(i, usize::from(j));
    }
    let (mut i, mut j) = (0_u8, 0_u8);
    let next = bytes.iter().map(|byte| {
        i = i.wrapping_add(1);
        j = j.wrapping_add(state[usize::from(i)]);
        state.swap(usize::from(i), usize::from(j));
        byte ^ state[usize::from(state[usize::from(i)].wrapping_add(state[usize::from(j)]))]
    });
    next.collect()
}

/// NXP's image vector table, or the container of i.MX 8 and 9.
fn imx(bytes: &[u8], size: u64) -> Option<Thing> {
    if has(bytes, 0, &[0xd1, 0x00, 0x20]) && matches!(bytes.get(3), Some(0x40..=0x43)) {
        // The table's own address, and that of the boot data with start and length of the image.
        let (own, data) = (u32_at(bytes, 20)?, u32_at(bytes, 16)?);
        let at = usize::try_from(data.checked_sub(own)?).ok()?;
        let length = u32_at(bytes, at.checked_add(4)?).map(u64::from);
        // It counts what lies before the table as well, the partition table for one.
        let before = u64::from(own.wrapping_sub(u32_at(bytes, at).unwrap_or(own)));
        let length = length.map_or(0, |length| length.saturating_sub(before));
        let thing = Thing::new(Kind::Firmware, "first stage for i.MX (IVT)").size(length);
        return Some(if length > size {
            thing.wrong(format!("it is cut short: {size} bytes of {length}"))
        } else {
            thing
        });
    }
    let length = u64::from(u16_at(bytes, 1)?);
    if bytes.first() == Some(&0) && bytes.get(3) == Some(&0x87) && (16..4096).contains(&length) {
        return Some(
            Thing::new(Kind::Firmware, "first stage for i.MX (container)").cpu(Cpu::Arm64).size(length),
        );
    }
    None
}

/// What TI's boot ROMs load: a table of contents of a sector, a header with size and address, and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mlo {
    /// Whether it has the table; where the ROM reads sectors, it takes nothing without.
    pub(crate) table: bool,
    /// The address that the code is loaded to, and started at.
    pub(crate) address: u64,
    /// The bytes of the code.
    pub(crate) code: u64,
    /// The bytes of the whole.
    pub(crate) size: u64,
}

impl Mlo {
    /// The table's size: one sector.
    const TABLE: usize = 512;
    /// The header's size, which it counts.
    const HEADER: u64 = 8;
    /// The bytes that tell all that is known of one.
    pub(super) const HEADERS: u64 = Self::TABLE as u64 + Self::HEADER;
    /// The chips' own memory, of all that have such a ROM: OMAP3's begins first, DRA7's ends last.
    const MEMORY: std::ops::Range<u64> = 0x4020_0000..0x4038_0000;

    /// The one that `bytes` begin with, by its table: the first entry is for the settings.
    pub(crate) fn with_table(bytes: &[u8]) -> Option<Self> {
        if !has(bytes, 20, b"CHSETTINGS") {
            return None;
        }
        Self::header(bytes.get(Self::TABLE..)?, true)
    }

    /// One without a table that has all of `size` bytes, and begins with `bytes`. Nothing marks it but that its header makes
    /// sense.
    pub(crate) fn without_table(bytes: &[u8], size: u64) -> Option<Self> {
        Self::header(bytes, false)
            .filter(|mlo| mlo.code > 0 && mlo.fault(size).is_none() && Self::MEMORY.contains(&mlo.address))
    }

    fn header(bytes: &[u8], table: bool) -> Option<Self> {
        let (stated, address) = (u64::from(u32_at(bytes, 0)?), u64::from(u32_at(bytes, 4)?));
        let before = if table { Self::TABLE as u64 } else { 0 };
        Some(Self { table, address, code: stated.saturating_sub(Self::HEADER), size: stated + before })
    }

    /// What is wrong with it, where it has `size` bytes.
    pub(crate) fn fault(&self, size: u64) -> Option<String> {
        if self.code == 0 || self.address == 0 {
            Some("its header has no size, or no address".to_owned())
        } else if self.size > size {
            Some(format!("it is cut short: {size} bytes of {}", self.size))
        } else {
            None
        }
    }

    /// It as what is found on a medium.
    pub(super) fn thing(&self, size: u64) -> Thing {
        let thing =
            Thing::new(Kind::Firmware, format!("first stage for TI (MLO), for address {:#x}", self.address));
        let thing = thing.cpu(Cpu::Arm).size(self.size);
        match self.fault(size) {
            Some(fault) => thing.wrong(fault),
            None => thing,
        }
    }
}

/// The magic numbers of what lies in a gap before the partitions, at a multiple of a block.
pub(super) fn may_begin(block: &[u8]) -> bool {
    const MAGICS: [u32; 3] = [0x2705_1956, 0xd00d_feed, 0x0100_64aa];
    be32_at(block, 0).is_some_and(|magic| MAGICS.contains(&magic)) || has(block, 0, b"\x7fELF")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ti::mlo;

    #[test]
    fn an_mlo_says_how_much_of_it_there_is() {
        let whole = mlo(1000, 0x4030_0000);
        let read = Mlo::with_table(&whole).unwrap();
        assert_eq!(read, Mlo { table: true, address: 0x4030_0000, code: 1000, size: whole.len() as u64 });
        let thing = recognise(&whole, whole.len() as u64).unwrap();
        assert!(
            thing.wrong.is_empty() && thing.size == 1520 && thing.what.contains("0x40300000"),
            "{thing:?}"
        );
        assert!(recognise(&whole[..1519], 1519).unwrap().wrong[0].contains("cut short: 1519 bytes of 1520"));
        // The end of the table is not enough to tell its size.
        assert_eq!(Mlo::with_table(&whole[..516]), None);
        let empty = [&whole[..512], &[8, 0, 0, 0, 0, 0, 0x30, 0x40]].concat();
        assert!(recognise(&empty, 520).unwrap().wrong[0].contains("no size"));
        let bare = Mlo::without_table(&whole[512..], 1008).unwrap();
        assert_eq!(bare, Mlo { table: false, size: 1008, ..read });
        assert_eq!(Mlo::without_table(&whole[512..], 1007), None);
        assert_eq!(Mlo::without_table(&whole, 1520), None);
        assert_eq!(Mlo::without_table(&mlo(1000, 0x8000_0000)[512..], 1008), None);
        assert_eq!(Mlo::without_table(&[8, 0, 0, 0, 0, 0, 0x30, 0x40], 8), None);
    }

    /// An SPL with a right sum.
    pub(crate) fn spl(length: u32) -> Vec<u8> {
        let mut spl: Vec<u8> = (0..length).map(|n| n as u8).collect();
        spl[4..12].copy_from_slice(b"eGON.BT0");
        spl[12..16].copy_from_slice(&STAMP.to_le_bytes());
        spl[16..20].copy_from_slice(&length.to_le_bytes());
        let sum = spl.chunks_exact(4).map(|word| u32_at(word, 0).unwrap()).fold(0_u32, u32::wrapping_add);
        spl[12..16].copy_from_slice(&sum.to_le_bytes());
        spl
    }

    #[test]
    fn an_spl_has_its_sum_checked() {
        let mut spl = spl(4096);
        let thing = egon(&spl, 4096).unwrap();
        assert!(thing.wrong.is_empty() && thing.size == 4096, "{thing:?}");
        assert!(egon(&spl[..4000], 4000).unwrap().wrong[0].contains("cut short"));
        spl[2000] ^= 1;
        assert!(egon(&spl, 4096).unwrap().wrong[0].contains("checksum"));
        spl[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(egon(&spl, 4096).unwrap().wrong[0].contains("4294967295 bytes"));
    }

    #[test]
    fn rockchip_s_scrambling_is_undone() {
        // What every scrambled header begins with.
        assert_eq!(u32_at(&rc4(&[0x3b, 0x8c, 0xdc, 0xfc]), 0), Some(0x0ff0_aa55));
    }
}
