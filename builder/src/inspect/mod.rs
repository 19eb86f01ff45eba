//! An account of any disk image, disk or boot file: what lies where, what would boot of it, and why something would not.
//!
//! ```text
//! file, disk, packed image -> Window -> tables -> partitions -> file systems -> files -+
//!                                |                                                     +-> Account: verdicts, faults, map
//!                                +----> where boot ROMs look, gaps ---------------------+
//! ```
//!
//! Whoever made it may have done so badly or with ill will. Nothing is written to it; what is read is bounded, and what
//! cannot be is a fault of the image and not of the program.

mod boot;
mod boot_volume;
mod command;
mod fat;
mod fault;
mod fip;
mod fit;
mod gpt;
mod legacy;
mod mbr;
mod raw;
mod report;
mod rom;
mod script;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod thing;
mod volume;
mod window;

use std::path::Path;

use serde::Serialize;

pub use boot::{Step, Verdict};
pub(crate) use boot_volume::{BootVolume, boot_volume};
pub(crate) use command::keeps;
pub use command::{InspectCommand, run};
pub(crate) use fat::Fat;
pub use fault::Fault;
pub use raw::Found;
#[cfg(test)]
pub(crate) use rom::tests::spl;
pub(crate) use rom::{Mlo, sunxi_spl};
pub use table::{Entry, Table};
pub use thing::{Cpu, Kind, Thing};
pub use volume::Format;

use crate::error::{Error, Result};
use crate::port::Level;
use crate::progress::Progress;
use boot::{Medium, Place};
use table::Tables;
use thing::{MOST, Packing, recognise};
use volume::{Listed, Volume};
pub(crate) use window::Window;

/// What of a file is read to see whether it is worth reading more.
const GLANCE: u64 = 4096;
/// Bytes of files that are looked at altogether; beyond it nothing is known of them.
const MOST_FILES_BYTES: u64 = 1 << 30;
/// What a look at how a file begins counts for.
const LOOK: u64 = 64 << 10;

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// What was inspected.
    pub source: String,
    /// How it was packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packing: Option<&'static str>,
    /// Its size in bytes, unpacked.
    pub size: u64,
    /// The kind of partition table: `GPT` or `MBR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<&'static str>,
    /// The pieces of partition tables.
    pub tables: Vec<Table>,
    /// The partitions; one with the number 0 is a medium that has none.
    pub partitions: Vec<Partition>,
    /// What lies outside of partitions.
    pub raw: Vec<Found>,
    /// What the whole file is, where it is no medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Thing>,
    /// What would boot.
    pub verdicts: Vec<Verdict>,
    /// What is wrong, the worst first.
    pub faults: Vec<Fault>,
}

/// A partition and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// What the table says.
    #[serde(flatten)]
    pub entry: Entry,
    /// What it is formatted as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// What it is, where it has no file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Thing>,
    /// The files of which something is known.
    pub files: Vec<KnownFile>,
    /// Whether there are files that were not looked at.
    pub more_files: bool,
}

/// A file of which something is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownFile {
    /// The path, without a slash before it.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
    /// What it is.
    #[serde(flatten)]
    pub thing: Thing,
}

impl Account {
    /// Whether something keeps it from booting.
    pub fn is_broken(&self) -> bool {
        self.faults.iter().any(|fault| fault.level == Level::Error)
    }
}

/// What a boot script puts into RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The file.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// The address.
    pub(crate) address: u64,
    /// What it takes there in bytes: for what is started, with what it needs beyond its file.
    pub(crate) size: u64,
}

impl Account {
    /// What the first boot script loads to addresses that are numbers, of files that are known.
    pub(crate) fn loads(&self) -> Vec<Loaded> {
        let scripts = self.partitions.iter().flat_map(|partition| {
            partition
                .files
                .iter()
                .filter_map(move |file| Some((partition, file, file.thing.text.as_deref()?)))
        });
        for (partition, file, text) in scripts {
            let of_slot = boot::slots::of_slot(&file.path, text);
            let asked = script::script(of_slot.as_deref().unwrap_or(text));
            let of = |load: &script::Load| {
                let path = load.path.trim_start_matches('/');
                let file = partition.files.iter().find(|file| file.path == path)?;
                let started = asked.starts.iter().any(|start| start.address == load.address);
                let size = if started { file.bytes.max(file.thing.memory) } else { file.bytes };
                let address = boot::number(&load.address)?;
                Some(Loaded { path: path.to_owned(), kind: file.thing.kind, address, size })
            };
            let loads: Vec<Loaded> = asked.loads.iter().filter_map(of).collect();
            if !loads.is_empty() {
                return loads;
            }
        }
        Vec::new()
    }
}

