//! The partition table of a master boot record, for firmware that knows no other.
//!
//! The `gpt` crate writes protective records, which are master boot records of one kind; it writes these as well. The
//! crates made for them bring an encoder that is no longer kept up for 512 bytes.

use std::fs::File;

use gpt::mbr::{PartRecord, ProtectiveMBR};

use super::{BLOCK, DiskSpec};
use crate::error::{Error, Result, ResultExt};

/// The mark of the partition that firmware boots from.
const ACTIVE: u8 = 0x80;

/// Writes the table. `spec` has been checked.
pub(super) fn write(file: &File, spec: &DiskSpec, signature: u32) -> Result<()> {
    let failed = || "cannot write the partition table";
    let mut record = ProtectiveMBR::new();
    record.set_disk_signature(signature.to_le_bytes());
    for index in 0..4 {
        let entry = match spec.partitions.get(index) {
            None => PartRecord::zero(),
            Some(partition) => {
                let blocks = |bytes: u64| {
                    u32::try_from(bytes / BLOCK).map_err(|_| Error::new("a master boot record ends at 2 TiB"))
                };
                let (first, count) = (blocks(partition.start)?, blocks(partition.size)?);
                let (start, end) = (place(first), place(first.saturating_add(count).saturating_sub(1)));
                PartRecord {
                    boot_indicator: if partition.bootable { ACTIVE } else { 0 },
                    start_head: start[0],
                    start_sector: start[1],
                    start_track: start[2],
                    os_type: partition.mbr_type,
                    end_head: end[0],
                    end_sector: end[1],
                    end_track: end[2],
                    lb_start: first,
                    lb_size: count,
                }
            }
        };
        record.set_partition(index, entry);
    }
    let mut device = file.try_clone().context(failed)?;
    record.overwrite_lba0(&mut device).context(failed)?;
    Ok(())
}

/// A block in heads, sectors and cylinders of the geometry that everybody assumes, 255 heads of 63 sectors; what lies
/// beyond 1024 cylinders is named by their last.
fn place(block: u32) -> [u8; 3] {
    let (cylinder, rest) = (block / (255 * 63), block % (255 * 63));
    if cylinder > 1023 {
        return [254, 255, 255];
    }
    let byte = |value: u32| u8::try_from(value & 0xff).unwrap_or(0);
    [byte(rest / 63), byte(rest % 63 + 1) | byte(cylinder >> 8) << 6, byte(cylinder)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_hand() {
        assert_eq!(place(0), [0, 1, 0]);
        assert_eq!(place(2048), [32, 33, 0], "what every tool writes for 1 MiB");
        assert_eq!(place(300 * 255 * 63), [0, 0x41, 44]);
        assert_eq!(place(u32::MAX), [254, 255, 255]);
    }
}
