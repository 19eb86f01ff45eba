//! What two images differ in: size, partition table, file systems by path, and every other byte.
//!
//! Both may be anybody's. Nothing is read whole but tables; file systems are read by the code that reads finished images back.

mod ext4;
mod fat;
mod files;
mod table;

use crate::error::{Result, ResultExt};
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use table::Partition;

/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;

/// The first difference of one structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The structure, or the file and what holds it.
    pub place: String,
    /// What differs.
    pub what: String,
}

impl Difference {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }

    /// One that is about a value.
    fn of(place: impl Into<String>, field: &str, first: &str, second: &str) -> Self {
        Self::new(place, format!("{field} is {first}, and {second} in the other"))
    }

    fn within(self, place: &str) -> Self {
        Self { place: format!("{place}, {}", self.place), ..self }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A range of bytes with a name, as a plan has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Region {
    /// What lies there.
    pub what: String,
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub size: u64,
}

/// Compares two images. `regions` are names for what lies outside of partitions. Of each structure the first difference
/// is given, those of tables first, then in the order of the medium; nothing where the images are the same.
///
/// # Errors
///
/// An image that cannot be read. One that makes no sense is no error, but a difference.
pub fn compare(first: &Path, second: &Path, regions: &[Region]) -> Result<Vec<Difference>> {
    let (a, b) = (crate::image::open(first)?, crate::image::open(second)?);
    let length = |file: &File, path: &Path| {
        file.metadata().context_at(path, || "cannot look at the image").map(|meta| meta.len())
    };
    let (size_a, size_b) = (length(&a, first)?, length(&b, second)?);
    let mut found = Vec::new();
    if size_a != size_b {
        found.push(Difference::of("the image", "its size", &bytes(size_a), &bytes(size_b)));
    }
    let (table_a, table_b) = (table::read(&a), table::read(&b));
    let (partitions_a, partitions_b) = match (table_a, table_b) {
        (Ok(a), Ok(b)) => {
            found.extend(a.difference(&b));
            (a.partitions, b.partitions)
        }
        (a, b) => {
            let said = [&a, &b].map(|read| match read {
                Ok(_) => "sound".to_owned(),
                Err(error) => error.in_a_line(),
            });
            let [said_a, said_b] = &said;
            if said_a != said_b {
                found.push(Difference::of("the partition table", "it", said_a, said_b));
            }
            (Vec::new(), Vec::new())
        }
    };
    let mut rest = vec![(0, size_a.min(size_b))];
    for (pa, pb) in partitions_a.iter().zip(&partitions_b) {
        if let Some(difference) = partition(&a, pa, &b, pb)? {
            found.push(difference.within(&pa.what()));
        }
        if (pa.start, pa.size) == (pb.start, pb.size) {
            rest = without(rest, pa.start, pa.size);
        }
    }
    // Where something has moved, every byte behind it differs, and says nothing new.
    if size_a == size_b && partitions_a.len() == partitions_b.len() {
        outside(&a, &b, rest, regions, &mut found)?;
    }
    Ok(found)
}

/// Adds the first differences in `ranges`, one for each region that they lie in.
fn outside(
    a: &File,
    b: &File,
    ranges: Vec<(u64, u64)>,
    regions: &[Region],
    found: &mut Vec<Difference>,
) -> Result<()> {
    let mut said: Vec<String> = Vec::new();
    for (start, end) in ranges {
        let mut at = start;
        while let Some(place) = first_difference((a, at), (b, at), end - at)?.map(|offset| at + offset) {
            let region =
                regions.iter().find(|region| region.start <= place && place - region.start < region.size);
            let (what, next) = match region {
                Some(region) => (region.what.clone(), region.start.saturating_add(region.size)),
                None => {
                    let next = regions.iter().map(|region| region.start).filter(|&start| start > place);
                    ("outside of every partition".to_owned(), next.min().unwrap_or(end))
                }
            };
            if !said.contains(&what) {
                found.push(Difference::new(
                    what.clone(),
                    format!("the first byte that differs is {}", byte(place)),
                ));
                said.push(what);
            }
            at = next.clamp(place + 1, end);
            if at >= end {
                break;
            }
        }
    }
    Ok(())
}

/// The first difference of two partitions: in their file systems where both have the same, else in their bytes.
fn partition(a: &File, pa: &Partition, b: &File, pb: &Partition) -> Result<Option<Difference>> {
    if pa.size == pb.size && first_difference((a, pa.start), (b, pb.start), pa.size)?.is_none() {
        return Ok(None);
    }
    content(a, (pa.start, pa.size), b, (pb.start, pb.size))
}

/// The same of two places, given by their first byte and their size, that are known to differ.
fn content(
    a: &File,
    (start_a, size_a): (u64, u64),
    b: &File,
    (start_b, size_b): (u64, u64),
) -> Result<Option<Difference>> {
    let (kind_a, kind_b) = (Kind::of(a, start_a, size_a), Kind::of(b, start_b, size_b));
    if kind_a != kind_b {
        return Ok(Some(Difference::of("its content", "it", kind_a.name(), kind_b.name())));
    }
    let difference = match kind_a {
        Kind::Fat32 => fat::difference(a, (start_a, size_a), b, (start_b, size_b)),
        Kind::Ext4 => ext4::difference(a, (start_a, size_a), b, (start_b, size_b)),
        Kind::Lvm => volumes(a, (start_a, size_a), b, (start_b, size_b))?,
        Kind::Other => None,
    };
    if difference.is_some() {
        return Ok(difference);
    }
    let Some(offset) = first_difference((a, start_a), (b, start_b), size_a.min(size_b))? else {
        return Ok(None);
    };
    let place = match kind_a {
        Kind::Ext4 => ext4::structure_at(a, (start_a, size_a), offset),
        Kind::Fat32 | Kind::Lvm | Kind::Other => kind_a.name().to_owned(),
    };
    let what = format!("the first byte that differs is {} of the image", byte(start_a + offset));
    Ok(Some(Difference::new(place, what)))
}

/// The first difference of two volume groups: in the first volume that differs, where both can be read.
fn volumes(a: &File, at: (u64, u64), b: &File, other: (u64, u64)) -> Result<Option<Difference>> {
    let read = |file: &File, (start, size): (u64, u64)| crate::verify::volumes(file, start, size);
    let (volumes_a, volumes_b) = match (read(a, at), read(b, other)) {
        (Ok(volumes_a), Ok(volumes_b)) => (volumes_a, volumes_b),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => {
            return Ok(Some(Difference::new(
                "its volume group",
                format!("one of them cannot be read: {}", error.in_a_line()),
            )));
        }
        (Err(_), Err(_)) => return Ok(None),
    };
    for (va, vb) in volumes_a.iter().zip(&volumes_b) {
        if va != vb {
            break;
        }
        let place = (at.0 + va.start, va.size);
        let beside = (other.0 + vb.start, vb.size);
        if first_difference((a, place.0), (b, beside.0), va.size)?.is_some()
            && let Some(difference) = content(a, place, b, beside)?
        {
            return Ok(Some(difference.within(&format!("volume `{}`", va.name.escape_default()))));
        }
    }
    Ok(None)
}

/// What is in a partition, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat32,
    Ext4,
    Lvm,
    Other,
}

