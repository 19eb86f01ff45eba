//! FAT32, by Microsoft's "FAT32 File System Specification" 1.03.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{read, u16_at, u32_at};
use crate::disk::Fat32;
use crate::error::{Error, Result, ResultExt};
use crate::tree::Data;

const END: u32 = 0x0fff_fff8;
const MASK: u32 = 0x0fff_ffff;
/// Bytes of an allocation table: that of 256 GiB in clusters of 16 KiB, with which nothing here is made.
const MOST_TABLE: u64 = 64 << 20;

/// Bytes of a folder: 65,536 entries, as the specification has it.
const MOST_FOLDER: u64 = 2 << 20;
/// Files and folders of a file system, and bytes of a path. Nothing here makes a hundredth of these.
const MOST_FILES: usize = 1 << 20;
const LONGEST: usize = 4096;

/// An opened file system; every cluster that a chain visits is struck off, so that nothing belongs to two files.
pub(crate) struct Volume<'a> {
    file: &'a File,
    boot: Vec<u8>,
    /// The boot sector's label.
    pub(crate) label: String,
    /// The serial number.
    pub(crate) id: u32,
    /// What the root folder has for a label.
    labels: Vec<Vec<u8>>,
    /// Byte of the boot sector in the image.
    start: u64,
    /// Byte of the first data cluster in the image.
    data: u64,
    cluster: u64,
    clusters: u32,
    table: Vec<u32>,
    seen: Vec<bool>,
}

/// One file or folder of a directory.
#[derive(Debug)]
pub(crate) struct Item {
    name: String,
    /// Whether it is a folder.
    pub(crate) folder: bool,
    first: u32,
    /// Its bytes.
    pub(crate) size: u32,
    /// Its attributes.
    pub(crate) attributes: u8,
    /// Date and time of the last change.
    pub(crate) written: (u16, u16),
    /// Date and time of its making.
    pub(crate) made: (u16, u16),
}

/// Checks the file system of `size` bytes at `start` against what it should be.
pub(super) fn check(file: &File, start: u64, size: u64, wanted: &Fat32) -> Result<()> {
    let (mut volume, root) = open(file, start, size)?;
    let label = format!("{:<11}", wanted.label);
    if volume.label != label || volume.id != wanted.volume_id {
        return Err(Error::new("the boot sector has another label or serial number"));
    }
    let mut files = volume.walk(root)?;
    files.retain(|_, item| !item.folder);
    if volume.labels != [label.as_bytes()] {
        return Err(Error::new("the root folder has another label"));
    }
    for asked in &wanted.files {
        let Some(item) = files.remove(&asked.path) else {
            return Err(Error::new(format!("the file {} is missing", asked.path)));
        };
        if u64::from(item.size) != asked.data.len() {
            return Err(Error::new(format!(
                "the file {} has {} bytes instead of {}",
                asked.path,
                item.size,
                asked.data.len()
            )));
        }
        volume
            .compare(&item, &asked.data)
            .map_err(|error| error.context(format!("the file {} differs", asked.path)))?;
    }
    if let Some((path, _)) = files.first_key_value() {
        return Err(Error::new(format!("there is a file too many: {path}")));
    }
    let lost = (2..volume.clusters + 2).find(|cluster| {
        volume.seen.get(*cluster as usize) == Some(&false)
            && volume.table.get(*cluster as usize).is_some_and(|&next| next != 0)
    });
    match lost {
        Some(cluster) => Err(Error::new(format!("cluster {cluster} is taken and belongs to no file"))),
        None => volume.check_free(start),
    }
}

