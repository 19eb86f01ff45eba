//! FAT32 file systems with the same bytes each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider, format_volume,
};

use super::mend::mend;
use super::sparse::{Pages, STAND_IN};
use super::{BLOCK, Fat32, FileSpec};
use crate::calendar::Utc;
use crate::error::{Error, Result, ResultExt};

const MIB: u64 = 1 << 20;
/// Below this many clusters a file system is FAT16 by definition (Microsoft's FAT specification, section 3.5).
const MIN_CLUSTERS: u64 = 65_525;
/// FAT32 holds files of up to this many bytes.
const MAX_FILE: u64 = u32::MAX as u64;
/// A file system ends where its 32-bit count of sectors does.
const MAX_SIZE: u64 = 1 << 41;
/// Largest cluster that every driver takes.
const MAX_CLUSTER: u64 = 32 << 10;
/// Sectors before the first FAT, as the crate lays them out.
const RESERVED: u64 = 8;

/// A clock that stands still.
#[derive(Debug)]
struct StoppedClock(DateTime);

impl TimeProvider for StoppedClock {
    fn get_current_date(&self) -> Date {
        self.0.date
    }
    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// Builds the file system of `size` bytes in memory.
pub(super) fn build(spec: &Fat32, size: u64, epoch: u64) -> Result<Pages> {
    let label = label(&spec.label)?;
    let sectors = u32::try_from(size / BLOCK).map_err(|_| Error::new("FAT32 ends at 2 TiB"))?;
    let cluster = cluster_size(size).ok_or_else(|| {
        Error::new(format!("{size} bytes are too few for FAT32, which needs at least 65525 clusters"))
            .help(format!("give the partition {} MiB or more", minimum() / MIB))
    })?;
    let files = sorted(&spec.files)?;
    let needed = clusters(files.iter().map(|(path, file)| (path.as_str(), file.data.len())), cluster);
    let available = available(size, cluster);
    if needed > available {
        return Err(Error::new(format!(
            "the files need {} MiB, the partition has room for {} MiB",
            (needed * cluster).div_ceil(MIB),
            available * cluster / MIB
        )));
    }
    let contents = files.values().map(|file| file.data.clone()).collect();
    let mut pages = Pages::new(u64::from(sectors) * BLOCK, contents);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(u32::try_from(cluster).unwrap_or(512))
        .total_sectors(sectors)
        .volume_id(spec.volume_id)
        .volume_label(label);
    let failed = || "cannot make the FAT32 file system";
    format_volume(&mut pages, options).context(failed)?;
    pages.seek(SeekFrom::Start(0)).context(failed)?;
    // The crate wants its clock to live for ever; a few bytes for each image do.
    let clock: &'static StoppedClock = Box::leak(Box::new(StoppedClock(date_time(epoch))));
    {
        let volume = FileSystem::new(&mut pages, FsOptions::new().time_provider(clock)).context(failed)?;
        let root = volume.root_dir();
        let mut made = BTreeSet::new();
        for (path, file) in &files {
            for (end, _) in path.match_indices('/') {
                let folder = path.get(..end).unwrap_or_default();
                if made.insert(folder.to_ascii_lowercase()) {
                    root.create_dir(folder).context(|| format!("cannot make the folder {folder}"))?;
                }
            }
            let mut handle = root.create_file(path).context(|| format!("cannot make the file {path}"))?;
            // These stand for the file's contents, which the disk takes when it is written out.
            let mut left = file.data.len();
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(STAND_IN.len()).min(STAND_IN.len());
                let stand_in = STAND_IN.get(..count).unwrap_or_default();
                handle.write_all(stand_in).context(|| format!("cannot write the file {path}"))?;
                left -= count as u64;
            }
            handle.flush().context(|| format!("cannot write the file {path}"))?;
        }
        drop(root);
        // Counts the free clusters, so that the information sector can say how many there are.
        volume.stats().context(failed)?;
        volume.unmount().context(failed)?;
    }
    check_unmounted(&mut pages)?;
    mend(&mut pages)?;
    Ok(pages)
}

/// The crate marks a file system as in use while it is open; one that stayed so would be repaired at each boot.
fn check_unmounted(pages: &mut Pages) -> Result<()> {
    let mut boot = [0; 512];
    pages
        .seek(SeekFrom::Start(0))
        .and_then(|_| pages.read_exact(&mut boot))
        .context(|| "cannot read the boot sector")?;
    if boot[65] & 1 != 0 {
        Err(Error::new("the FAT32 file system was left marked as in use"))
    } else {
        Ok(())
    }
}

/// The smallest FAT32 file system, in bytes and in whole MiB, that holds files of these paths and lengths and has
/// `slack` bytes left.
///
/// # Errors
/// When that is more than the 2 TiB that FAT32 can have.
pub fn fat32_size<'a>(files: impl Iterator<Item = (&'a str, u64)> + Clone, slack: u64) -> Result<u64> {
    let mut size = minimum();
    // Each round is larger than the last, so this ends.
    while size <= MAX_SIZE {
        // From the smallest size up there is always a cluster that fits.
        let cluster = cluster_size(size).unwrap_or(BLOCK);
        let needed = clusters(files.clone(), cluster).saturating_add(slack.div_ceil(cluster));
        let available = available(size, cluster);
        if needed <= available {
            return Ok(size);
        }
        let more = (needed - available).saturating_mul(cluster).div_ceil(MIB).max(1);
        size = size.saturating_add(more.saturating_mul(MIB));
    }
    Err(Error::new(format!("the files need more than the {} TiB that FAT32 can have", MAX_SIZE >> 40)))
}

