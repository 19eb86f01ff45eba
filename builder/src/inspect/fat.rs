//! FAT12, FAT16 and FAT32 of anyone's making, by Microsoft's "FAT32 File System Specification" 1.03.

use std::cell::RefCell;
use std::ops::Range;

use super::window::Window;
use crate::bytes::{has, u16_at, u32_at};
use crate::error::{Error, Result};
use crate::verify::fat::{entries, short_name};

/// Bytes of a card's block, and of any FAT's sector that firmware counts on.
const SECTOR: u64 = 512;
/// Clusters of a FAT32, at least.
const LEAST_32: u32 = 65_525;
/// The largest folder: 65536 entries.
const MOST_FOLDER: u64 = 2 << 20;
/// Bytes of the table that are read at once.
const PIECE: u64 = 4096;
/// What [`Fat::telling`] names at most: bytes before the first cluster, files and folders; and the bytes of a small file.
const MOST_BEFORE: u64 = 32 << 20;
const MOST_ITEMS: usize = 2000;
const SMALL_FILE: u64 = 32 << 10;

/// An opened file system.
#[derive(Debug)]
pub(crate) struct Fat {
    window: Window,
    bits: u8,
    /// Bytes of a sector.
    sector: u64,
    /// Bytes of the volume by its own account.
    pub(super) size: u64,
    table: u64,
    root: Root,
    data: u64,
    cluster: u64,
    clusters: u32,
    /// The piece of the table that was read last.
    piece: RefCell<Option<(u64, Vec<u8>)>>,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    /// FAT12's and FAT16's: place and size in bytes.
    Fixed(u64, u64),
    /// FAT32's first cluster.
    Chain(u32),
}

/// What a folder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) folder: bool,
    pub(super) size: u64,
    first: u32,
}

impl Fat {
    /// Opens the file system in `window`; `None` where there is no boot sector of one.
    pub(crate) fn open(window: &Window) -> Result<Option<Self>> {
        let boot = window.up_to(0, 512)?;
        let sector = u64::from(u16_at(&boot, 11).unwrap_or(0));
        let per_cluster = boot.get(13).copied().unwrap_or(0);
        let tables = u64::from(boot.get(16).copied().unwrap_or(0));
        let jump = boot.first() == Some(&0xe9) || boot.first() == Some(&0xeb) && boot.get(2) == Some(&0x90);
        if !has(&boot, 510, &[0x55, 0xaa])
            || !jump
            || !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !per_cluster.is_power_of_two()
            || !(1..=2).contains(&tables)
        {
            return Ok(None);
        }
        let field = |at| u64::from(u16_at(&boot, at).unwrap_or(0));
        let long = |at| u64::from(u32_at(&boot, at).unwrap_or(0));
        let either = |short: u64, long: u64| if short == 0 { long } else { short };
        let (reserved, fixed) = (field(14), field(17) * 32);
        let (sectors, per_table) = (either(field(19), long(32)), either(field(22), long(36)));
        let before = reserved + tables * per_table + fixed.div_ceil(sector);
        let Some(left) = sectors.checked_sub(before).filter(|_| reserved > 0 && per_table > 0) else {
            return Ok(None);
        };
        let clusters = left / u64::from(per_cluster);
        // By the specification the number of clusters decides. But Linux, U-Boot and EDK2 go by the field that only FAT32 has,
        // and dosfstools makes file systems that depend on it.
        let bits = match (field(22), clusters) {
            (0, _) => 32,
            (_, 0..4085) => 12,
            _ => 16,
        };
        let root = match bits {
            32 => Root::Chain(u32_at(&boot, 44).unwrap_or(0)),
            _ => Root::Fixed((reserved + tables * per_table) * sector, fixed),
        };
        Ok(Some(Self {
            window: window.clone(),
            bits,
            sector,
            size: sectors * sector,
            table: reserved * sector,
            root,
            data: before * sector,
            cluster: u64::from(per_cluster) * sector,
            // No more than the table has entries for.
            clusters: u32::try_from(clusters.min(per_table * sector * 8 / u64::from(bits))).unwrap_or(0),
            piece: RefCell::new(None),
        }))
    }

