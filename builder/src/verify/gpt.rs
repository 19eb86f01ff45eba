//! The GUID partition table, by the UEFI specification 2.10, chapter 5.

use std::fs::File;

use super::{read, u16_at, u32_at, u64_at};
use crate::disk::{BLOCK, DiskSpec, Gpt, PartitionSpec};
use crate::error::{Error, Result};

const ENTRY: usize = 128;

/// Checks the protective MBR and both tables against `spec`.
pub(super) fn check(file: &File, spec: &DiskSpec, shape: &Gpt) -> Result<()> {
    let last = spec.size / BLOCK - 1;
    check_mbr(&read(file, 0, 512)?, last)?;
    check_table(file, spec, shape, 1, last)
        .map_err(|error| error.context("the partition table is not what was written"))?;
    check_table(file, spec, shape, last, 1)
        .map_err(|error| error.context("the backup partition table is not what was written"))
}

fn check_mbr(mbr: &[u8], last: u64) -> Result<()> {
    if u16_at(mbr, 510)? != 0xaa55 {
        return Err(Error::new("the protective MBR has no signature"));
    }
    let covered = u32::try_from(last).unwrap_or(u32::MAX);
    if mbr.get(450) != Some(&0xee) || u32_at(mbr, 454)? != 1 || u32_at(mbr, 458)? != covered {
        return Err(Error::new("the protective MBR does not cover the disk"));
    }
    // Boot code would be run by a PC's firmware; nothing here writes any.
    if mbr.get(..446).is_none_or(|code| code.iter().any(|&byte| byte != 0)) {
        return Err(Error::new("the protective MBR has boot code"));
    }
    if mbr.get(462..510).is_none_or(|rest| rest.iter().any(|&byte| byte != 0)) {
        return Err(Error::new("the protective MBR has a second partition"));
    }
    Ok(())
}

fn check_table(file: &File, spec: &DiskSpec, shape: &Gpt, own: u64, other: u64) -> Result<()> {
    let header = read(file, own * BLOCK, 512)?;
    let wrong = |what: &str| Err(Error::new(format!("the header at block {own}: {what}")));
    if header.get(..8) != Some(b"EFI PART") || u32_at(&header, 8)? != 0x0001_0000 {
        return wrong("no signature");
    }
    let size = u32_at(&header, 12)? as usize;
    if !(92..=512).contains(&size) {
        return wrong("impossible size");
    }
    let mut summed: Vec<u8> = header.iter().take(size).copied().collect();
    summed.iter_mut().skip(16).take(4).for_each(|byte| *byte = 0);
    if u32_at(&header, 16)? != crc(&summed) {
        return wrong("wrong checksum");
    }
    if u64_at(&header, 24)? != own || u64_at(&header, 32)? != other {
        return wrong("wrong place of itself or of the other one");
    }
    let (first_usable, last_usable) = (u64_at(&header, 40)?, u64_at(&header, 48)?);
    if header.get(56..72) != Some(&mixed(spec.disk_guid)) {
        return wrong("wrong GUID of the disk");
    }
    let (entries, count, entry_size) =
        (u64_at(&header, 72)?, u32_at(&header, 80)? as usize, u32_at(&header, 84)? as usize);
    if entry_size != ENTRY || count != shape.entries as usize {
        return wrong("another number or size of entries");
    }
    if first_usable != shape.first_usable || (own < other && entries != shape.entries_at) {
        return wrong("another place of the entries, or of what can be used");
    }
    let blocks = (count * ENTRY) as u64 / BLOCK;
    let end = entries.checked_add(blocks).ok_or_else(|| Error::new("the entries lie beyond the disk"))?;
    // The entries of the first table come before what is usable, those of the second behind.
    let apart =
        if own < other { entries > own && end <= first_usable } else { entries > last_usable && end <= own };
    if !apart || last_usable < first_usable {
        return wrong("the entries lie in the usable blocks");
    }
    let table = read(file, entries * BLOCK, count * ENTRY)?;
    if u32_at(&header, 88)? != crc(&table) {
        return wrong("wrong checksum of the entries");
    }
    for (index, entry) in table.chunks_exact(ENTRY).enumerate() {
        match spec.partitions.get(index) {
            Some(wanted) => check_entry(entry, wanted, first_usable, last_usable)
                .map_err(|error| error.context(format!("entry {} (`{}`)", index + 1, wanted.name)))?,
            None if entry.iter().any(|&byte| byte != 0) => return wrong("an entry too many"),
            None => {}
        }
    }
    Ok(())
}

fn check_entry(entry: &[u8], wanted: &PartitionSpec, first_usable: u64, last_usable: u64) -> Result<()> {
    let kind = parse_guid(&wanted.type_guid).ok_or_else(|| Error::new("the type asked for is not a GUID"))?;
    if entry.get(..16) != Some(&mixed(kind)) || entry.get(16..32) != Some(&mixed(wanted.guid)) {
        return Err(Error::new("wrong GUID"));
    }
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    if first != wanted.start / BLOCK || last.checked_add(1) != Some((wanted.start + wanted.size) / BLOCK) {
        return Err(Error::new(format!("it has blocks {first} to {last}")));
    }
    if first < first_usable || last > last_usable {
        return Err(Error::new("it lies outside the usable blocks"));
    }
    if u64_at(entry, 48)? != u64::from(wanted.bootable) << 2 {
        return Err(Error::new("wrong attributes"));
    }
    let name: Vec<u8> =
        wanted.name.encode_utf16().flat_map(u16::to_le_bytes).chain(std::iter::repeat(0)).take(72).collect();
    if entry.get(56..128) != Some(&name) {
        return Err(Error::new("wrong name"));
    }
    Ok(())
}

/// The on-disk order of a GUID: the first three fields little endian.
fn mixed(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut out = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    out.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
    out
}

fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|&c| !matches!(c, '-' | '{' | '}'))
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair.first()? << 4 | pair.get(1)?).ok())
        .collect();
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

/// CRC-32 of ISO 3309, bit by bit: slow, and no relation of the crate that wrote the table.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        let guid = parse_guid("C12A7328-F81F-11D2-BA4B-00A0C93EC93B").unwrap();
        assert_eq!(mixed(guid), *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
        assert_eq!(parse_guid("C12A7328"), None);
        assert_eq!(parse_guid("x12A7328-F81F-11D2-BA4B-00A0C93EC93B"), None);
    }
}
