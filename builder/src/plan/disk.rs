//! What is at which byte of the medium.

use crate::disk::Gpt;
use crate::error::{Error, Result};
use crate::layout::{Content, Filesystem, Kind, Layout, Partition, Table};
use serde::Serialize;
use vambrace_bsp::DiskSize;

/// The sector size of the media.
pub const SECTOR: u64 = 512;
/// The largest medium: far more than any, and far from where sums would overflow.
const MAX_MEDIUM: u64 = 1 << 50;

/// The medium's byte map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskMap {
    /// The size of the medium in bytes.
    pub size: u64,
    /// The kind of partition table.
    pub table: Table,
    /// The shape of a GPT.
    pub gpt: Option<Gpt>,
    /// Everything that is on it, by its place; the ranges do not overlap.
    pub extents: Vec<Extent>,
    /// The partitions.
    pub partitions: Vec<PlannedPartition>,
}

/// A range of the medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// What is there.
    pub what: String,
    /// The first byte.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
}

/// A partition with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPartition {
    /// The name in the table.
    pub name: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The first byte.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// The file system.
    pub filesystem: Filesystem,
    /// The files, in the layout's order.
    pub files: Vec<PlannedFile>,
}

/// A file with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// The path in the file system.
    pub path: String,
    /// What is in it.
    pub content: Content,
    /// The size in bytes.
    pub size: u64,
}

/// Firmware that is written to a fixed byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name in the board's description.
    pub name: String,
    /// The first byte.
    pub offset: u64,
    /// The size in bytes.
    pub size: u64,
}

