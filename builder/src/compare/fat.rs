//! FAT32 file systems.

use super::Difference;
use super::files::{Files, Paths, difference as files_difference};
use crate::error::Result;
use crate::verify::fat::{Item, Volume, open};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// The first difference of the file systems at two places, given by first byte and size. One that cannot be read differs
/// from one that can; of two that cannot, nothing is said.
pub(super) fn difference(a: &File, at: (u64, u64), b: &File, other: (u64, u64)) -> Option<Difference> {
    let read = |file, (start, size)| Fat::open(file, start, size);
    let compared = match (read(a, at), read(b, other)) {
        (Ok(a), Ok(b)) => files_difference(&a, &b),
        (Err(_), Err(_)) => return None,
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error.context("one of them cannot be read")),
    };
    compared.unwrap_or_else(|error| Some(Difference::new("the FAT32 file system", error.in_a_line())))
}

struct Fat<'a> {
    file: &'a File,
    itself: [(&'static str, String); 2],
    paths: Paths,
    /// Where the bytes of each file lie: first byte and length.
    extents: BTreeMap<String, Vec<(u64, u64)>>,
}

impl<'a> Fat<'a> {
    fn open(file: &'a File, start: u64, size: u64) -> Result<Self> {
        let (mut volume, root) = open(file, start, size)?;
        let itself = [
            ("its label", format!("`{}`", volume.label.escape_debug())),
            ("its serial number", format!("{:08x}", volume.id)),
        ];
        let (mut paths, mut extents) = (Paths::default(), BTreeMap::new());
        for (path, item) in volume.walk(root)? {
            let facts = vec![
                ("its kind", if item.folder { "a folder" } else { "a file" }.to_owned()),
                ("its size", super::bytes(u64::from(item.size))),
                ("its attributes", format!("{:#04x}", item.attributes)),
                ("its time", time(&item)),
            ];
            if !item.folder {
                extents.insert(path.clone(), bytes_of(&mut volume, &item)?);
            }
            paths.add(path, facts)?;
        }
        Ok(Self { file, itself, paths, extents })
    }
}

/// Where the file's bytes lie; the last cluster is not full.
fn bytes_of(volume: &mut Volume<'_>, item: &Item) -> Result<Vec<(u64, u64)>> {
    let mut left = u64::from(item.size);
    let mut extents = volume.extents(item)?;
    for (_, length) in &mut extents {
        *length = (*length).min(left);
        left -= *length;
    }
    Ok(extents)
}

/// When it was written and made: the fields of a directory entry as they are.
fn time(item: &Item) -> String {
    let [written, made] = [item.written, item.made].map(|(date, time)| {
        let (year, month, day) = (1980 + (date >> 9), date >> 5 & 15, date & 31);
        let (hour, minute, second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
        format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    });
    format!("{written} (made {made})")
}

impl Files for Fat<'_> {
    fn itself(&self) -> super::files::Facts {
        self.itself.to_vec()
    }

    fn paths(&self) -> &Paths {
        &self.paths
    }

    fn open<'b>(&'b self, path: &str) -> Result<Option<Box<dyn Read + 'b>>> {
        let Some(extents) = self.extents.get(path) else { return Ok(None) };
        Ok(Some(Box::new(Pieces { file: self.file, left: extents.iter().copied().collect() })))
    }
}

/// Bytes that lie in several places of a file, one behind the other.
struct Pieces<'a> {
    file: &'a File,
    left: VecDeque<(u64, u64)>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while let Some((start, length)) = self.left.front_mut() {
            let count = usize::try_from(*length).unwrap_or(usize::MAX).min(into.len());
            if count == 0 && *length == 0 {
                self.left.pop_front();
                continue;
            }
            let read = self.file.read_at(into.get_mut(..count).unwrap_or_default(), *start)?;
            *start += read as u64;
            *length -= read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}