    /// `FAT16`, and so on.
    pub(super) fn name(&self) -> String {
        format!("FAT{}", self.bits)
    }

    /// What some firmware does not take, in words.
    pub(super) fn oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if self.sector != SECTOR {
            odd.push(format!(
                "its FAT has sectors of {} bytes: U-Boot reads it only on a medium with blocks of that size",
                self.sector
            ));
        }
        if self.bits == 32 && self.clusters < LEAST_32 {
            odd.push(format!(
                "its FAT32 has {} clusters; by the specification it would have {LEAST_32} at least, and be FAT16 with fewer",
                self.clusters
            ));
        }
        odd
    }

    /// The volume's label.
    pub(super) fn label(&self) -> Result<String> {
        let found = self.entries(None)?.into_iter().find(|entry| entry.attributes & 0x3f == 0x08);
        Ok(found
            .map_or_else(String::new, |entry| String::from_utf8_lossy(&entry.short).trim_end().to_owned()))
    }

    /// What is in the folder, or in the root.
    pub(super) fn list(&self, folder: Option<&Item>) -> Result<Vec<Item>> {
        let items = self.entries(folder)?.into_iter().filter(|entry| entry.attributes & 0x08 == 0);
        let items = items.map(|entry| Item {
            // Others show the short name of one whose long one is damaged.
            name: entry.name.unwrap_or_else(|_| short_name(&entry.short, 0)),
            folder: entry.attributes & 0x10 != 0,
            size: u64::from(entry.size),
            first: if self.bits == 32 { entry.first } else { entry.first & 0xffff },
        });
        Ok(items.filter(|item| item.name != "." && item.name != "..").collect())
    }

    fn entries(&self, folder: Option<&Item>) -> Result<Vec<crate::verify::fat::Entry>> {
        let bytes = match (folder.map(|item| item.first), self.root) {
            (None | Some(0), Root::Fixed(at, size)) => self.window.up_to(at, size.min(MOST_FOLDER))?,
            (None | Some(0), Root::Chain(first)) | (Some(first), _) => {
                self.chain(first, MOST_FOLDER, false)?
            }
        };
        entries(&bytes)
    }

    /// The first bytes of a file, at most `most`.
    pub(super) fn read(&self, item: &Item, most: u64) -> Result<Vec<u8>> {
        let wanted = item.size.min(most);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = self.chain(item.first, wanted, wanted == item.size)?;
        if (bytes.len() as u64) < wanted {
            return Err(Error::new(format!("its clusters end after {} of {} bytes", bytes.len(), item.size)));
        }
        bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// The bytes of a chain of clusters, until it ends or they are `most`. Clusters that follow one another are read at
    /// once. Where `most` are the `whole`, the chain has to end there.
    fn chain(&self, first: u32, most: u64, whole: bool) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for run in self.runs(first, most, whole)? {
            // A file in one piece may be longer than a read.
            for from in run.clone().step_by(1 << 24) {
                bytes.extend(self.window.read(from, (run.end - from).min(1 << 24))?);
            }
        }
        Ok(bytes)
    }

    /// Where the bytes of a chain of clusters lie, as [`Self::chain`] has them.
    fn runs(&self, first: u32, most: u64, whole: bool) -> Result<Vec<Range<u64>>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = first;
        let mut visited = 0_u64;
        loop {
            if at < 2 || at - 2 >= self.clusters {
                return match visited {
                    0 => Err(Error::new(format!("its first cluster is {at}, and there is none"))),
                    // The marks of an end lie above all clusters.
                    _ if at >= self.end() => Ok(runs),
                    _ => Err(Error::new(format!("its chain leads to cluster {at}, which is none"))),
                };
            }
            let start = self.data + u64::from(at - 2) * self.cluster;
            let end = start + self.cluster.min(most - visited * self.cluster);
            match runs.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => runs.push(start..end),
            }
            visited += 1;
            if visited * self.cluster >= most {
                return if whole && self.next(at)? < self.end() {
                    Err(Error::new(
                        "its clusters go on behind its end: they lead in a circle or to another file",
                    ))
                } else {
                    Ok(runs)
                };
            }
            // No chain is longer than all clusters; one that is leads in a circle.
            if visited > u64::from(self.clusters) {
                return Err(Error::new("its clusters lead in a circle"));
            }
            at = self.next(at)?;
        }
    }

    /// The bytes of which some change whenever a file does that was written to by way of this file system: what lies before
    /// the first cluster (boot sector, counts, tables), every folder, and small files whole, which firmware overwrites
    /// without a word in their folder. `None` where that is more than is worth reading.
    ///
    /// # Errors
    /// A file system that is not sound.
    pub(crate) fn telling(&self) -> Result<Option<Vec<Range<u64>>>> {
        if self.data > MOST_BEFORE || self.data > self.window.size() {
            return Ok(None);
        }
        let mut places = vec![Range { start: 0, end: self.data }];
        if let Root::Chain(first) = self.root {
            places.extend(self.runs(first, MOST_FOLDER, false)?);
        }
        let mut folders = vec![None];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for item in self.list(folder.as_ref())? {
                count += 1;
                if count > MOST_ITEMS {
                    return Ok(None);
                }
                if item.folder {
                    places.extend(self.runs(item.first, MOST_FOLDER, false)?);
                    folders.push(Some(item));
                } else if item.size > 0 && item.size <= SMALL_FILE {
                    places.extend(self.runs(item.first, item.size, true)?);
                }
            }
        }
        Ok(Some(places))
    }

    const fn end(&self) -> u32 {
        match self.bits {
            12 => 0xff8,
            16 => 0xfff8,
            _ => 0x0fff_fff8,
        }
    }

    /// The cluster behind `cluster`.
    fn next(&self, cluster: u32) -> Result<u32> {
        let cluster = u64::from(cluster);
        let byte = |at: u64| self.byte(at).map(u32::from);
        let pair = |at: u64| Ok::<_, Error>(byte(at)? | byte(at + 1)? << 8);
        match self.bits {
            12 => {
                let pair = pair(cluster + cluster / 2)?;
                Ok(if cluster & 1 == 0 { pair & 0xfff } else { pair >> 4 })
            }
            16 => pair(cluster * 2),
            _ => Ok((pair(cluster * 4)? | pair(cluster * 4 + 2)? << 16) & 0x0fff_ffff),
        }
    }

    /// A byte of the table.
    fn byte(&self, at: u64) -> Result<u8> {
        let number = at / PIECE;
        let mut piece = self.piece.borrow_mut();
        if piece.as_ref().is_none_or(|(there, _)| *there != number) {
            *piece = Some((number, self.window.up_to(self.table + number * PIECE, PIECE)?));
        }
        let bytes = piece.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        let byte = usize::try_from(at % PIECE).ok().and_then(|at| bytes.get(at));
        byte.copied().ok_or_else(|| Error::new("the file allocation table ends too early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fat32_with_large_sectors_is_one_as_linux_has_it() {
        let mut bytes = vec![0; 40 * 4096];
        bytes[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
        // Sectors of 4096 bytes, one to a cluster, one before the one table, 40 of them; the root in cluster 2.
        bytes[11..17].copy_from_slice(&[0, 0x10, 1, 1, 0, 1]);
        (bytes[32], bytes[36], bytes[44]) = (40, 1, 2);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[4096 + 8..4096 + 12].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
        bytes[8192..8203].copy_from_slice(b"VMLINUZ    ");
        let window = Window::of_memory(bytes.clone());
        let fat = Fat::open(&window).unwrap().unwrap();
        assert_eq!((fat.name().as_str(), fat.oddities().len()), ("FAT32", 2));
        assert_eq!(fat.list(None).unwrap()[0].name.to_ascii_lowercase(), "vmlinuz");
        // With a table's size of 16 bits it is FAT12.
        (bytes[22], bytes[36]) = (1, 0);
        assert_eq!(Fat::open(&Window::of_memory(bytes)).unwrap().unwrap().name(), "FAT12");
    }
}