/// Lays out the medium: table, firmware at its fixed bytes, partitions behind.
///
/// `size_of` gives the size of a content, `needed` the bytes that a partition has to have at least, with its slack. What
/// rounding the medium's size leaves over goes to the root file system, if there is one.
///
/// # Errors
///
/// Firmware over the partition table or over other firmware; a medium larger than 2^50 bytes.
pub fn lay_out(
    layout: &Layout,
    blobs: &[Blob],
    medium: DiskSize,
    size_of: impl Fn(Content) -> u64,
    needed: impl Fn(&Partition, &[PlannedFile]) -> Result<u64>,
) -> Result<DiskMap> {
    let alignment = layout.alignment.bytes();
    let too_large =
        || Error::new(format!("the layout `{}` needs a medium of more than 2^50 bytes", layout.id));
    let bounded = |bytes: Option<u64>| bytes.filter(|bytes| *bytes < MAX_MEDIUM).ok_or_else(too_large);
    let round = |bytes: u64| bounded(bytes.checked_next_multiple_of(alignment));

    let mut gpt = match layout.table {
        Table::Gpt => Some(Gpt { entries: layout.gpt_entries.unwrap_or(Gpt::USUAL.entries), ..Gpt::USUAL }),
        Table::Mbr => None,
    };
    let (front, back) = match &gpt {
        Some(table) => ((2 + table.entry_blocks()) * SECTOR, (table.entry_blocks() + 1) * SECTOR),
        None => (SECTOR, 0),
    };
    let what = match &gpt {
        Some(table) => format!("GPT: protective MBR, header, {} entries", table.entries),
        None => "MBR: partition table".to_owned(),
    };
    let mut extents = vec![Extent { what, start: 0, size: front }];
    extents.extend(blobs.iter().map(|blob| Extent {
        what: format!("firmware {}", blob.name),
        start: blob.offset,
        size: blob.size,
    }));
    let occupied = extents.iter().map(|extent| extent.start.saturating_add(extent.size)).max().unwrap_or(0);
    let first = round(occupied)?;
    let mut next = first;
    let mut partitions = Vec::new();
    for partition in &layout.partitions {
        let files: Vec<PlannedFile> = partition
            .files
            .iter()
            .map(|file| PlannedFile {
                path: file.path.clone(),
                content: file.content,
                size: size_of(file.content),
            })
            .collect();
        let needed = needed(partition, &files)?;
        let size = match partition.size {
            Some(size) if size.bytes() < needed => {
                let text =
                    format!("the partition `{}` takes {needed} bytes, and is to have {size}", partition.name);
                return Err(Error::new(text)
                    .help("give it more with `size` in [disk.partition.NAME], or leave that out"));
            }
            Some(size) => round(size.bytes())?,
            None => round(needed.max(partition.min_size.bytes()))?,
        };
        partitions.push(PlannedPartition {
            name: partition.name.clone(),
            kind: partition.kind,
            start: next,
            size,
            filesystem: partition.filesystem,
            files,
        });
        next = bounded(next.checked_add(size))?;
    }
    let mut size = round(next.saturating_add(back))?;
    let least = size;
    if medium == DiskSize::PowerOfTwo {
        size = bounded(size.checked_next_power_of_two())?;
    }
    if let Some(wanted) = layout.size {
        if wanted.bytes() < least {
            let text = format!("the image takes {least} bytes, and is to have {wanted}");
            return Err(Error::new(text).help("give it more with `size` in [disk], or leave that out"));
        }
        let odd = medium == DiskSize::PowerOfTwo && !wanted.bytes().is_power_of_two();
        if odd || !wanted.bytes().is_multiple_of(SECTOR) {
            let what = if odd { "a power of 2, as the board's machine wants it" } else { "whole sectors" };
            return Err(Error::new(format!("the image cannot have {wanted}: its size has to be {what}")));
        }
        size = bounded(Some(wanted.bytes()))?;
    }
    if size > least
        && let Some(last) = partitions.last_mut().filter(|last| last.filesystem == Filesystem::Ext4)
    {
        last.size = (size - back) / alignment * alignment - last.start;
    }
    extents.extend(partitions.iter().map(|partition| Extent {
        what: format!("partition `{}`", partition.name),
        start: partition.start,
        size: partition.size,
    }));
    if let Some(table) = &mut gpt {
        extents.push(Extent {
            what: "GPT: second entries and header".into(),
            start: size - back,
            size: back,
        });
        // Nobody is to add a partition over firmware, which the table does not list.
        table.first_usable = if blobs.is_empty() { front } else { first } / SECTOR;
    }
    extents.sort_by_key(|extent| extent.start);
    for pair in extents.windows(2) {
        if let [a, b] = pair
            && a.start.saturating_add(a.size) > b.start
        {
            return Err(Error::new(format!(
                "on the medium, {} (bytes {} to {}) is overlapped by {} (from byte {})",
                a.what,
                a.start,
                a.start.saturating_add(a.size),
                b.what,
                b.start
            ))
            .help("choose a layout whose table leaves those bytes free"));
        }
    }
    Ok(DiskMap { size, table: layout.table, gpt, extents, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout() -> Layout {
        Layout::parse("l", include_str!("../../../images/gpt-uboot.toml"), "gpt-uboot").unwrap()
    }

    fn sunxi(table: &str) -> Layout {
        let text = match table {
            "sunxi-gpt" => include_str!("../../../images/sunxi-gpt.toml"),
            _ => include_str!("../../../images/sunxi-mbr.toml"),
        };
        Layout::parse("l", text, table).unwrap()
    }

    fn spl() -> Blob {
        Blob { name: "spl".into(), offset: 8192, size: 559_488 }
    }

    fn needed(content: u64, partition: &Partition, files: &[PlannedFile]) -> u64 {
        let data = match partition.filesystem {
            Filesystem::Fat32 => files.iter().map(|file| file.size).fold(0, u64::saturating_add),
            _ => content,
        };
        data.saturating_add(partition.slack.bytes())
    }

    fn map(layout: &Layout, blobs: &[Blob], medium: DiskSize, content: u64) -> Result<DiskMap> {
        lay_out(layout, blobs, medium, |_| content, |partition, files| Ok(needed(content, partition, files)))
    }

    #[test]
    fn partitions_are_aligned_and_the_size_follows_the_content() {
        let map = map(&layout(), &[], DiskSize::Any, 1000).unwrap();
        assert_eq!(map.partitions[0].start, 1 << 20);
        assert_eq!(map.partitions[0].size, 17 << 20);
        assert_eq!(map.size, 19 << 20);
        assert_eq!(map.gpt, Some(Gpt::USUAL));
    }

    #[test]
    fn firmware_over_the_partition_table_is_refused() {
        let error = map(&layout(), &[spl()], DiskSize::Any, 1).unwrap_err();
        assert!(
            error.what().contains(
                "GPT: protective MBR, header, 128 entries (bytes 0 to 17408) is overlapped by firmware spl"
            ),
            "{error}"
        );
    }

    #[test]
    fn firmware_of_the_first_stage_lies_free_behind_a_short_table() {
        for id in ["sunxi-gpt", "sunxi-mbr"] {
            let map = map(&sunxi(id), &[spl()], DiskSize::PowerOfTwo, 1000).unwrap();
            assert!(map.size.is_power_of_two());
            assert_eq!(map.partitions[0].start, 4 << 20);
            let root = &map.partitions[1];
            let end = root.start + root.size;
            assert!(end <= map.size && map.size - end < 8 << 20, "the root file system takes what is left");
            assert_eq!(map.gpt.map(|gpt| gpt.first_usable), (id == "sunxi-gpt").then_some(8192));
            assert_eq!(map.extents[0].size, if id == "sunxi-gpt" { 8192 } else { 512 });
        }
    }

    proptest! {
        #[test]
        fn extents_never_overlap(
            offset in 0_u64..1 << 24, size in 1_u64..1 << 24, content in 0_u64..1 << 30, layout in 0..3,
            power in proptest::bool::ANY,
        ) {
            let blob = Blob { name: "spl".into(), offset, size };
            let layout = match layout { 0 => super::tests::layout(), 1 => sunxi("sunxi-gpt"), _ => sunxi("sunxi-mbr") };
            let medium = if power { DiskSize::PowerOfTwo } else { DiskSize::Any };
            if let Ok(map) = map(&layout, &[blob], medium, content) {
                let mut end = 0;
                for extent in &map.extents {
                    prop_assert!(extent.start >= end);
                    end = extent.start + extent.size;
                }
                prop_assert!(end <= map.size);
                // A GPT ends with its second header.
                prop_assert!(map.gpt.is_none() || end == map.size);
                for partition in &map.partitions {
                    prop_assert_eq!(partition.start % layout.alignment.bytes(), 0);
                    prop_assert_eq!(partition.size % layout.alignment.bytes(), 0);
                }
            }
        }

        #[test]
        fn no_sizes_make_it_panic(offset: u64, size: u64, content in 0..u64::MAX / 8) {
            let blob = Blob { name: "spl".into(), offset, size };
            let _ = lay_out(
                &sunxi("sunxi-gpt"),
                &[blob],
                DiskSize::PowerOfTwo,
                |_| content,
                |partition, files| Ok(needed(content, partition, files)),
            );
        }
    }
}
