//! What boot ROMs load, by its header, and where they look for it on a medium.
//!
//! Allwinner: U-Boot's include/sunxi_image.h. Rockchip: tools/rkcommon.c. i.MX: include/imximage.h. TI: tools/omapimage.h
//! and tools/gpimage-common.c there.

use super::thing::{Cpu, Kind, Thing};
use crate::bytes::{be32_at, has, u16_at, u32_at};

const KIB: u64 = 1024;
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
            Self::Ti => ti(bytes, size),
        }
    }
}

/// A first stage in a file of its own.
pub(super) fn recognise(bytes: &[u8], size: u64) -> Option<Thing> {
    [Rom::Sunxi, Rom::Rockchip, Rom::Imx, Rom::Ti].into_iter().find_map(|rom| rom.first_stage(bytes, size))
}

/// Allwinner's SPL: its sum is that of all its words, the sum's own counted as a stamp.
fn egon(bytes: &[u8], size: u64) -> Option<Thing> {
    if !has(bytes, 4, b"eGON.BT0") {
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
    // A branch of AArch64 or of ARM: an SPL for AArch64 changes over from 32 bits itself, so this tells little.
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

/// TI's table with settings, and a header with size and address behind it.
fn ti(bytes: &[u8], size: u64) -> Option<Thing> {
    if !has(bytes, 20, b"CHSETTINGS") {
        return None;
    }
    let length = u64::from(u32_at(bytes, 512)?) + 512;
    let thing = Thing::new(Kind::Firmware, "first stage for TI (MLO)").cpu(Cpu::Arm).size(length);
    Some(if length > size {
        thing.wrong(format!("it is cut short: {size} bytes of {length}"))
    } else {
        thing
    })
}

/// The magic numbers of what lies in a gap before the partitions, at a multiple of a block.
pub(super) fn may_begin(block: &[u8]) -> bool {
    const MAGICS: [u32; 3] = [0x2705_1956, 0xd00d_feed, 0x0100_64aa];
    be32_at(block, 0).is_some_and(|magic| MAGICS.contains(&magic)) || has(block, 0, b"\x7fELF")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An SPL with a right sum.
    pub(in crate::inspect) fn spl(length: u32) -> Vec<u8> {
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
