//! Where everything lies on the disk, and that nothing lies over anything else.

use super::{BLOCK, Content, DiskSpec, Table, guid};
use crate::error::{Error, Result};

/// Blocks of a partition table with its 128 entries of 128 bytes, without the block of its header.
const ENTRY_BLOCKS: u64 = 32;
/// Most entries in such a table.
const MAX_PARTITIONS: usize = 128;

struct Extent {
    what: String,
    start: u64,
    end: u64,
}

pub(super) fn check(spec: &DiskSpec) -> Result<()> {
    if !spec.size.is_multiple_of(BLOCK) {
        return Err(Error::new(format!(
            "the image's size, {} bytes, is not a multiple of {BLOCK}",
            spec.size
        )));
    }
    let table = (2 + ENTRY_BLOCKS) * BLOCK;
    if spec.size < 2 * table + BLOCK {
        return Err(Error::new(format!("an image of {} bytes has no room for a partition table", spec.size)));
    }
    if spec.partitions.len() > MAX_PARTITIONS {
        return Err(Error::new(format!(
            "the image has {} partitions; the table holds {MAX_PARTITIONS}",
            spec.partitions.len()
        )));
    }
    let mut extents = match spec.table {
        Table::Gpt => vec![
            Extent { what: "the partition table".into(), start: 0, end: table },
            Extent {
                what: "the backup partition table".into(),
                start: spec.size - table + BLOCK,
                end: spec.size,
            },
        ],
    };
    for partition in &spec.partitions {
        let what = format!("partition `{}`", partition.name);
        if partition.name.encode_utf16().count() > 36 || partition.name.contains(|c: char| c.is_control()) {
            return Err(Error::new(format!(
                "{what}: a partition's name has at most 36 printable characters"
            )));
        }
        guid(&partition.type_guid).map_err(|error| error.context(format!("the type of {what}")))?;
        if partition.guid == [0; 16] {
            return Err(Error::new(format!("{what} has no GUID")));
        }
        if let Content::Raw(data) = &partition.content
            && data.len() as u64 > partition.size
        {
            return Err(Error::new(format!(
                "{what} has {} bytes, its contents {}",
                partition.size,
                data.len()
            )));
        }
        if !partition.size.is_multiple_of(BLOCK) {
            return Err(Error::new(format!(
                "the size of {what}, {} bytes, is not a multiple of {BLOCK}",
                partition.size
            )));
        }
        extents.push(extent(what, partition.start, partition.size, spec.size)?);
    }
    for (index, partition) in spec.partitions.iter().enumerate() {
        if spec.partitions.iter().take(index).any(|other| other.guid == partition.guid) {
            return Err(Error::new(format!(
                "partition `{}` has the GUID of another partition",
                partition.name
            )));
        }
    }
    for blob in &spec.raw {
        extents.push(extent(blob.name.clone(), blob.offset, blob.data.len() as u64, spec.size)?);
    }
    extents.sort_by_key(|extent| (extent.start, extent.end));
    for pair in extents.windows(2) {
        if let [first, second] = pair
            && second.start < first.end
        {
            return Err(Error::new(format!(
                "{} (bytes {:#x} to {:#x}) lies over {} (bytes {:#x} to {:#x})",
                second.what,
                second.start,
                second.end - 1,
                first.what,
                first.start,
                first.end - 1
            )));
        }
    }
    Ok(())
}

fn extent(what: String, start: u64, size: u64, disk: u64) -> Result<Extent> {
    if size == 0 {
        return Err(Error::new(format!("{what} is empty")));
    }
    if !start.is_multiple_of(BLOCK) {
        return Err(Error::new(format!(
            "{what} begins at byte {start:#x}, which is not a multiple of {BLOCK}"
        )));
    }
    match start.checked_add(size) {
        Some(end) if end <= disk => Ok(Extent { what, start, end }),
        _ => Err(Error::new(format!(
            "{what} ({size} bytes at byte {start:#x}) reaches past the end of the image ({disk} bytes)"
        ))),
    }
}
