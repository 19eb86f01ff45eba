//! FAT32, by Microsoft's "FAT32 File System Specification" 1.03.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{read, u16_at, u32_at};
use crate::disk::Fat32;
use crate::error::{Error, Result, ResultExt};

const END: u32 = 0x0fff_fff8;
const MASK: u32 = 0x0fff_ffff;

/// An opened file system; every cluster that a chain visits is struck off, so that nothing belongs to two files.
struct Volume<'a> {
    file: &'a File,
    /// Byte of the first data cluster in the image.
    data: u64,
    cluster: u64,
    clusters: u32,
    table: Vec<u32>,
    seen: Vec<bool>,
}

/// One file or folder of a directory.
struct Item {
    name: String,
    folder: bool,
    first: u32,
    size: u32,
}

/// Checks the file system of `size` bytes at `start` against what it should be.
pub(super) fn check(file: &File, start: u64, size: u64, wanted: &Fat32) -> Result<()> {
    let boot = read(file, start, 512)?;
    let (mut volume, root) = open(file, start, size, &boot)?;
    let label = format!("{:<11}", wanted.label);
    if boot.get(71..82) != Some(label.as_bytes()) || u32_at(&boot, 67)? != wanted.volume_id {
        return Err(Error::new("the boot sector has another label or serial number"));
    }
    let mut files = BTreeMap::new();
    let mut labels = Vec::new();
    let mut folders = vec![(String::new(), root, 0)];
    while let Some((path, first, parent)) = folders.pop() {
        let items = volume.directory(first, (!path.is_empty()).then_some(parent), &mut labels)?;
        for item in items {
            let full = if path.is_empty() { item.name.clone() } else { format!("{path}/{}", item.name) };
            if item.folder {
                // The root is cluster 0 to its own folders, whatever its number.
                folders.push((full, item.first, if path.is_empty() { 0 } else { first }));
            } else if files.insert(full.clone(), item).is_some() {
                return Err(Error::new(format!("the file {full} is there twice")));
            }
        }
    }
    if labels != [label.as_bytes()] {
        return Err(Error::new("the root folder has another label"));
    }
    for asked in &wanted.files {
        let Some(item) = files.remove(&asked.path) else {
            return Err(Error::new(format!("the file {} is missing", asked.path)));
        };
        if u64::from(item.size) != asked.data.len() as u64 {
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
        None => volume.check_free(start, &boot),
    }
}

fn open<'a>(file: &'a File, start: u64, size: u64, boot: &[u8]) -> Result<(Volume<'a>, u32)> {
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
        Volume { file, data, cluster, clusters, table, seen: vec![false; clusters as usize + 2] },
        u32_at(boot, 44)? & MASK,
    ))
}

impl Volume<'_> {
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
    fn directory(&mut self, first: u32, parent: Option<u32>, labels: &mut Vec<Vec<u8>>) -> Result<Vec<Item>> {
        let mut bytes = Vec::new();
        for cluster in self.chain(first)? {
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
                labels.push(entry.short);
                continue;
            }
            let folder = entry.attributes & 0x10 != 0;
            items.push(Item { name: entry.name?, folder, first: entry.first, size: entry.size });
        }
        Ok(items)
    }

    fn compare(&mut self, item: &Item, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return if item.first == 0 { Ok(()) } else { Err(Error::new("an empty file has clusters")) };
        }
        let chain = self.chain(item.first)?;
        let cluster = usize::try_from(self.cluster).unwrap_or(1);
        if chain.len() != data.len().div_ceil(cluster) {
            return Err(Error::new(format!("it has {} clusters", chain.len())));
        }
        let mut at = 0;
        // Clusters that follow one another are read at once: a file of a fresh file system is one piece.
        for run in chain.chunk_by(|a, b| a + 1 == *b) {
            let Some(&first) = run.first() else { continue };
            let length = (run.len() * cluster).min(data.len() - at);
            super::same(self.file, self.offset(first), data.get(at..at + length).unwrap_or_default())?;
            at += length;
        }
        Ok(())
    }

    /// The count of free clusters that the information sector claims, if it claims one.
    fn check_free(&self, start: u64, boot: &[u8]) -> Result<()> {
        let mut info = [0; 512];
        let at = start + u64::from(u16_at(boot, 48)?) * 512;
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
        let (first, size) = (first_cluster(entry)?, u32_at(entry, 28)?);
        all.push(Entry { name, short: short.to_vec(), attributes, first, size });
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