/// Opens the file system of `size` bytes at `start`, and gives the first cluster of its root folder as well.
pub(crate) fn open(file: &File, start: u64, size: u64) -> Result<(Volume<'_>, u32)> {
    let boot = read(file, start, 512)?;
    let boot = boot.as_slice();
    let wrong = |what: &str| Error::new(format!("the boot sector has {what}"));
    if u16_at(boot, 510)? != 0xaa55 || u16_at(boot, 11)? != 512 {
        return Err(wrong("no signature, or sectors of another size"));
    }
    let per_cluster = boot.get(13).copied().unwrap_or(0);
    let (reserved, tables) = (u64::from(u16_at(boot, 14)?), u64::from(boot.get(16).copied().unwrap_or(0)));
    let (sectors, per_table) = (u64::from(u32_at(boot, 32)?), u64::from(u32_at(boot, 36)?));
    if !per_cluster.is_power_of_two() || reserved < 8 || tables != 2 || per_table == 0 {
        return Err(wrong("an impossible geometry"));
    }
    if u16_at(boot, 17)? != 0 || u16_at(boot, 22)? != 0 {
        return Err(wrong("FAT16's fields"));
    }
    if sectors * 512 > size {
        return Err(wrong("more sectors than the partition"));
    }
    let meta = reserved + tables * per_table;
    let clusters =
        sectors.checked_sub(meta).ok_or_else(|| wrong("an impossible geometry"))? / u64::from(per_cluster);
    let clusters = u32::try_from(clusters).map_err(|_| wrong("an impossible geometry"))?;
    if clusters < 65_525 {
        return Err(wrong(&format!("{clusters} clusters: that is not FAT32")));
    }
    if u64::from(clusters) + 2 > per_table * 128 {
        return Err(wrong("a table that is too short for its clusters"));
    }
    if per_table > MOST_TABLE / 512 {
        return Err(wrong("a table that is too long to be read"));
    }
    if boot.get(65) != Some(&0) {
        return Err(wrong("the mark of a file system in use"));
    }
    let backup = u64::from(u16_at(boot, 50)?);
    if backup == 0 || backup >= reserved || read(file, start + backup * 512, 512)? != boot {
        return Err(Error::new("the backup boot sector differs"));
    }
    let bytes = usize::try_from(per_table * 512).map_err(|_| wrong("an impossible geometry"))?;
    let first = read(file, start + reserved * 512, bytes)?;
    if first != read(file, start + (reserved + per_table) * 512, bytes)? {
        return Err(Error::new("the two file allocation tables differ"));
    }
    let table: Vec<u32> =
        first.chunks_exact(4).map(|entry| entry.try_into().map_or(0, u32::from_le_bytes) & MASK).collect();
    if table.first().is_none_or(|&entry| entry & 0xff != 0xf8) {
        return Err(Error::new("the file allocation table has no media byte"));
    }
    let data = start + meta * 512;
    let cluster = u64::from(per_cluster) * 512;
    Ok((
        Volume {
            file,
            boot: boot.to_vec(),
            label: String::from_utf8_lossy(boot.get(71..82).unwrap_or_default()).into_owned(),
            id: u32_at(boot, 67)?,
            labels: Vec::new(),
            start,
            data,
            cluster,
            clusters,
            table,
            seen: vec![false; clusters as usize + 2],
        },
        u32_at(boot, 44)? & MASK,
    ))
}

