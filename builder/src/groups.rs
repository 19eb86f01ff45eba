//! The groups of an ext4 file system: sizes from its superblock, where each group's bitmaps and inodes lie, and which
//! blocks are in use. By the letter of Linux's Documentation/filesystems/ext4.

use std::ops::Range;

use crate::checksums::Checksums;
use crate::error::{Error, Result, ResultExt};
use crate::tree::Source;
use crate::verify::ext4::SUPERBLOCK;
use crate::verify::{u16_at, u32_at};

/// What marks a superblock.
const SIGNATURE: u16 = 0xef53;
/// 16 TiB in groups of 128 MiB; a superblock that claims more is not followed.
const MAX_GROUPS: u64 = 1 << 17;
/// The feature, compatible: copies of the superblock lie in two groups that it names.
const SPARSE_SUPER2: u32 = 0x200;
/// The feature, incompatible: block numbers of 64 bits.
const WIDE: u32 = 0x80;
/// The features, compatible for reading: copies of the superblock in few groups; a bit for several blocks; and the two
/// of which each gives a meaning to the flags of groups.
const SPARSE_SUPER: u32 = 0x1;
const BIG_ALLOCATION: u32 = 0x200;
const FLAGS: u32 = 0x10 | 0x400;
/// Flag of a group whose bitmap of blocks has never been written: it follows from where structures lie.
const BLOCKS_UNWRITTEN: u16 = 0x2;
/// Flag of a group whose inodes and their bitmap have never been written.
const INODES_UNWRITTEN: u16 = 0x1;

/// The groups of the file system in a part of a file.
pub(crate) struct Groups {
    source: Source,
    /// Its first byte and its length.
    start: u64,
    length: u64,
    superblock: Vec<u8>,
    /// Bytes of a block.
    pub(crate) block: u64,
    /// The features without which it cannot be read.
    pub(crate) incompatible: u32,
    /// How many inodes there are, and how many a group has.
    pub(crate) inodes: u32,
    pub(crate) inodes_per_group: u32,
    /// Bytes of an inode.
    pub(crate) inode_size: u64,
    /// How many groups there are.
    pub(crate) count: u64,
    /// Bytes of a group's descriptor.
    pub(crate) descriptor: u64,
    blocks: u64,
    blocks_per_group: u64,
    first_block: u64,
    wide: bool,
}

/// A group, by the numbers of its blocks.
pub(crate) struct Group {
    /// The bitmap of its blocks.
    pub(crate) block_bitmap: u64,
    /// The bitmap of its inodes.
    pub(crate) inode_bitmap: u64,
    /// The first block of its inodes.
    pub(crate) inodes: u64,
    flags: u16,
}

impl Groups {
    /// Opens the file system that has the `length` bytes of `source` from byte `start` on.
    pub(crate) fn open(source: Source, start: u64, length: u64) -> Result<Self> {
        let superblock = read(&source, start, length, SUPERBLOCK.0, SUPERBLOCK.1 as u64)?;
        let odd = |what: &str| Error::new(format!("the ext4 file system has {what}"));
        let field = |at| u32_at(&superblock, at);
        if u16_at(&superblock, 0x38)? != SIGNATURE {
            return Err(odd("no signature"));
        }
        let incompatible = field(0x60)?;
        let wide = incompatible & WIDE != 0;
        let inode_size = u64::from(u16_at(&superblock, 0x58)?);
        let descriptor = if wide { u64::from(u16_at(&superblock, 0xfe)?) } else { 32 };
        let blocks = u64::from(field(4)?) | if wide { u64::from(field(0x150)?) << 32 } else { 0 };
        let (shift, first_block) = (field(0x18)?, u64::from(field(0x14)?));
        let (blocks_per_group, inodes_per_group) = (u64::from(field(0x20)?), field(0x28)?);
        let least = if wide { 64 } else { 32 };
        // The first revision has none of the later fields.
        if field(0x4c)? == 0
            || shift > 6
            || !inode_size.is_power_of_two()
            || !(128..=65_536).contains(&inode_size)
            || !(least..=1024).contains(&descriptor)
            || blocks_per_group == 0
            || inodes_per_group == 0
        {
            return Err(odd("sizes that cannot be"));
        }
        let count = blocks.saturating_sub(first_block).div_ceil(blocks_per_group);
        if count > MAX_GROUPS {
            return Err(odd("more groups than are followed"));
        }
        Ok(Self {
            block: 1024 << shift,
            incompatible,
            inodes: field(0)?,
            inodes_per_group,
            inode_size,
            count,
            descriptor,
            blocks,
            blocks_per_group,
            first_block,
            wide,
            source,
            start,
            length,
            superblock,
        })
    }

    /// The `size` bytes from byte `at` of the file system on.
    pub(crate) fn read(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        read(&self.source, self.start, self.length, at, size)
    }

    /// The byte of the file system where a block begins.
    pub(crate) fn place(&self, block: u64) -> Result<u64> {
        block.checked_mul(self.block).ok_or_else(damaged)
    }

    /// The byte of the file system where the descriptors begin.
    pub(crate) fn descriptors(&self) -> Result<u64> {
        self.place(self.first_block + 1)
    }

    /// Bytes of a group's inodes.
    pub(crate) fn table_size(&self) -> u64 {
        u64::from(self.inodes_per_group) * self.inode_size
    }

    /// The file that it lies in, and the byte of that where the `length` bytes of the file system from byte `at` on begin.
    pub(crate) fn within(&self, at: u64, length: u64) -> Result<(&Source, u64)> {
        match at.checked_add(length) {
            Some(end) if end <= self.length => Ok((&self.source, self.start + at)),
            _ => Err(damaged()),
        }
    }

