//! The partition table of a master boot record (UEFI specification 2.10, 5.2.1), with extended partitions as Linux's
//! block/partitions/msdos.c takes them.

use super::fat::Fat;
use super::fault::Fault;
use super::table::{Entry, Table, Tables};
use super::window::Window;
use crate::bytes::{has, u32_at};
use crate::disk::BLOCK;
use crate::error::Result;

/// A partition that says that a GPT has the medium.
const PROTECTIVE: u8 = 0xee;
/// Partitions in which there are partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Logical partitions that are followed; Linux stops at 256.
const MOST_LOGICAL: u32 = 128;

/// The four entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    index: u32,
    active: bool,
    kind: u8,
    /// In blocks.
    start: u64,
    size: u64,
}

impl Record {
    /// Reads the first sector; `None` where that is no master boot record, but boot code of a file system, for one.
    pub(super) fn read(window: &Window) -> Result<Option<Self>> {
        let sector = window.up_to(0, BLOCK)?;
        let Some(slots) = slots(&sector) else { return Ok(None) };
        if slots.is_empty() || Fat::open(window)?.is_some() {
            return Ok(None);
        }
        Ok(Some(Self { slots }))
    }

    pub(super) fn is_protective(&self) -> bool {
        self.slots.iter().any(|slot| slot.kind == PROTECTIVE)
    }

    /// Whether there are partitions beside the one that protects a GPT.
    pub(super) fn is_hybrid(&self) -> bool {
        self.is_protective() && self.slots.len() > 1
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.is_protective(), self.is_hybrid()) {
            (_, true) => "hybrid MBR",
            (true, _) => "protective MBR",
            _ => "MBR",
        }
    }

    /// What a hybrid record shows beside the GPT: type, first byte, size in bytes.
    pub(super) fn shown(&self) -> impl Iterator<Item = (u8, u64, u64)> {
        let shown = self.slots.iter().filter(|slot| slot.kind != PROTECTIVE);
        shown.map(|slot| (slot.kind, slot.start * BLOCK, slot.size * BLOCK))
    }

    /// Adds the partitions, and the records of extended ones.
    pub(super) fn partitions(
        &self,
        window: &Window,
        tables: &mut Tables,
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        if self.is_protective() {
            let what = "it says that a GPT has the medium, and there is no GPT";
            faults.push(
                Fault::error("the MBR", what).help("write the image again; something has overwritten it"),
            );
        }
        let active = self.slots.iter().filter(|slot| slot.active).count();
        if active > 1 {
            faults.push(Fault::warning(
                "the MBR",
                format!("{active} partitions are marked as bootable; one should be"),
            ));
        }
        for slot in &self.slots {
            if EXTENDED.contains(&slot.kind) {
                logical(window, slot, tables, faults)?;
            } else if slot.kind != PROTECTIVE {
                tables.entries.push(slot.entry(slot.index, 0));
            }
        }
        Ok(())
    }
}

impl Slot {
    /// The partition, whose start counts from block `base`.
    fn entry(&self, number: u32, base: u64) -> Entry {
        Entry {
            number,
            name: String::new(),
            kind: kind(self.kind),
            start: base.saturating_add(self.start).saturating_mul(BLOCK),
            size: self.size * BLOCK,
            bootable: self.active,
            esp: self.kind == 0xef,
        }
    }
}

/// The entries that are in use; `None` where the sector has no table.
fn slots(sector: &[u8]) -> Option<Vec<Slot>> {
    if !has(sector, 510, &[0x55, 0xaa]) {
        return None;
    }
    let mut slots = Vec::new();
    for (index, entry) in (1..).zip(sector.get(446..510)?.chunks_exact(16)) {
        let (status, kind) = (*entry.first()?, *entry.get(4)?);
        if status & 0x7f != 0 {
            return None;
        }
        let (start, size) = (u64::from(u32_at(entry, 8)?), u64::from(u32_at(entry, 12)?));
        if kind != 0 && size != 0 {
            slots.push(Slot { index, active: status == 0x80, kind, start, size });
        }
    }
    Some(slots)
}

/// Follows the chain of records in an extended partition: each has a partition, counted from itself, and the next
/// record, counted from the extended partition.
fn logical(window: &Window, extended: &Slot, tables: &mut Tables, faults: &mut Vec<Fault>) -> Result<()> {
    let mut at = extended.start;
    for number in 5..5 + MOST_LOGICAL {
        let place = format!("the extended partition's record at byte {}", at * BLOCK);
        let sector = window.up_to(at * BLOCK, BLOCK)?;
        let Some(slots) = slots(&sector) else {
            faults.push(Fault::error(place, "there is none: the partitions behind it are lost"));
            return Ok(());
        };
        tables.pieces.push(Table {
            what: "extended boot record".into(),
            start: at * BLOCK,
            size: BLOCK,
            sound: true,
        });
        if let Some(slot) = slots.iter().find(|slot| !EXTENDED.contains(&slot.kind)) {
            tables.entries.push(slot.entry(number, at));
        }
        let Some(next) = slots.iter().find(|slot| EXTENDED.contains(&slot.kind)) else { return Ok(()) };
        let next = extended.start.saturating_add(next.start);
        if next <= at {
            faults.push(Fault::error(place, "the next one lies before it: the chain leads in a circle"));
            return Ok(());
        }
        at = next;
    }
    faults.push(Fault::warning(
        "the extended partition",
        format!("only the first {MOST_LOGICAL} partitions in it are shown"),
    ));
    Ok(())
}

fn kind(number: u8) -> String {
    let name = match number {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x0b | 0x0c => "FAT32",
        0x07 => "NTFS or exFAT",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xcd => "ISO 9660",
        0xda => "data without a file system",
        0xea => "boot files of the system (Boot Loader Specification)",
        0xef => "EFI system partition",
        0xf8 => "Arm EBBR protective",
        _ => return format!("type {number:#04x}"),
    };
    format!("{name} ({number:#04x})")
}