impl Volume<'_> {
    /// All files and folders by path, from the root folder on, whose first cluster `root` is. It can be done once: what
    /// was seen belongs to somebody.
    pub(crate) fn walk(&mut self, root: u32) -> Result<BTreeMap<String, Item>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![(String::new(), root, 0)];
        while let Some((path, first, parent)) = folders.pop() {
            for item in self.directory(first, (!path.is_empty()).then_some(parent))? {
                let full = if path.is_empty() { item.name.clone() } else { format!("{path}/{}", item.name) };
                if full.len() > LONGEST || all.len() >= MOST_FILES {
                    return Err(Error::new("it has too many files, or folders in folders"));
                }
                if item.folder {
                    // The root is cluster 0 to its own folders, whatever its number.
                    folders.push((full.clone(), item.first, if path.is_empty() { 0 } else { first }));
                }
                if all.insert(full.clone(), item).is_some() {
                    return Err(Error::new(format!("the file {full} is there twice")));
                }
            }
        }
        Ok(all)
    }

    /// Where the file's clusters lie in the image, first byte and bytes of each run. It can be done once for each file.
    pub(crate) fn extents(&mut self, item: &Item) -> Result<Vec<(u64, u64)>> {
        if item.size == 0 && item.first == 0 {
            return Ok(Vec::new());
        }
        let chain = self.chain(item.first)?;
        if chain.len() as u64 != u64::from(item.size).div_ceil(self.cluster) {
            return Err(Error::new(format!("it has {} clusters", chain.len())));
        }
        // Clusters that follow one another are one run: a file of a fresh file system is one piece.
        let runs = chain.chunk_by(|a, b| a + 1 == *b);
        Ok(runs
            .map(|run| (self.offset(run.first().copied().unwrap_or(2)), run.len() as u64 * self.cluster))
            .collect())
    }

    /// What is in use, as ranges of the image's bytes: boot sectors, tables, and every cluster that is taken.
    pub(crate) fn used(&self) -> Vec<Range<u64>> {
        let structures = self.start..self.data;
        let mut used = vec![structures];
        let taken = |cluster: &u32| self.table.get(*cluster as usize).is_some_and(|&next| next != 0);
        for cluster in (2..self.clusters + 2).filter(taken) {
            let start = self.offset(cluster);
            match used.last_mut() {
                Some(last) if last.end == start => last.end += self.cluster,
                _ => used.push(start..start + self.cluster),
            }
        }
        used
    }

    /// The clusters of the chain that begins with `first`.
    fn chain(&mut self, first: u32) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut at = first;
        loop {
            if at < 2 || at >= self.clusters + 2 {
                return Err(Error::new(format!("a chain leads to cluster {at}, which is none")));
            }
            // The bounds were checked above: there is a mark for each cluster.
            let seen = self.seen.get_mut(at as usize).is_none_or(|seen| std::mem::replace(seen, true));
            if seen {
                return Err(Error::new(format!("cluster {at} belongs to two chains")));
            }
            chain.push(at);
            at = self.table.get(at as usize).copied().unwrap_or(0);
            if at >= END {
                return Ok(chain);
            }
        }
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster - 2) * self.cluster
    }

    /// Reads a folder; all but the root have a parent, and begin with links to themselves and to it.
    fn directory(&mut self, first: u32, parent: Option<u32>) -> Result<Vec<Item>> {
        let mut bytes = Vec::new();
        let chain = self.chain(first)?;
        if chain.len() as u64 * self.cluster > MOST_FOLDER {
            return Err(Error::new("a folder is larger than any can be"));
        }
        for cluster in chain {
            bytes.extend(read(self.file, self.offset(cluster), usize::try_from(self.cluster).unwrap_or(0))?);
        }
        let links = [(b".          ", first), (b"..         ", parent.unwrap_or(0))];
        let linked = links.iter().zip(bytes.chunks_exact(32)).all(|((name, cluster), entry)| {
            entry.get(..11) == Some(&name[..])
                && entry.get(11) == Some(&0x10)
                && first_cluster(entry).ok() == Some(*cluster)
        });
        if parent.is_some() && !linked {
            return Err(Error::new("a folder does not begin with links to itself and its parent"));
        }
        let mut items = Vec::new();
        let skipped = if parent.is_some() { 64 } else { 0 };
        for entry in entries(bytes.get(skipped..).unwrap_or_default())? {
            if entry.attributes & 0x08 != 0 {
                self.labels.push(entry.short);
                continue;
            }
            items.push(Item {
                name: entry.name?,
                folder: entry.attributes & 0x10 != 0,
                first: entry.first,
                size: entry.size,
                attributes: entry.attributes,
                written: entry.written,
                made: entry.made,
            });
        }
        Ok(items)
    }

    fn compare(&mut self, item: &Item, data: &Data) -> Result<()> {
        if data.is_empty() {
            return if item.first == 0 { Ok(()) } else { Err(Error::new("an empty file has clusters")) };
        }
        let (mut at, mut buffer) = (0_u64, vec![0; super::PIECE]);
        for (start, length) in self.extents(item)? {
            let end = at.saturating_add(length).min(data.len());
            let (mut reader, mut place) = (data.range(at..end), start);
            loop {
                let count = reader.read(&mut buffer).context(|| "cannot read what it is made from")?;
                let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
                super::same(self.file, place, piece)?;
                place += count as u64;
            }
            at = end;
        }
        Ok(())
    }

    /// The count of free clusters that the information sector claims, if it claims one.
    fn check_free(&self, start: u64) -> Result<()> {
        let mut info = [0; 512];
        let at = start + u64::from(u16_at(&self.boot, 48)?) * 512;
        self.file.read_exact_at(&mut info, at).context(|| "cannot read the information sector")?;
        if u32_at(&info, 0)? != 0x4161_5252 || u32_at(&info, 484)? != 0x6141_7272 {
            return Err(Error::new("the information sector has no signature"));
        }
        let claimed = u32_at(&info, 488)?;
        let free = self.clusters - u32::try_from(self.seen.iter().filter(|&&seen| seen).count()).unwrap_or(0);
        if claimed != u32::MAX && claimed != free {
            return Err(Error::new(format!(
                "the information sector claims {claimed} free clusters; {free} are"
            )));
        }
        Ok(())
    }
}

