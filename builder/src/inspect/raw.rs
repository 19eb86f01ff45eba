//! What lies on a medium outside of partitions: where boot ROMs look, and what U-Boot and others are found by.

use serde::Serialize;

use super::rom::{Rom, may_begin};
use super::thing::{Kind, MOST, Thing, recognise};
use super::window::{LONGEST, Window};
use crate::bytes::{has, u32_at};
use crate::error::Result;
use crate::uboot::crc32;

/// What is searched for things that begin at a multiple of a block.
const SEARCHED: u64 = 32 << 20;
const BLOCK: u64 = 512;
/// Things that are told apart.
const MOST_FOUND: usize = 64;
/// What is read of something that does not tell its size in its first block.
const GLANCE: u64 = 4 << 20;
/// Places of unknown data that are shown.
const MOST_UNKNOWN: usize = 64;
/// Unknown data is told from nothing by pages of this size.
const PAGE: u64 = 4096;
/// Where environments are kept on cards, in bytes (U-Boot, the boards' CONFIG_ENV_OFFSET).
const ENVIRONMENTS: [u64; 12] = [
    0x8000, 0x4_4000, 0x6_0000, 0x8_0000, 0x8_8000, 0xc_0000, 0xe_0000, 0xf_0000, 0xf_c000, 0x10_0000,
    0x3f_8000, 0x40_0000,
];
/// And how large they are.
const ENVIRONMENT_SIZES: [u64; 7] = [0x1000, 0x2000, 0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000];

/// Something outside of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The first byte.
    pub start: u64,
    /// The size in bytes; what does not say its size has that of its first block.
    pub size: u64,
    /// Whose boot ROM loads it from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rom: Option<&'static str>,
    /// What it is.
    #[serde(flatten)]
    pub thing: Thing,
}

impl Found {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// Searches what none of `taken` (sorted ranges: first byte, size) has. Boot ROMs' places are looked at whoever has them.
pub(super) fn search(window: &Window, taken: &[(u64, u64)]) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for (rom, start) in Rom::PLACES {
        let part = window.part(start, u64::MAX);
        // TI's header stands behind a block with a table.
        let head = part.up_to(0, 2 * BLOCK)?;
        // The header tells how much there is to be read.
        let Some(thing) = rom.first_stage(&head, part.size()) else { continue };
        let bytes = part.up_to(0, thing.size.clamp(2 * BLOCK, 1 << 20))?;
        let Some(thing) = rom.first_stage(&bytes, part.size()) else { continue };
        let size = thing.size.clamp(BLOCK, part.size().max(BLOCK));
        if found.iter().all(|other| start >= other.end() || other.start >= start + size) {
            found.push(Found { start, size, rom: Some(rom.name()), thing });
        }
    }
    for (start, size) in free(window.size().min(SEARCHED), taken) {
        gap(window, start, size, &mut found)?;
    }
    found.sort_by_key(|found| found.start);
    Ok(found)
}

/// The ranges from 0 to `end` that none of `taken` has.
fn free(end: u64, taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut free = Vec::new();
    let mut next = 0;
    for (start, size) in taken {
        if *start > next && next < end {
            free.push((next, (*start).min(end) - next));
        }
        next = next.max(start.saturating_add(*size));
    }
    if next < end {
        free.push((next, end - next));
    }
    free
}

/// Adds what begins in a gap.
fn gap(window: &Window, start: u64, size: u64, found: &mut Vec<Found>) -> Result<()> {
    let bytes = window.up_to(start, size.min(LONGEST))?;
    let block_of = |at: u64| {
        let at = usize::try_from(at - start).unwrap_or(usize::MAX);
        bytes.get(at..).map(|rest| rest.get(..512).unwrap_or(rest)).unwrap_or_default()
    };
    let end = start + bytes.len() as u64;
    let mut unknown: Vec<(u64, u64)> = Vec::new();
    let mut at = start;
    while at < end {
        if let Some(other) = found.iter().find(|other| (other.start..other.end()).contains(&at)) {
            at = other.end().next_multiple_of(BLOCK);
            continue;
        }
        let block = block_of(at);
        if may_begin(block) && found.len() < MOST_FOUND {
            let part = window.part(at, MOST);
            // How it begins tells how much there is to be read.
            let tree = has(block, 0, &[0xd0, 0x0d, 0xfe, 0xed]);
            let stated = if tree { MOST } else { recognise(block, part.size()).size.max(GLANCE) };
            let thing = recognise(&part.up_to(0, stated)?, part.size());
            if thing.kind != Kind::Other {
                let size = thing.size.clamp(BLOCK, part.size().max(BLOCK));
                found.push(Found { start: at, size, rom: None, thing });
                continue;
            }
        }
        if ENVIRONMENTS.contains(&at)
            && let Some(size) = environment(&window.part(at, 0x4_0000).up_to(0, 0x4_0000)?)
        {
            found.push(Found {
                start: at,
                size,
                rom: None,
                thing: Thing::new(Kind::Environment, "U-Boot's environment, checksum right"),
            });
            continue;
        }
        if block.iter().any(|&byte| byte != 0 && byte != 0xff) {
            match unknown.last_mut() {
                Some((from, length)) if at - (*from + *length) < PAGE => *length = at + BLOCK - *from,
                _ => unknown.push((at, BLOCK)),
            }
        }
        at = (at / BLOCK + 1) * BLOCK;
    }
    for (start, size) in unknown.into_iter().take(MOST_UNKNOWN) {
        // A run that went on over something that was found later on is cut there.
        let cut =
            found.iter().map(|other| other.start).filter(|other| *other > start).min().unwrap_or(u64::MAX);
        let size = size.min(cut - start);
        found.push(Found {
            start,
            size,
            rom: None,
            thing: Thing::new(Kind::Other, "data that nothing is known of"),
        });
    }
    Ok(())
}

/// The size of the environment that `bytes` begin with: a checksum, a flag where there are two, then `name=value` texts
/// with an empty one at the end (U-Boot, include/env_internal.h).
pub(super) fn environment(bytes: &[u8]) -> Option<u64> {
    let sum = u32_at(bytes, 0)?;
    let text = bytes
        .get(4..6)
        .is_some_and(|begin| begin.iter().all(|&byte| byte == 1 || byte == 0 || byte.is_ascii_graphic()));
    if !text || sum == 0 {
        return None;
    }
    ENVIRONMENT_SIZES.into_iter().find(|size| {
        let data = usize::try_from(*size).ok().map(|size| [bytes.get(4..size), bytes.get(5..size)]);
        data.into_iter().flatten().flatten().any(|data| crc32(data) == sum && !data.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_nobody_has() {
        assert_eq!(free(100, &[(0, 10), (5, 10), (50, 200)]), [(15, 35)]);
        assert_eq!(free(100, &[]), [(0, 100)]);
        assert_eq!(free(100, &[(200, 5)]), [(0, 100)]);
    }

    #[test]
    fn an_environment_is_known_by_its_sum() {
        let mut bytes = vec![0; 0x2000];
        bytes[4..15].copy_from_slice(b"bootcmd=run");
        let sum = crc32(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(environment(&bytes), Some(0x2000));
        bytes[8] ^= 1;
        assert_eq!(environment(&bytes), None);
        assert_eq!(environment(&[]), None);
    }
}
