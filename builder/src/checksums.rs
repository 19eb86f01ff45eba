//! The checksums of an ext4 file system's structures. By the letter of Linux's Documentation/filesystems/ext4/checksums.rst:
//! CRC32c without its last inversion, which begins with the file system's UUID, and for what belongs to an inode
//! with that one's number and generation.

use crate::bytes::{u16_at, u32_at};
use crate::error::{Error, Result};
use crate::groups::damaged;

/// The feature, compatible for reading: structures have checksums.
const CHECKSUMS: u32 = 0x400;
/// The feature, incompatible: the UUID's checksum stands in the superblock, for the UUID may have changed.
const SEED: u32 = 0x2000;
/// Flag of an inode: a folder with an index.
const INDEX: u32 = 0x1000;
/// Bytes at the end of a folder's block, with the kind of entry that holds its checksum.
const TAIL: usize = 12;
const TAIL_KIND: u8 = 0xde;

/// How structures of one file system are checked.
#[derive(Clone, Copy)]
pub(crate) struct Checksums {
    seed: u32,
}

/// How what belongs to an inode is checked.
#[derive(Clone, Copy)]
pub(crate) struct OfInode {
    seed: u32,
    index: bool,
}

/// Goes on from `state` over `bytes`.
fn crc(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

fn same(what: &str, found: Option<u32>, made: u32) -> Result<()> {
    match found {
        Some(found) if found == made => Ok(()),
        Some(_) => Err(Error::new(format!("{what} of the ext4 file system does not have its checksum"))),
        None => Err(damaged()),
    }
}

fn part(bytes: &[u8], range: std::ops::Range<usize>) -> Result<&[u8]> {
    bytes.get(range).ok_or_else(damaged)
}

impl Checksums {
    /// Those of the file system with this superblock, which is checked itself; `None` where it has none.
    pub(crate) fn of(superblock: &[u8]) -> Result<Option<Self>> {
        let field = |at| u32_at(superblock, at).ok_or_else(damaged);
        if field(0x64)? & CHECKSUMS == 0 {
            return Ok(None);
        }
        same("the superblock", u32_at(superblock, 0x3fc), crc(!0, part(superblock, 0..0x3fc)?))?;
        let seed =
            if field(0x60)? & SEED != 0 { field(0x270)? } else { crc(!0, part(superblock, 0x68..0x78)?) };
        Ok(Some(Self { seed }))
    }

    /// Checks the descriptor of the group with this number, from 0.
    pub(crate) fn group(&self, index: u32, raw: &[u8]) -> Result<()> {
        let state = crc(crc(self.seed, &index.to_le_bytes()), part(raw, 0..0x1e)?);
        let made = crc(crc(state, &[0; 2]), part(raw, 0x20..raw.len())?);
        same("a group's descriptor", u16_at(raw, 0x1e).map(u32::from), made & 0xffff)
    }

    /// Checks a bitmap, whose checksum stands in the descriptor: its low half at `low`, the high one, if that is long enough,
    /// 0x20 behind.
    pub(crate) fn bitmap(&self, bitmap: &[u8], descriptor: &[u8], low: usize) -> Result<()> {
        let (low, high) = (u16_at(descriptor, low), u16_at(descriptor, low + 0x20));
        let made = crc(self.seed, bitmap);
        match high {
            Some(high) => same("a bitmap", low.map(|low| u32::from(low) | u32::from(high) << 16), made),
            None => same("a bitmap", low.map(u32::from), made & 0xffff),
        }
    }

    /// Checks an inode, and gives what the rest of it is checked with.
    pub(crate) fn inode(&self, number: u32, raw: &[u8]) -> Result<OfInode> {
        let seed = crc(crc(self.seed, &number.to_le_bytes()), part(raw, 0x64..0x68)?);
        let wide = raw.len() > 0x84 && u16_at(raw, 0x80).is_some_and(|extra| extra >= 4);
        let mut state = crc(crc(seed, part(raw, 0..0x7c)?), &[0; 2]);
        if wide {
            state = crc(crc(crc(state, part(raw, 0x7e..0x82)?), &[0; 2]), part(raw, 0x84..raw.len())?);
        } else {
            state = crc(state, part(raw, 0x7e..raw.len())?);
        }
        let low = u16_at(raw, 0x7c).map(u32::from);
        let (found, made) = if wide {
            (low.zip(u16_at(raw, 0x82)).map(|(low, high)| low | u32::from(high) << 16), state)
        } else {
            (low, state & 0xffff)
        };
        same("an inode", found, made)?;
        let flags = u32_at(raw, 0x20).ok_or_else(damaged)?;
        Ok(OfInode { seed, index: flags & INDEX != 0 })
    }

    /// Checks the block `number` of extended attributes.
    pub(crate) fn attributes(&self, number: u64, block: &[u8]) -> Result<()> {
        let state = crc(crc(self.seed, &number.to_le_bytes()), part(block, 0..0x10)?);
        let made = crc(crc(state, &[0; 4]), part(block, 0x14..block.len())?);
        same("a block of attributes", u32_at(block, 0x10), made)
    }
}

impl OfInode {
    /// Checks a block of extents.
    pub(crate) fn extents(&self, block: &[u8]) -> Result<()> {
        let most = usize::from(u16_at(block, 4).ok_or_else(damaged)?);
        let tail = 12 + 12 * most;
        same("a block of extents", u32_at(block, tail), crc(self.seed, part(block, 0..tail)?))
    }

    /// Checks a block of a folder, the `first` one or another.
    pub(crate) fn folder(&self, block: &[u8], first: bool) -> Result<()> {
        let name_of_all =
            u32_at(block, 0) == Some(0) && u16_at(block, 4).map(usize::from) == Some(block.len());
        if self.index && (first || name_of_all) {
            return self.index(block, if first { 0x20 } else { 8 });
        }
        let tail = block.len().checked_sub(TAIL).ok_or_else(damaged)?;
        if block.get(tail..tail + 8) != Some(&[0, 0, 0, 0, TAIL as u8, 0, 0, TAIL_KIND]) {
            return Err(Error::new("a folder's block of the ext4 file system has no checksum"));
        }
        same("a folder's block", u32_at(block, tail + 8), crc(self.seed, part(block, 0..tail)?))
    }

    /// Checks a block of a folder's index, whose entries begin at `at` with how many there can be and are.
    fn index(&self, block: &[u8], at: usize) -> Result<()> {
        let number = |at| u16_at(block, at).map(usize::from).ok_or_else(damaged);
        let (limit, count) = (number(at)?, number(at + 2)?);
        let tail = at + limit * 8;
        let state = crc(self.seed, part(block, 0..at + count * 8)?);
        let made = crc(crc(state, part(block, tail..tail + 4)?), &[0; 4]);
        same("a folder's index", u32_at(block, tail + 4), made)
    }
}