impl Kind {
    fn of(file: &File, start: u64, size: u64) -> Self {
        let has = |offset: u64, magic: &[u8]| {
            let mut there = vec![0; magic.len()];
            offset + 512 <= size && file.read_exact_at(&mut there, start + offset).is_ok() && there == magic
        };
        if has(82, b"FAT32   ") {
            Self::Fat32
        } else if has(0x438, &[0x53, 0xef]) {
            Self::Ext4
        } else if has(512, b"LABELONE") {
            Self::Lvm
        } else {
            Self::Other
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Fat32 => "the FAT32 file system",
            Self::Ext4 => "the ext4 file system",
            Self::Lvm => "the volume group",
            Self::Other => "the bytes in it",
        }
    }
}

/// Where the first of `size` bytes from two places on differs, counted from these; one that ends earlier differs there.
fn first_difference(a: (&File, u64), b: (&File, u64), size: u64) -> Result<Option<u64>> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < size {
        let count = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let x = read_at(a.0, a.1 + at, left.get_mut(..count).unwrap_or_default())?;
        let y = read_at(b.0, b.1 + at, right.get_mut(..count).unwrap_or_default())?;
        let (left, right) = (left.get(..x).unwrap_or_default(), right.get(..y).unwrap_or_default());
        if left != right {
            let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if x < count {
            return Ok(None);
        }
        at += count as u64;
    }
    Ok(None)
}

/// Reads as much as there is, up to `into`'s length.
fn read_at(file: &File, at: u64, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let failed = || format!("cannot read the image at {}", byte(at));
        match file.read_at(rest, at + done as u64).context(failed)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// `ranges` without the `size` bytes from `start` on.
fn without(ranges: Vec<(u64, u64)>, start: u64, size: u64) -> Vec<(u64, u64)> {
    let end = start.saturating_add(size);
    let cut = |(from, to): (u64, u64)| [(from, to.min(start)), (from.max(end), to)];
    ranges.into_iter().flat_map(cut).filter(|(from, to)| from < to).collect()
}

fn byte(at: u64) -> String {
    format!("byte {at:#x}")
}

fn bytes(size: u64) -> String {
    format!("{size} bytes")
}

#[cfg(test)]
mod tests;