    /// The group of this number, from 0.
    pub(crate) fn group(&self, index: u64) -> Result<Group> {
        if index >= self.count {
            return Err(damaged());
        }
        let raw = self.raw(index)?;
        let number = |at: usize| -> Result<u64> {
            let high = if self.wide { u64::from(u32_at(&raw, at + 0x20)?) << 32 } else { 0 };
            Ok(u64::from(u32_at(&raw, at)?) | high)
        };
        let (block_bitmap, inode_bitmap, inodes) = (number(0)?, number(4)?, number(8)?);
        Ok(Group { block_bitmap, inode_bitmap, inodes, flags: u16_at(&raw, 0x12)? })
    }

    fn raw(&self, index: u64) -> Result<Vec<u8>> {
        self.read(self.descriptors()? + index * self.descriptor, self.descriptor)
    }

    /// What structures are checked with, after those of all groups have been; `None` where they have no checksums.
    pub(crate) fn checksums(&self) -> Result<Option<Checksums>> {
        let Some(checksums) = Checksums::of(&self.superblock)? else { return Ok(None) };
        for index in 0..self.count {
            let (raw, group) = (self.raw(index)?, self.group(index)?);
            checksums.group(u32::try_from(index).map_err(|_| damaged())?, &raw)?;
            let bitmap = |block, bits: u64| self.read(self.place(block)?, bits / 8);
            if group.flags & BLOCKS_UNWRITTEN == 0 {
                checksums.bitmap(&bitmap(group.block_bitmap, self.blocks_per_group)?, &raw, 0x18)?;
            }
            if group.flags & INODES_UNWRITTEN == 0 {
                checksums.bitmap(
                    &bitmap(group.inode_bitmap, u64::from(self.inodes_per_group))?,
                    &raw,
                    0x1a,
                )?;
            }
        }
        Ok(Some(checksums))
    }

    /// The blocks in use, as ranges of the file's bytes, in no order: files, folders, the journal, and every structure of
    /// the file system's own.
    pub(crate) fn used(&self) -> Result<Vec<Range<u64>>> {
        let readable = u32_at(&self.superblock, 0x64)?;
        if readable & BIG_ALLOCATION != 0 {
            return Err(Error::new("the ext4 file system has a bit for several blocks, which is not read"));
        }
        if self.place(self.blocks)? > self.length {
            return Err(damaged());
        }
        let mut used = Vec::new();
        let mut take = |first: u64, count: u64| -> Result<()> {
            let length = self.place(count)?;
            let (_, start) = self.within(self.place(first)?, length)?;
            used.push(start..start + length);
            Ok(())
        };
        // What comes before the first group: the boot loader's block, where blocks have 1 KiB.
        take(0, self.first_block + 1)?;
        let table = self.table_size().div_ceil(self.block);
        let reserved = u64::from(u16_at(&self.superblock, 0xce)?);
        let descriptors = (self.count * self.descriptor).div_ceil(self.block);
        for index in 0..self.count {
            let group = self.group(index)?;
            let first = self.first_block + index * self.blocks_per_group;
            let count = self.blocks_per_group.min(self.blocks - first);
            // They may lie in another group, whose bitmap need not be written either.
            take(group.block_bitmap, 1)?;
            take(group.inode_bitmap, 1)?;
            take(group.inodes, table)?;
            if self.has_copy(index, readable)? {
                take(first, (1 + descriptors + reserved).min(count))?;
            }
            if readable & FLAGS != 0 && group.flags & BLOCKS_UNWRITTEN != 0 {
                continue;
            }
            let bitmap = self.read(self.place(group.block_bitmap)?, self.block)?;
            let set = |bit: u64| {
                let byte = usize::try_from(bit / 8).ok().and_then(|byte| bitmap.get(byte));
                byte.is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
            };
            let mut bit = 0;
            while bit < count {
                let end = (bit..count).find(|&end| !set(end)).unwrap_or(count);
                if end > bit {
                    take(first + bit, end - bit)?;
                }
                bit = end + 1;
            }
        }
        Ok(used)
    }

    /// Whether a group begins with a superblock, the first or a copy.
    fn has_copy(&self, index: u64, readable: u32) -> Result<bool> {
        let power = |base: u64| {
            let mut power = base;
            while power < index {
                power *= base;
            }
            power == index
        };
        Ok(if u32_at(&self.superblock, 0x5c)? & SPARSE_SUPER2 != 0 {
            let copies = [u32_at(&self.superblock, 0x24c)?, u32_at(&self.superblock, 0x250)?];
            index == 0 || copies.map(u64::from).contains(&index)
        } else {
            readable & SPARSE_SUPER == 0 || index <= 1 || power(3) || power(5) || power(7)
        })
    }
}

fn read(source: &Source, start: u64, length: u64, at: u64, size: u64) -> Result<Vec<u8>> {
    let end = at.checked_add(size).filter(|end| *end <= length);
    let count = end.and_then(|_| usize::try_from(size).ok());
    let mut bytes = vec![0; count.ok_or_else(|| Error::new("the ext4 file system reaches past its end"))?];
    source.read_at(&mut bytes, start + at).context(|| "cannot read the ext4 file system")?;
    Ok(bytes)
}

/// The error of a file system that contradicts itself.
pub(crate) fn damaged() -> Error {
    Error::new("the ext4 file system is damaged")
}
