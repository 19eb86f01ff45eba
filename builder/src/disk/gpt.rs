//! The GUID partition table and its protective MBR, through the crate of that name.
//!
//! The crate's `GptDisk` always makes 128 entries behind the header, where some boards' ROM expects the first boot stage.
//! So the headers are filled in here, and the crate writes them, their checksums and the entries.

use std::fs::File;

use gpt::disk::LogicalBlockSize;
use gpt::header::Header;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};

use super::{BLOCK, DiskSpec, Gpt, guid};
use crate::error::{Result, ResultExt};

/// Attribute bit 2: the partition that old firmware, and U-Boot, boot from.
const LEGACY_BOOTABLE: u64 = 1 << 2;
/// Bytes of an entry.
const ENTRY: u32 = 128;
const LB: LogicalBlockSize = LogicalBlockSize::Lb512;

/// Writes both tables and the protective MBR. `file` has its full length, and `spec` has been checked.
pub(super) fn write(file: &File, spec: &DiskSpec, table: &Gpt) -> Result<()> {
    let failed = || "cannot write the partition table";
    let last = spec.size / BLOCK - 1;
    // The crate takes what reads, writes and seeks; a second handle shares the position, which nobody else uses.
    let mut device = file.try_clone().context(failed)?;
    ProtectiveMBR::with_lb_size(u32::try_from(last).unwrap_or(u32::MAX))
        .overwrite_lba0(&mut device)
        .context(failed)?;
    let mut primary = Header {
        signature: "EFI PART".to_owned(),
        revision: (1, 0),
        header_size_le: 92,
        crc32: 0,
        reserved: 0,
        current_lba: 1,
        backup_lba: last,
        first_usable: table.first_usable,
        last_usable: last - table.entry_blocks() - 1,
        disk_guid: uuid::Uuid::from_bytes(spec.disk_guid),
        part_start: table.entries_at,
        num_parts: table.entries,
        part_size: ENTRY,
        crc32_parts: 0,
    };
    let mut backup = Header {
        current_lba: last,
        backup_lba: 1,
        part_start: last - table.entry_blocks(),
        ..primary.clone()
    };
    for (index, partition) in (0_u64..).zip(&spec.partitions) {
        let entry = Partition {
            part_type_guid: Type { guid: guid(&partition.type_guid)?, os: OperatingSystem::None },
            part_guid: uuid::Uuid::from_bytes(partition.guid),
            first_lba: partition.start / BLOCK,
            last_lba: (partition.start + partition.size) / BLOCK - 1,
            flags: if partition.bootable { LEGACY_BOOTABLE } else { 0 },
            name: partition.name.clone(),
        };
        for header in [&primary, &backup] {
            entry.write_to_device(&mut device, index, header.part_start, LB, ENTRY).context(failed)?;
        }
    }
    // The checksums of the entries are made from what the file holds by now.
    backup.write_backup(&mut device, LB).context(failed)?;
    primary.write_primary(&mut device, LB).context(failed)?;
    Ok(())
}
