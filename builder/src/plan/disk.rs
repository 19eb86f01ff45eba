//! What is at which byte of the medium.

use crate::error::{Error, Result};
use crate::layout::{Content, Filesystem, Kind, Layout, Table};
use serde::Serialize;

/// The sector size of the media.
pub const SECTOR: u64 = 512;
/// Protective MBR, GPT header and 128 entries.
const GPT_FRONT: u64 = 34 * SECTOR;
/// 128 entries and the second GPT header.
const GPT_BACK: u64 = 33 * SECTOR;

/// The medium's byte map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskMap {
    /// The size of the medium in bytes.
    pub size: u64,
    /// The kind of partition table.
    pub table: Table,
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
/// `size_of` gives the size of a content, `filesystem_size` that of the smallest file system that holds the files
/// and `slack` bytes more.
///
/// # Errors
///
/// Firmware over the partition table or over other firmware; a medium larger than 2^50 bytes.
pub fn lay_out(
    layout: &Layout,
    blobs: &[Blob],
    size_of: impl Fn(Content) -> u64,
    filesystem_size: impl Fn(&[PlannedFile], u64) -> Result<u64>,
) -> Result<DiskMap> {
    let alignment = layout.alignment.bytes();
    let round = |bytes: u64| bytes.checked_next_multiple_of(alignment).filter(|bytes| *bytes < 1 << 50);
    let too_large =
        || Error::new(format!("the layout `{}` needs a medium of more than 2^50 bytes", layout.id));

    let mut extents =
        vec![Extent { what: "GPT: protective MBR, header, entries".into(), start: 0, size: GPT_FRONT }];
    extents.extend(blobs.iter().map(|blob| Extent {
        what: format!("firmware {}", blob.name),
        start: blob.offset,
        size: blob.size,
    }));
    let front = extents.iter().map(|extent| extent.start.saturating_add(extent.size)).max().unwrap_or(0);
    let mut next = round(front).ok_or_else(too_large)?;
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
        let needed = filesystem_size(&files, partition.slack.bytes())?;
        let size = round(needed.max(partition.min_size.bytes())).ok_or_else(too_large)?;
        extents.push(Extent { what: format!("partition `{}`", partition.name), start: next, size });
        partitions.push(PlannedPartition {
            name: partition.name.clone(),
            kind: partition.kind,
            start: next,
            size,
            filesystem: partition.filesystem,
            files,
        });
        next = next.checked_add(size).ok_or_else(too_large)?;
    }
    let size = round(next.saturating_add(GPT_BACK)).ok_or_else(too_large)?;
    extents.push(Extent {
        what: "GPT: second entries and header".into(),
        start: size - GPT_BACK,
        size: GPT_BACK,
    });
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
    Ok(DiskMap { size, table: layout.table, extents, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout() -> Layout {
        Layout::parse("l", include_str!("../../../images/gpt-uboot.toml"), "gpt-uboot").unwrap()
    }

    fn sum(files: &[PlannedFile], slack: u64) -> Result<u64> {
        Ok(files.iter().map(|file| file.size).sum::<u64>() + slack)
    }

    #[test]
    fn partitions_are_aligned_and_the_size_follows_the_content() {
        let map = lay_out(&layout(), &[], |_| 1000, sum).unwrap();
        assert_eq!(map.partitions[0].start, 1 << 20);
        assert_eq!(map.partitions[0].size, 17 << 20);
        assert_eq!(map.size, 19 << 20);
    }

    #[test]
    fn firmware_over_the_partition_table_is_refused() {
        let spl = Blob { name: "spl".into(), offset: 8192, size: 32768 };
        let error = lay_out(&layout(), &[spl], |_| 1, sum).unwrap_err();
        assert!(
            error.what().contains(
                "GPT: protective MBR, header, entries (bytes 0 to 17408) is overlapped by firmware spl"
            ),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn extents_never_overlap(offset in 0_u64..1 << 24, size in 1_u64..1 << 24, content in 0_u64..1 << 30) {
            let blob = Blob { name: "spl".into(), offset, size };
            if let Ok(map) = lay_out(&layout(), &[blob], |_| content, sum) {
                let mut end = 0;
                for extent in &map.extents {
                    prop_assert!(extent.start >= end);
                    end = extent.start + extent.size;
                }
                prop_assert_eq!(end, map.size);
            }
        }

        #[test]
        fn no_sizes_make_it_panic(offset: u64, size: u64, content in 0..u64::MAX / 8) {
            let _ = lay_out(&layout(), &[Blob { name: "spl".into(), offset, size }], |_| content, |_, slack| Ok(content.saturating_add(slack)));
        }
    }
}
