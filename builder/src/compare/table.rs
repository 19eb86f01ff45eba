//! Partition tables, field by field (UEFI specification 2.10, chapter 5).

use super::Difference;
use crate::disk::BLOCK;
use crate::error::{Error, Result};
use crate::verify::{read as read_bytes, u16_at, u32_at, u64_at};
use std::fs::File;
use uuid::Uuid;

/// Entries that are looked at; no table here has more.
const MOST: u32 = 1024;
const ENTRY: usize = 128;

/// A table's fields, in order, and the partitions.
#[derive(Debug)]
pub(super) struct Table {
    fields: Vec<(String, String)>,
    pub(super) partitions: Vec<Partition>,
}

/// A partition: its place in bytes.
#[derive(Debug)]
pub(super) struct Partition {
    number: usize,
    name: String,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Partition {
    /// `partition 2 (root)`.
    pub(super) fn what(&self) -> String {
        match self.name.as_str() {
            "" => format!("partition {}", self.number),
            name => format!("partition {} ({name})", self.number),
        }
    }
}

impl Table {
    /// The first field that is another.
    pub(super) fn difference(&self, other: &Self) -> Option<Difference> {
        let longest = self.fields.len().max(other.fields.len());
        let of = |table: &Self, index: usize| table.fields.get(index).cloned();
        (0..longest).find_map(|index| match (of(self, index), of(other, index)) {
            (Some(a), Some(b)) if a == b => None,
            (Some((field, a)), Some((same, b))) if field == same => {
                Some(Difference::of("the partition table", &field, &a, &b))
            }
            (Some((field, a)), _) => Some(Difference::of("the partition table", &field, &a, "none")),
            (None, other) => {
                let (field, b) = other?;
                Some(Difference::of("the partition table", &field, "none", &b))
            }
        })
    }
}

/// Reads the table of an image.
///
/// # Errors
///
/// There is none, or none that can be followed.
pub(super) fn read(file: &File) -> Result<Table> {
    let record = read_bytes(file, 0, 512)?;
    if u16_at(&record, 510)? != 0xaa55 {
        return Err(Error::new("there is none"));
    }
    if record.get(450) == Some(&0xee) { gpt(file) } else { mbr(&record) }
}

fn mbr(record: &[u8]) -> Result<Table> {
    let mut fields = vec![("the kind".to_owned(), "a master boot record".to_owned())];
    fields.push(("the disk's signature".to_owned(), format!("{:08x}", u32_at(record, 440)?)));
    let mut partitions = Vec::new();
    for (index, entry) in record.get(446..510).unwrap_or_default().chunks_exact(16).enumerate() {
        if entry.iter().all(|&byte| byte == 0) {
            continue;
        }
        let number = index + 1;
        let (start, size) = (u64::from(u32_at(entry, 8)?) * BLOCK, u64::from(u32_at(entry, 12)?) * BLOCK);
        let hex = |at: usize| format!("{:#04x}", entry.get(at).copied().unwrap_or(0));
        for (what, value) in [
            ("first byte", start.to_string()),
            ("size", super::bytes(size)),
            ("type", hex(4)),
            ("active flag", hex(0)),
        ] {
            fields.push((format!("partition {number}'s {what}"), value));
        }
        partitions.push(Partition { number, name: String::new(), start, size });
    }
    Ok(Table { fields, partitions })
}

fn gpt(file: &File) -> Result<Table> {
    let header = read_bytes(file, BLOCK, 512)?;
    if header.get(..8) != Some(b"EFI PART") {
        return Err(Error::new("a GPT without a header"));
    }
    let (entries_at, count) = (u64_at(&header, 72)?, u32_at(&header, 80)?);
    if count > MOST || u32_at(&header, 84)? as usize != ENTRY {
        return Err(Error::new(format!("a GPT with {count} entries of {} bytes", u32_at(&header, 84)?)));
    }
    let at = entries_at.checked_mul(BLOCK).ok_or_else(|| Error::new("a GPT that lies nowhere"))?;
    let table = read_bytes(file, at, count as usize * ENTRY)?;
    let mut fields = vec![
        ("the kind".to_owned(), "a GPT".to_owned()),
        ("the disk's GUID".to_owned(), guid(&header, 56)),
        ("the number of entries".to_owned(), count.to_string()),
        ("the block of the entries".to_owned(), entries_at.to_string()),
        ("the first usable block".to_owned(), u64_at(&header, 40)?.to_string()),
        ("the last usable block".to_owned(), u64_at(&header, 48)?.to_string()),
    ];
    let mut partitions = Vec::new();
    for (index, entry) in table.chunks_exact(ENTRY).enumerate() {
        if entry.iter().all(|&byte| byte == 0) {
            continue;
        }
        let number = index + 1;
        let units: Vec<u16> = entry
            .get(56..)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| u16_at(pair, 0))
            .collect::<Result<_>>()?;
        let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
        let name =
            String::from_utf16_lossy(units.get(..end).unwrap_or_default()).escape_default().to_string();
        let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
        for (what, value) in [
            ("name", format!("`{name}`")),
            ("first block", first.to_string()),
            ("last block", last.to_string()),
            ("type", guid(entry, 0)),
            ("GUID", guid(entry, 16)),
            ("attributes", format!("{:#x}", u64_at(entry, 48)?)),
        ] {
            fields.push((format!("partition {number}'s {what}"), value));
        }
        let blocks = last.checked_sub(first).and_then(|blocks| blocks.checked_add(1));
        let place = first.checked_mul(BLOCK).zip(blocks.and_then(|blocks| blocks.checked_mul(BLOCK)));
        if let Some((start, size)) = place.filter(|(start, size)| start.checked_add(*size).is_some()) {
            partitions.push(Partition { number, name, start, size });
        }
    }
    Ok(Table { fields, partitions })
}

fn guid(bytes: &[u8], at: usize) -> String {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
    Uuid::from_bytes_le(found.unwrap_or_default()).to_string()
}