/// The smallest FAT32 at all, in whole MiB.
fn minimum() -> u64 {
    ((MIN_CLUSTERS + 16) * (BLOCK + 8) + RESERVED * BLOCK).div_ceil(MIB) * MIB
}

/// The largest cluster that still makes a file system of `size` bytes FAT32: larger ones make the table smaller
/// and loading faster.
fn cluster_size(size: u64) -> Option<u64> {
    let mut cluster = MAX_CLUSTER;
    while cluster >= BLOCK {
        // Some drivers count clusters a little differently; 16 is the margin that the specification advises.
        if available(size, cluster) >= MIN_CLUSTERS + 16 {
            return Some(cluster);
        }
        cluster /= 2;
    }
    None
}

/// Clusters for data in a file system of `size` bytes, never more than there are.
fn available(size: u64, cluster: u64) -> u64 {
    // Each cluster takes its bytes and four more in each of two tables, which end on whole sectors.
    (size / BLOCK * BLOCK).saturating_sub((RESERVED + 4) * BLOCK) / (cluster + 8)
}

/// Clusters that the files and their folders take.
fn clusters<'a>(files: impl Iterator<Item = (&'a str, u64)>, cluster: u64) -> u64 {
    // A name takes one entry of 32 bytes, and one more for each 13 characters.
    let entries = |name: &str| 32 * (2 + name.len() as u64 / 13 + 1);
    let mut folders: BTreeMap<String, u64> = BTreeMap::from([(String::new(), 64)]);
    let mut total = 0;
    for (path, length) in files {
        total += length.div_ceil(cluster);
        let mut rest = path;
        loop {
            let (folder, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let new = !folder.is_empty() && !folders.contains_key(folder);
            *folders.entry(folder.to_owned()).or_insert(64) += entries(name);
            if !new {
                break;
            }
            rest = folder;
        }
    }
    total + folders.values().map(|bytes| bytes.div_ceil(cluster)).sum::<u64>()
}

/// The files by path; refuses what FAT would mix up or cannot name.
fn sorted(files: &[FileSpec]) -> Result<BTreeMap<String, &FileSpec>> {
    let mut sorted = BTreeMap::new();
    let mut spelled: BTreeMap<String, (&str, bool)> = BTreeMap::new();
    for file in files {
        let path = file.path.as_str();
        fat_name(path)?;
        if file.data.len() > MAX_FILE {
            return Err(Error::new(format!("{path} is {} bytes; FAT32 ends at 4 GiB", file.data.len())));
        }
        let ends = path.match_indices('/').map(|(end, _)| (end, true)).chain([(path.len(), false)]);
        for (end, folder) in ends {
            let part = path.get(..end).unwrap_or(path);
            // FAT does not tell `Boot` from `boot`.
            match spelled.insert(part.to_ascii_lowercase(), (part, folder)) {
                Some((other, was_folder)) if !(folder && was_folder && other == part) => {
                    return Err(Error::new(format!(
                        "`{other}` and `{part}` would be the same name on FAT32"
                    )));
                }
                _ => {}
            }
        }
        sorted.insert(path.to_owned(), file);
    }
    Ok(sorted)
}

/// Checks a path of a FAT32 file system: printable ASCII, no character that the format reserves, no part over
/// 255 characters.
///
/// # Errors
/// Names the path and what is wrong with it.
pub fn fat_name(path: &str) -> Result<()> {
    let bad =
        |why: &str| Err(Error::new(format!("`{}` cannot be a file on FAT32: {why}", path.escape_default())));
    if path.len() > 1024 {
        return bad("it is too long");
    }
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return bad("write it like `EFI/BOOT/BOOTAA64.EFI`");
        }
        if part.len() > 255 {
            return bad("a name has at most 255 characters");
        }
        if let Some(c) =
            part.chars().find(|&c| !(c == ' ' || c.is_ascii_graphic()) || "\"*:<>?\\|".contains(c))
        {
            return bad(&format!("it has {c:?}"));
        }
        if part.ends_with(['.', ' ']) || part.starts_with(' ') {
            return bad("a name does not end with a dot, or begin or end with a space");
        }
    }
    Ok(())
}

fn label(text: &str) -> Result<[u8; 11]> {
    let fine = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_- ".contains(c);
    if text.is_empty() || text.len() > 11 || text.starts_with(' ') || !text.chars().all(fine) {
        return Err(Error::new(format!(
            "`{}` is not a FAT32 label: at most 11 capital letters, digits, `_`, `-` and spaces",
            text.escape_default()
        )));
    }
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(label)
}