/// Inspects the file or block device at `path`.
///
/// # Errors
/// Only what keeps it from being read at all; all else is a fault in the account.
pub fn inspect(path: &Path, progress: &Progress) -> Result<Account> {
    let mut faults = Vec::new();
    let source = source::open(path, &mut faults, progress)?;
    let mut account =
        examine(&source.window, &path.display().to_string(), faults).map_err(|error| error.at(path))?;
    account.packing = source.packing;
    Ok(account)
}

/// What is on `window`, which is called `source`.
fn examine(window: &Window, source: &str, mut faults: Vec<Fault>) -> Result<Account> {
    if window.size() == 0 {
        return Err(Error::new("it is empty"));
    }
    let tables = Tables::read(window, &mut faults)?;
    let mut taken: Vec<(u64, u64)> = tables.pieces.iter().map(|piece| (piece.start, piece.size)).collect();
    taken.extend(tables.entries.iter().map(|entry| (entry.start, entry.size)));
    let mut account = Account {
        source: source.to_owned(),
        packing: None,
        size: window.size(),
        table: tables.kind,
        tables: tables.pieces,
        partitions: Vec::new(),
        raw: Vec::new(),
        file: None,
        verdicts: Vec::new(),
        faults,
    };
    let mut volumes = Vec::new();
    let mut allowance = MOST_FILES_BYTES;
    for entry in tables.entries {
        let part = window.part(entry.start, entry.size);
        let (partition, volume) = partition(entry, &part, &mut allowance, &mut account.faults);
        account.partitions.push(partition);
        volumes.push(volume);
    }
    if account.table.is_none() {
        let whole = Entry {
            number: 0,
            name: String::new(),
            kind: String::new(),
            start: 0,
            size: window.size(),
            bootable: false,
            esp: false,
        };
        let (partition, volume) = partition(whole, window, &mut allowance, &mut account.faults);
        if partition.format.is_some() {
            account.partitions.push(partition);
            volumes.push(volume);
            taken.push((0, window.size()));
        } else if let Some(thing) =
            partition.content.filter(|thing| thing.kind != Kind::Other || !thing.wrong.is_empty())
        {
            taken.push((0, window.size()));
            account.file = Some(thing);
        }
    }
    taken.sort_unstable();
    if account.file.is_none() {
        match raw::search(window, &taken) {
            Ok(raw) => account.raw = raw,
            Err(error) => account.faults.push(Fault::error("the medium", error.to_string())),
        }
    }
    if account.file.is_none()
        && account.partitions.is_empty()
        && account.table.is_none()
        && account.raw.iter().all(|found| found.thing.kind == Kind::Other)
    {
        account.faults.push(Fault::error(
            source,
            "this is nothing that is known here: no partition table, no file system, no boot file",
        ));
    }
    let over = overlaps(&account);
    account.faults.extend(over);
    judge(&mut account, &volumes);
    account.faults.sort_by_key(|fault| fault.level);
    let mut seen: Vec<Fault> = Vec::new();
    account.faults.retain(|fault| {
        let new = !seen.contains(fault);
        if new {
            seen.push(fault.clone());
        }
        new
    });
    Ok(account)
}

fn judge(account: &mut Account, volumes: &[Option<Volume>]) {
    let known: Vec<Vec<(String, u64, Thing)>> = account
        .partitions
        .iter()
        .map(|partition| {
            partition.files.iter().map(|file| (file.path.clone(), file.bytes, file.thing.clone())).collect()
        })
        .collect();
    let places = account.partitions.iter().zip(volumes).zip(&known).map(|((partition, volume), files)| {
        Place { entry: &partition.entry, volume: volume.as_ref(), files }
    });
    let entries = account
        .tables
        .iter()
        .find(|table| table.what == "GPT entries")
        .map(|table| (table.start, table.size));
    let medium = Medium { table: account.table, places: places.collect(), raw: &account.raw, entries };
    let mut faults = Vec::new();
    let verdicts = if account.file.is_none() { medium.judge(&mut faults) } else { Vec::new() };
    account.verdicts = verdicts;
    account.faults.extend(faults);
    for partition in &account.partitions {
        for file in &partition.files {
            let at = partition.entry.path(&file.path);
            for wrong in file.thing.faults(&at) {
                // What is in the way of a boot has been said.
                if !account.faults.iter().any(|fault| fault.at == at && fault.what == wrong.what) {
                    account.faults.push(Fault { level: Level::Warning, ..wrong });
                }
            }
        }
    }
    let of_file = account.file.iter().flat_map(|thing| thing.faults(&account.source)).collect::<Vec<_>>();
    account.faults.extend(of_file);
}