/// An entry of a folder that is in use, of any size of FAT.
pub(crate) struct Entry {
    /// The long name, or the short one where there is no other; an error where a long one does not belong to it.
    pub(crate) name: Result<String>,
    /// The 11 bytes of the short name.
    pub(crate) short: Vec<u8>,
    /// Bit 3 marks the volume's label, bit 4 a folder.
    pub(crate) attributes: u8,
    /// The first cluster as FAT32 has it; FAT12 and FAT16 have the low half alone.
    pub(crate) first: u32,
    /// Bytes of the file.
    pub(crate) size: u32,
    /// Date and time of the last change.
    pub(crate) written: (u16, u16),
    /// Date and time of its making.
    pub(crate) made: (u16, u16),
}

/// The entries in the bytes of a folder, up to the mark of its end.
pub(crate) fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    let mut long: Vec<(u8, u8, Vec<u16>)> = Vec::new();
    for entry in bytes.chunks_exact(32) {
        let (head, attributes) = (entry.first().copied().unwrap_or(0), entry.get(11).copied().unwrap_or(0));
        match head {
            0 => break,
            0xe5 => continue,
            _ => {}
        }
        if attributes & 0x3f == 0x0f {
            let unit = |offset: &usize| u16_at(entry, *offset);
            let units = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
                .iter()
                .map(unit)
                .collect::<Result<Vec<_>>>()?;
            long.push((head, entry.get(13).copied().unwrap_or(0), units));
            continue;
        }
        let parts = std::mem::take(&mut long);
        let short = entry.get(..11).unwrap_or_default();
        let name = if parts.is_empty() || attributes & 0x08 != 0 {
            Ok(short_name(short, entry.get(12).copied().unwrap_or(0)))
        } else {
            long_name(&parts, short)
        };
        all.push(Entry {
            name,
            short: short.to_vec(),
            attributes,
            first: first_cluster(entry)?,
            size: u32_at(entry, 28)?,
            written: (u16_at(entry, 24)?, u16_at(entry, 22)?),
            made: (u16_at(entry, 16)?, u16_at(entry, 14)?),
        });
    }
    Ok(all)
}

fn first_cluster(entry: &[u8]) -> Result<u32> {
    Ok(u32::from(u16_at(entry, 20)?) << 16 | u32::from(u16_at(entry, 26)?))
}

/// Bits 3 and 4 of the reserved byte: name and extension in small letters.
pub(crate) fn short_name(short: &[u8], case: u8) -> String {
    let text = |bytes: &[u8], small: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if small { text.to_ascii_lowercase() } else { text }
    };
    let name = text(short.get(..8).unwrap_or_default(), case & 8 != 0);
    let extension = text(short.get(8..11).unwrap_or_default(), case & 16 != 0);
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}

/// Puts the entries before a short name together; they come last part first, each with the short name's checksum.
fn long_name(parts: &[(u8, u8, Vec<u16>)], short: &[u8]) -> Result<String> {
    let sum = short.iter().fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
    // 255 characters, 13 in each.
    if parts.len() > 20 {
        return Err(Error::new("a name is longer than 255 characters"));
    }
    let mut units = Vec::new();
    for (place, (order, checksum, part)) in (1_u8..).zip(parts.iter().rev()) {
        let last = usize::from(place) == parts.len();
        if *checksum != sum || *order != place | if last { 0x40 } else { 0 } {
            return Err(Error::new("a long name does not belong to its short one"));
        }
        units.extend(part);
    }
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    String::from_utf16(units.get(..end).unwrap_or_default())
        .map_err(|_| Error::new("a long name is not UTF-16"))
}
