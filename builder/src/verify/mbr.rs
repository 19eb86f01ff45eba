//! The partition table of a master boot record, by the UEFI specification 2.10, 5.2.1.

use std::fs::File;

use super::{read, u16_at, u32_at};
use crate::disk::{BLOCK, DiskSpec};
use crate::error::{Error, Result};

/// Checks the record against `spec`.
pub(super) fn check(file: &File, spec: &DiskSpec, signature: u32) -> Result<()> {
    let record = read(file, 0, 512)?;
    let wrong = |what: &str| Err(Error::new(format!("the master boot record: {what}")));
    if u16_at(&record, 510)? != 0xaa55 {
        return wrong("no signature");
    }
    // Boot code would be run by a PC's firmware; nothing here writes any.
    if record.get(..440).is_none_or(|code| code.iter().any(|&byte| byte != 0)) {
        return wrong("it has boot code");
    }
    if u32_at(&record, 440)? != signature || u16_at(&record, 444)? != 0 {
        return wrong("the disk has another signature");
    }
    for (index, entry) in record.get(446..510).unwrap_or_default().chunks_exact(16).enumerate() {
        let Some(wanted) = spec.partitions.get(index) else {
            if entry.iter().any(|&byte| byte != 0) {
                return wrong("a partition too many");
            }
            continue;
        };
        let flag = if wanted.bootable { 0x80 } else { 0 };
        let place = (u64::from(u32_at(entry, 8)?) * BLOCK, u64::from(u32_at(entry, 12)?) * BLOCK);
        if entry.first() != Some(&flag) || entry.get(4) != Some(&wanted.mbr_type) {
            return wrong(&format!("partition {} has another type or mark", index + 1));
        }
        if place != (wanted.start, wanted.size) {
            return wrong(&format!(
                "partition {} begins at byte {} and has {} bytes",
                index + 1,
                place.0,
                place.1
            ));
        }
    }
    // A GPT's header behind it would be believed by some and not by others.
    if read(file, BLOCK, 8)? == b"EFI PART" {
        return wrong("there is a GPT as well");
    }
    Ok(())
}