/// A partition, and its file system where that can be read.
fn partition(
    entry: Entry,
    window: &Window,
    allowance: &mut u64,
    faults: &mut Vec<Fault>,
) -> (Partition, Option<Volume>) {
    let at = if entry.number == 0 { "the medium".to_owned() } else { format!("partition {}", entry.number) };
    let mut partition =
        Partition { entry, format: None, content: None, files: Vec::new(), more_files: false };
    let volume = match volume::open(window, &at, faults) {
        Ok((format, volume)) => {
            partition.format = format;
            volume
        }
        Err(error) => {
            faults.push(Fault::error(&at, error.to_string()));
            return (partition, None);
        }
    };
    if partition.format.is_none() {
        match look(window.size(), |most| window.up_to(0, most), allowance) {
            Ok(thing) => {
                partition.content =
                    (partition.entry.number == 0 || thing.kind != Kind::Other).then_some(thing);
            }
            Err(error) => faults.push(Fault::error(&at, error.to_string())),
        }
        return (partition, None);
    }
    let Some(volume) = volume else { return (partition, None) };
    match volume.list() {
        Ok((listed, more)) => {
            partition.more_files = more;
            for file in listed.iter().filter(|file| !file.folder) {
                partition.files.extend(known(&volume, file, allowance));
            }
        }
        Err(error) => faults.push(Fault::error(&at, format!("its files cannot be listed: {error}"))),
    }
    (partition, Some(volume))
}

/// What is known of a file, if anything is.
fn known(volume: &Volume, file: &Listed, allowance: &mut u64) -> Option<KnownFile> {
    let found = volume.open(file)?;
    let thing = match look(found.size, |most| found.read(most), allowance) {
        Ok(thing) => thing,
        Err(error) => volume.unread(&error),
    };
    let nothing = thing.kind == Kind::Other && thing.wrong.is_empty();
    (!nothing).then(|| KnownFile { path: file.path.clone(), bytes: file.size, thing })
}

/// Says what `bytes` are, all of a file.
pub(crate) fn look_at(bytes: &[u8]) -> Thing {
    recognise(bytes, bytes.len() as u64)
}

/// Looks at how something of `size` bytes begins, and if that is worth it and the allowance lasts, at all of it.
fn look(size: u64, read: impl Fn(u64) -> Result<Vec<u8>>, allowance: &mut u64) -> Result<Thing> {
    let Some(left) = allowance.checked_sub(LOOK) else { return Ok(Thing::new(Kind::Other, "file")) };
    *allowance = left;
    let head = read(GLANCE)?;
    let glance = recognise(&head, size);
    if glance.kind == Kind::Other && glance.wrong.is_empty() && Packing::of(&head).is_none() {
        return Ok(glance);
    }
    match allowance.checked_sub(size.min(MOST)) {
        Some(left) => *allowance = left,
        None => return Ok(Thing { wrong: Vec::new(), ..glance }),
    }
    Ok(recognise(&read(MOST)?, size))
}

/// What lies over one another and should not.
fn overlaps(account: &Account) -> Vec<Fault> {
    let mut faults = Vec::new();
    let partition =
        |name: &str| account.partitions.iter().find(|partition| report::partition_name(partition) == name);
    let has_files = |name: &str| partition(name).is_some_and(|partition| partition.format.is_some());
    let whole_iso = |name: &str| {
        partition(name).and_then(|p| p.format.as_ref()).is_some_and(|format| format.name == "ISO 9660")
    };
    for conflict in account.map().conflicts() {
        let (first, second) = (&conflict.first, &conflict.second);
        let firmware = |name: &str| {
            account
                .raw
                .iter()
                .any(|found| report::found_name(found) == name && found.thing.kind == Kind::Firmware)
        };
        let table = |name: &str| account.tables.iter().any(|table| table.what == name);
        let what = format!(
            "{second} lies over {first}: both have {} bytes from byte {:#x}",
            conflict.size, conflict.start
        );
        let fault = match (partition(first), partition(second)) {
            // An installer's image is a file system and a partition table at once.
            _ if whole_iso(first) || whole_iso(second) => continue,
            (Some(_), Some(_)) => Fault::error("the partition table", what)
                .help("make one of them smaller; what was written to one may have damaged the other"),
            _ if table(first) && firmware(second) || table(second) && firmware(first) => {
                let help = "one of them is overwritten: use a MBR, or a GPT of at most 56 entries that ends before byte 0x2000, and write the firmware again";
                Fault::error("the medium", what).help(help)
            }
            _ if table(first) || table(second) => {
                Fault::error("the medium", what).help("the partition must begin behind the table")
            }
            // A partition may be there to keep the place for firmware.
            _ if has_files(first) || has_files(second) => {
                Fault::error("the medium", what).help("the partition must begin behind the firmware")
            }
            _ => continue,
        };
        faults.push(fault);
    }
    faults
}
