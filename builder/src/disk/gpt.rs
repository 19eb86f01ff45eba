//! The GUID partition table and its protective MBR, through the crate of that name.

use std::collections::BTreeMap;
use std::fs::File;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};

use super::{BLOCK, DiskSpec, guid};
use crate::error::{Result, ResultExt};

/// Attribute bit 2: the partition that old firmware, and U-Boot, boot from.
const LEGACY_BOOTABLE: u64 = 1 << 2;

/// Writes both tables and the protective MBR. `file` has its full length, and `spec` has been checked.
pub(super) fn write(file: &File, spec: &DiskSpec) -> Result<()> {
    let failed = || "cannot write the partition table";
    let blocks = spec.size / BLOCK;
    // The crate takes what reads, writes and seeks by value; a second handle shares the position, which nobody else uses.
    let mut device = file.try_clone().context(failed)?;
    ProtectiveMBR::with_lb_size(u32::try_from(blocks - 1).unwrap_or(u32::MAX))
        .overwrite_lba0(&mut device)
        .context(failed)?;
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(uuid::Uuid::from_bytes(spec.disk_guid)))
        .context(failed)?;
    let mut partitions = BTreeMap::new();
    for (number, partition) in (1_u32..).zip(&spec.partitions) {
        let part_type_guid = Type { guid: guid(&partition.type_guid)?, os: OperatingSystem::None };
        partitions.insert(
            number,
            Partition {
                part_type_guid,
                part_guid: uuid::Uuid::from_bytes(partition.guid),
                first_lba: partition.start / BLOCK,
                last_lba: (partition.start + partition.size) / BLOCK - 1,
                flags: if partition.legacy_boot { LEGACY_BOOTABLE } else { 0 },
                name: partition.name.clone(),
            },
        );
    }
    disk.update_partitions(partitions).context(failed)?;
    disk.write().context(failed)?;
    Ok(())
}
