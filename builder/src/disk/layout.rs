//! Where everything lies on the disk, and that nothing lies over anything else.

use super::{BLOCK, Content, DiskSpec, Gpt, PartitionSpec, Table, guid};
use crate::error::{Error, Result};

/// Bytes of a protective MBR and a GPT's header.
const GPT_HEADS: u64 = 2 * BLOCK;
/// Most entries that a master boot record has.
const MBR_PARTITIONS: usize = 4;

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
    let (mut extents, most) = match &spec.table {
        Table::Gpt(table) => (gpt(spec, table)?, table.entries as usize),
        Table::Mbr { signature } => (mbr(spec, *signature)?, MBR_PARTITIONS),
    };
    if spec.partitions.len() > most {
        return Err(Error::new(format!(
            "the image has {} partitions; the table holds {most}",
            spec.partitions.len()
        )));
    }
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
        check_content(&what, &partition.content, partition.size)?;
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
    if let Table::Gpt(table) = &spec.table {
        let early = |partition: &&PartitionSpec| partition.start / BLOCK < table.first_usable;
        if let Some(partition) = spec.partitions.iter().find(early) {
            return Err(Error::new(format!(
                "partition `{}` begins before block {}, the first that the table says can be used",
                partition.name, table.first_usable
            )));
        }
    }
    Ok(())
}

/// What `content` cannot be in the `size` bytes of `what`.
fn check_content(what: &str, content: &Content, size: u64) -> Result<()> {
    match content {
        Content::Ext4(ext4) => {
            super::ext4::check_label(&ext4.label).map_err(|error| error.context(what.to_owned()))
        }
        Content::Raw(data) if data.len() as u64 > size => {
            Err(Error::new(format!("{what} has {size} bytes, its contents {}", data.len())))
        }
        Content::Lvm(group) => {
            group.check(size).map_err(|error| error.context(what.to_owned()))?;
            group.placed().try_for_each(|(volume, _, size)| {
                check_content(&format!("volume `{}` of {what}", volume.name), &volume.content, size)
            })
        }
        Content::Empty | Content::Same | Content::Raw(_) | Content::Fat32(_) => Ok(()),
    }
}

/// What a GPT takes, front and back.
fn gpt(spec: &DiskSpec, table: &Gpt) -> Result<Vec<Extent>> {
    let blocks = spec.size / BLOCK;
    let count = table.entry_blocks();
    let entries_end = table.entries_at.saturating_add(count);
    if table.entries == 0
        || table.entries > 1024
        || !(table.entries * 128).is_multiple_of(512)
        || table.entries_at < 2
        || table.first_usable < entries_end
    {
        return Err(Error::new(format!(
            "a partition table of {} entries at block {}, with partitions from block {} on, cannot be",
            table.entries, table.entries_at, table.first_usable
        )));
    }
    // The last usable block comes before the second copy, and is not before the first.
    if table.first_usable.saturating_add(count + 2) > blocks {
        return Err(Error::new(format!("an image of {} bytes has no room for a partition table", spec.size)));
    }
    let entries = table.entries_at * BLOCK;
    Ok(vec![
        Extent { what: "the header of the partition table".into(), start: 0, end: GPT_HEADS },
        Extent { what: "the partition table".into(), start: entries, end: entries_end * BLOCK },
        Extent {
            what: "the backup partition table".into(),
            start: spec.size - (count + 1) * BLOCK,
            end: spec.size,
        },
    ])
}

/// What a master boot record takes; its numbers of blocks have 32 bits.
fn mbr(spec: &DiskSpec, signature: u32) -> Result<Vec<Extent>> {
    if signature == 0 {
        return Err(Error::new("the disk's signature is 0, which stands for none"));
    }
    if spec.size / BLOCK > u64::from(u32::MAX) {
        return Err(Error::new("a disk with a master boot record ends at 2 TiB"));
    }
    if spec.size < 2 * BLOCK {
        return Err(Error::new(format!("an image of {} bytes has no room for partitions", spec.size)));
    }
    for partition in &spec.partitions {
        if partition.mbr_type == 0 {
            return Err(Error::new(format!(
                "partition `{}` has no type for a master boot record",
                partition.name
            )));
        }
    }
    if spec.partitions.iter().filter(|partition| partition.bootable).count() > 1 {
        return Err(Error::new("a master boot record marks at most one partition as bootable"));
    }
    Ok(vec![Extent { what: "the master boot record".into(), start: 0, end: BLOCK }])
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