/// FAT's clock runs from 1980 to 2107, in UTC here.
fn date_time(epoch: u64) -> DateTime {
    const FIRST: u64 = 315_532_800; // 1980-01-01
    const LAST: u64 = 4_354_819_199; // 2107-12-31 23:59:59
    let Utc { year, month, day, hour, minute, second } = Utc::of(epoch.clamp(FIRST, LAST));
    DateTime { date: Date { year, month, day }, time: Time { hour, min: minute, sec: second, millis: 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Data;

    #[test]
    fn dates() {
        let date = |epoch| {
            let DateTime { date, time } = date_time(epoch);
            (date.year, date.month, date.day, time.hour, time.min, time.sec)
        };
        assert_eq!(date(0), (1980, 1, 1, 0, 0, 0));
        assert_eq!(date(951_782_399), (2000, 2, 28, 23, 59, 59));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(1_735_689_599), (2024, 12, 31, 23, 59, 59));
        assert_eq!(date(u64::MAX), (2107, 12, 31, 23, 59, 59));
    }

    #[test]
    fn clusters_keep_it_fat32() {
        assert_eq!(cluster_size(32 * MIB), None);
        assert_eq!(cluster_size(minimum()), Some(512));
        assert_eq!(cluster_size(128 * MIB), Some(1024));
        assert_eq!(cluster_size(1024 * MIB), Some(8192));
        assert!(minimum() <= 34 * MIB);
    }

    #[test]
    fn a_size_asked_for_is_a_size_that_fits() {
        for lengths in [vec![], vec![1], vec![200 * MIB], vec![40 * MIB + 1, 3, 0], vec![1; 5000]] {
            let names: Vec<String> =
                (0..lengths.len()).map(|n| format!("a/some long name {n}/file")).collect();
            let files = names.iter().map(String::as_str).zip(lengths.iter().copied());
            let size = fat32_size(files.clone(), 0).unwrap();
            let cluster = cluster_size(size).unwrap();
            assert!(clusters(files.clone(), cluster) <= available(size, cluster));
            assert_eq!(size % MIB, 0);
            if size > minimum() {
                let smaller = size - 8 * MIB;
                let cluster = cluster_size(smaller).unwrap_or(512);
                assert!(
                    clusters(files.clone(), cluster) > available(smaller, cluster),
                    "not far from the smallest"
                );
            }
            assert!(fat32_size(files.clone(), 50 * MIB).unwrap() >= 50 * MIB);
            assert!(fat32_size(files, u64::MAX).is_err());
        }
    }

    /// Old boot ROMs of TI's want it so (U-Boot, doc/README.omap3): capitals sort first, and files are written one by one.
    #[test]
    fn what_a_rom_reads_is_the_first_file_and_in_one_piece() {
        let file =
            |path: &str, length: usize| FileSpec { path: path.into(), data: vec![7_u8; length].into() };
        let files = vec![
            file("boot.scr", 900),
            file("vambrace/kernel", 70_000),
            file("u-boot.img", 610_264),
            file("MLO", 77_060),
        ];
        let spec = Fat32 { label: "VAMBRACE".into(), volume_id: 1, files };
        let mut pages = build(&spec, minimum(), 0).unwrap();
        let mut bytes = vec![0; 4 << 20];
        pages.seek(SeekFrom::Start(0)).unwrap();
        pages.read_exact(&mut bytes).unwrap();
        let number = |at: usize, size: usize| {
            bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        // Microsoft's FAT specification, sections 3.1, 4 and 6.
        let (cluster, fat) = (number(13, 1) * 512, number(14, 2) * 512);
        let data = fat + number(16, 1) * number(36, 4) * 512;
        let root = data + (number(44, 4) - 2) * cluster;
        // The label and pieces of long names are no files.
        let first = (root..).step_by(32).find(|at| bytes[at + 11] & 0x08 == 0).unwrap();
        assert_eq!(&bytes[first..first + 11], b"MLO        ");
        assert_eq!(number(first + 28, 4), 77_060);
        let start = number(first + 20, 2) << 16 | number(first + 26, 2);
        let last = start + 77_060_usize.div_ceil(cluster) - 1;
        for at in start..last {
            assert_eq!(number(fat + at * 4, 4), at + 1);
        }
        assert!(number(fat + last * 4, 4) >= 0x0fff_fff8);
    }

    #[test]
    fn names_that_fat_cannot_keep_apart_are_refused() {
        let spec = |paths: &[&str]| -> Vec<FileSpec> {
            paths.iter().map(|path| FileSpec { path: (*path).into(), data: Data::default() }).collect()
        };
        for paths in [&["a", "A"][..], &["a", "a"], &["a/b", "A/c"], &["a", "a/b"], &["a/b", "a"]] {
            assert!(sorted(&spec(paths)).is_err(), "{paths:?}");
        }
        assert!(sorted(&spec(&["a/b", "a/c", "b/c"])).is_ok());
        for path in ["", "/a", "a//b", "../a", "a:b", "a\n", "\u{e9}", "a.", &"x".repeat(256)] {
            assert!(fat_name(path).is_err(), "{path:?}");
        }
        assert!(label("boot").is_err() && label("TOO LONG A LABEL").is_err() && label("VAMBRACE").is_ok());
    }
}
