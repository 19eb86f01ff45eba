//! Partition tables of anyone's making: what they say, and whether they are sound.

use serde::Serialize;

use super::fault::Fault;
use super::window::Window;
use super::{gpt, mbr};
use crate::error::Result;

/// Partitions that are looked at; a GPT usually has room for 128.
const MOST_PARTITIONS: usize = 256;

/// One piece of a partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it is: a master boot record, a GPT's header, its entries.
    pub what: String,
    /// The first byte.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// Whether its checksums are right and it says what can be.
    pub sound: bool,
}

/// A partition as a table has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, counted from 1.
    pub number: u32,
    /// The name a GPT gives it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the table says it is for, in words or as the number it has.
    #[serde(rename = "type")]
    pub kind: String,
    /// The first byte.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// Whether it has the mark by which U-Boot looks for what to boot.
    pub bootable: bool,
    /// Whether it is an EFI system partition.
    pub esp: bool,
}

impl Entry {
    /// How the file `path` of its file system is called.
    pub(super) fn path(&self, path: &str) -> String {
        match self.number {
            0 => format!("/{path}"),
            number => format!("partition {number}, /{path}"),
        }
    }
}

/// The partition table of a medium.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// `GPT`, `MBR`, or nothing where there is none.
    pub(super) kind: Option<&'static str>,
    pub(super) pieces: Vec<Table>,
    pub(super) entries: Vec<Entry>,
}

impl Tables {
    /// Reads what there is on `window`.
    pub(super) fn read(window: &Window, faults: &mut Vec<Fault>) -> Result<Self> {
        let record = mbr::Record::read(window)?;
        let mut tables = Self::default();
        if let Some(record) = &record {
            tables.pieces.push(Table { what: record.name().to_owned(), start: 0, size: 512, sound: true });
        }
        if gpt::read(window, record.as_ref(), &mut tables, faults)? {
            tables.kind = Some("GPT");
        } else if let Some(record) = record {
            tables.kind = Some("MBR");
            record.partitions(window, &mut tables, faults)?;
        }
        if tables.entries.len() > MOST_PARTITIONS {
            let what = format!(
                "it has {} partitions; the first {MOST_PARTITIONS} are looked at",
                tables.entries.len()
            );
            faults.push(Fault::warning("the partition table", what));
            tables.entries.truncate(MOST_PARTITIONS);
        }
        for entry in &tables.entries {
            check(entry, window.size(), faults);
        }
        Ok(tables)
    }
}

fn check(entry: &Entry, size: u64, faults: &mut Vec<Fault>) {
    let at = format!("partition {}", entry.number);
    match entry.start.checked_add(entry.size) {
        Some(end) if end <= size => {}
        end => {
            let end = end.unwrap_or(u64::MAX);
            let what = format!("it ends at byte {end}, and the medium at byte {size}");
            faults
                .push(Fault::error(at, what).help(
                    "the image is cut short, or is on a medium that is too small: get it again, whole",
                ));
        }
    }
}
